"""Shared by all tests: their environment, their time limits, how thorough a run is, and what it counted."""

import asyncio
import faulthandler
import gc
import logging
import os
import signal
import site
import sys
import threading
import time
from collections import Counter
from collections.abc import Generator, Iterator
from typing import Any, TextIO

import hypothesis
import pytest
from pytest_timeout import is_debugging

# The watchdog's own, which no test replaces.
_now, _sleep = time.monotonic, time.sleep

# Seconds that a test may take: one marked slow, and any of a thorough run. pyproject has the limit of the others.
SLOW, THOROUGH = 180.0, 3600.0

# Programs and libraries read these, whose values differ from one machine to the next.
ENVIRONMENT = {"TERM": "xterm", "COLUMNS": "80", "LINES": "24", "TZ": "UTC", "LC_ALL": "C.UTF-8", "PYTHONUTF8": "1"}
UNSET = ("NO_COLOR", "FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "COLORTERM", "PYTHON_COLORS", "PYTHONASYNCIODEBUG")
UNSET_PREFIXES = ("TTY_", "TQDM_", "OTEL_", "DASK_", "PROMETHEUS_")
PROXIES = ("http_proxy", "https_proxy", "all_proxy")

COUNTS: pytest.StashKey["Counter[str]"] = pytest.StashKey()
STDERR: pytest.StashKey[TextIO] = pytest.StashKey()
WATCHDOG: pytest.StashKey["_Watchdog"] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Offer the whole of what an ordinary run does a part of; the nox sessions that take minutes ask for it."""
    parser.addoption("--thorough", action="store_true", help="sweep every pair of steps, 10,000 examples, big runs")


def pytest_configure(config: pytest.Config) -> None:
    """Say that there is no current loop: looptime asks for one before each test, and asking alone would warn."""
    asyncio.set_event_loop(None)
    config.stash[COUNTS] = Counter()
    config.stash[STDERR] = os.fdopen(os.dup(2), "w")  # captured by no test, and seen from pytest-xdist's workers too
    config.stash[WATCHDOG] = _Watchdog()
    if sys.gettrace() is not None:
        config.pluginmanager.register(_Tracing())
    # An ordinary run tries the same examples each time, so that it fails only for who changed something.
    hypothesis.settings.register_profile("ordinary", derandomize=True, deadline=None)
    hypothesis.settings.register_profile("thorough", max_examples=10_000, deadline=None)
    hypothesis.settings.load_profile("thorough" if config.getoption("--thorough") else "ordinary")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give some tests a longer limit, unless the limits are switched off, as by mutmut, or set by hand."""
    if float(config.getini("timeout") or 0) == 0 or config.getoption("timeout") is not None:
        return
    thorough = config.getoption("--thorough")
    for item in items:
        if thorough or item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.timeout(THOROUGH if thorough else SLOW))


def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> bool:
    """Watch over a test, in place of pytest-timeout's own timers.

    The one that raises in the main thread cannot end a loop that swallows errors, and takes SIGALRM from
    tests/mutation/hang.py. The one in a thread writes to a terminal that pytest-xdist's workers do not have.
    """
    item.config.stash[WATCHDOG].watch(item, settings.timeout)
    return True


def pytest_timeout_cancel_timer(item: pytest.Item) -> bool:
    """Stop watching over a test."""
    item.config.stash[WATCHDOG].release()
    return True


class _Watchdog:
    """Looks once a second whether a test has taken too long.

    One thread does so for all tests: starting and ending one for each would take 2 ms.
    """

    def __init__(self) -> None:
        self._watched: tuple[pytest.Item, float, float] | None = None
        self._thread: threading.Thread | None = None

    def watch(self, item: pytest.Item, seconds: float) -> None:
        """Begin to watch over a test."""
        self._watched = item, seconds, _now() + seconds
        if self._thread is None:
            self._thread = threading.Thread(target=self._look, name="watchdog", daemon=True)
            self._thread.start()

    def release(self) -> None:
        """Stop watching."""
        self._watched = None

    def _look(self) -> None:
        while True:
            _sleep(1.0)
            watched = self._watched
            if watched is not None and _now() > watched[2]:
                self._watched = None
                _give_up(watched[0], watched[1])


def _give_up(item: pytest.Item, seconds: float) -> None:
    """Print the name of the test, the stacks of all threads and of all asyncio tasks, and end the process."""
    if is_debugging():
        return
    stderr = item.config.stash[STDERR]
    try:
        print(f"\n{item.nodeid} has taken more than {seconds:g} s.", file=stderr, flush=True)
        faulthandler.dump_traceback(stderr)
        for task in [thing for thing in gc.get_objects() if isinstance(thing, asyncio.Task) and not thing.done()]:
            task.print_stack(file=stderr)
    finally:
        stderr.flush()
        os._exit(1)


@pytest.fixture(scope="session", autouse=True)
def known_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Give every test, and every process that a test starts, the same environment on every machine."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name in UNSET or name.startswith(UNSET_PREFIXES) or name.lower() in PROXIES:
                patch.delenv(name)
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        patch.setenv("PYTHONUSERBASE", site.getuserbase())  # below HOME, where packages may be installed
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        _read_time_zone()
        # A shell starts a command in the background with SIGINT ignored, and its processes inherit that.
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        yield
    _read_time_zone()


def _read_time_zone() -> None:
    """Make the time module read TZ again, on platforms where it can."""
    if hasattr(time, "tzset"):
        time.tzset()


@pytest.fixture(scope="module", autouse=True)
def young_heap() -> None:
    """Spare the garbage collector what is there already, so that each of the many looks for cycles is quick."""
    gc.collect()
    gc.freeze()


class _FailedCallbacks(logging.Handler):
    """Keeps what the event loop logs about callbacks that raised; a timer that fails raises nowhere else."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.msg.startswith("Exception in callback"):
            self.messages.append(self.format(record))


@pytest.fixture(autouse=True)
def no_failed_callback() -> Iterator[None]:
    """Fail a test in which a callback of the event loop raised."""
    handler = _FailedCallbacks()
    logging.getLogger("asyncio").addHandler(handler)
    yield
    logging.getLogger("asyncio").removeHandler(handler)
    assert handler.messages == []


class _Tracing:
    """Traces only the imports and the tests, not pytest and the fixtures, because tracing slows down every line.

    Up to Python 3.13, `coverage` measures branches with a trace function. The function would also be called in the
    controller process of pytest-xdist, where there is nothing to measure.
    """

    def __init__(self) -> None:
        self._tracer = sys.gettrace()

    def pytest_sessionstart(self) -> None:
        """Stop tracing: the conftest files have been imported."""
        sys.settrace(None)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_make_collect_report(self) -> Generator[None, Any, Any]:
        """Trace the import of a test module, which is the first step of this hook."""
        sys.settrace(self._tracer)
        try:
            return (yield)
        finally:
            sys.settrace(None)

    @pytest.hookimpl(tryfirst=True)
    def pytest_pycollect_makeitem(self) -> None:
        """Stop tracing: the module has been imported."""
        sys.settrace(None)

    @pytest.hookimpl(wrapper=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> Generator[None, Any, Any]:
        """Trace a test, unless it uses the fixture `untraced`."""
        if "untraced" not in pyfuncitem.fixturenames:
            sys.settrace(self._tracer)
        try:
            return (yield)
        finally:
            sys.settrace(None)

    def pytest_unconfigure(self) -> None:
        """Restore the trace function of the process."""
        sys.settrace(self._tracer)


@pytest.fixture
def untraced() -> None:
    """Spare a test the tracer of `coverage`, which would take two thirds of its time.

    For tests that do the same many times: each line of the library is left to a test of its own.
    """


@pytest.fixture
def garbage() -> Iterator[list[object]]:
    """Yield a list of the objects that only the garbage collector could free at the end of the test."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield gc.garbage
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
        gc.collect()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print what was counted, for the page that describes how the project is tested."""
    for what, count in sorted(config.stash[COUNTS].items()):
        terminalreporter.write_line(f"counted: {what}: {count:,}")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Close what pytest_configure has opened."""
    config.stash[STDERR].close()


@pytest.fixture(scope="session")
def thorough(pytestconfig: pytest.Config) -> bool:
    """Return whether this run was requested to be thorough."""
    return bool(pytestconfig.getoption("--thorough"))


@pytest.fixture(scope="session")
def counts(pytestconfig: pytest.Config) -> "Counter[str]":
    """Return the counters of the tests, which are printed at the end of the run."""
    return pytestconfig.stash[COUNTS]
