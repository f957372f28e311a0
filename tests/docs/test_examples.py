"""The README and the documentation are true: their code runs, and the reference leaves nothing out."""

import asyncio
import contextlib
import io
import logging
import re
from collections.abc import Coroutine, Iterator
from pathlib import Path
from types import ModuleType

import looptime
import pytest
from prometheus_client import REGISTRY
from sybil import Example, Sybil
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import CodeBlockParser

import aiosupervise
import aiosupervise.engines
import aiosupervise.testing
from aiosupervise._events.listeners import listeners
from aiosupervise.integrations import aiohttp, dask, http, opentelemetry, prometheus, rich

PUBLIC = (
    aiosupervise,
    aiosupervise.engines,
    aiosupervise.testing,
    aiohttp,
    dask,
    http,
    opentelemetry,
    prometheus,
    rich,
)
ROOT = Path(__file__).parents[2]
SLOW = ("README.md", "docs/tutorial.md", "docs/how-to/bars.md")  # their code waits for real seconds
# Those that a page may configure, as uvicorn's.
LOGGERS = ("aiosupervise", "aiosupervise.call", "aiosupervise.run", "uvicorn", "uvicorn.error", "uvicorn.access")
PAGES = ["README.md", *sorted(page.relative_to(ROOT).as_posix() for page in (ROOT / "docs").rglob("*.md"))]
# What waits for something outside of the loop, and so for real seconds.
REAL = re.compile(
    "aiohttp|anthropic|asyncpg|dask|fastapi|flaky_site|httpx|niquests|openai|redis|start_server|thread|tqdm|rich",
    re.IGNORECASE,
)


@contextlib.contextmanager
def virtual_time(block: str) -> Iterator[None]:
    """Make asyncio.run take no time, so that the output of a block does not depend on the speed of the machine."""

    def run(main: Coroutine[object, None, object]) -> object:
        with asyncio.Runner(loop_factory=looptime.new_event_loop) as runner:
            return runner.run(main)

    with pytest.MonkeyPatch.context() as patch:
        if not REAL.search(block):
            patch.setattr(asyncio, "run", run)
        yield


@contextlib.contextmanager
def not_for_good() -> Iterator[None]:
    """Let go of the listeners that a block has left, as the end of its program would have done."""
    before = listeners.global_listeners
    try:
        yield
    finally:
        for listener in listeners.global_listeners[len(before) :]:
            listeners.remove(listener)
            if isinstance(listener, prometheus.Metrics):
                REGISTRY.unregister(listener)


@contextlib.contextmanager
def own_logging() -> Iterator[None]:
    """Run a block as in a process of its own, whose logging is not configured yet, and undo what it configures."""
    loggers = [logging.getLogger(name) for name in (None, *LOGGERS)]
    before = [(logger, logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    logging.getLogger().handlers[:] = []
    try:
        yield
    finally:
        for logger, handlers, level, propagate in before:
            logger.handlers[:], logger.propagate = handlers, propagate
            logger.setLevel(level)


class Runner:
    """Runs each block of a page by itself, so that a reader can copy any one of them, and keeps what it printed."""

    def __init__(self) -> None:
        self.ran = 0
        self.printed = ""
        self._run = PythonEvaluator()

    def run(self, example: Example) -> None:
        """Run a `python` block with nothing left over from the block before."""
        example.namespace.clear()
        with contextlib.ExitStack() as stack:
            printed = stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
            for surroundings in (own_logging(), not_for_good(), virtual_time(example.parsed)):
                stack.enter_context(surroundings)
            self._run(example)
        self.ran += 1
        self.printed = printed.getvalue()

    def compare(self, example: Example) -> None:
        """Compare an `output` block with what the block before it printed."""
        assert self.printed.strip() == example.parsed.strip()


# A page imports third-party clients, and importing them would take twice as long under the tracer.
@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("page", [pytest.param(page, marks=[pytest.mark.slow] * (page in SLOW)) for page in PAGES])
def test_the_code_on_a_page_runs_and_prints_what_the_page_says(page: str) -> None:
    """Each Python block of a page can be copied and run by itself, and prints the output that is shown below it."""
    runner = Runner()
    sybil = Sybil([CodeBlockParser("python", runner.run), CodeBlockParser("output", runner.compare)])
    for example in sybil.parse(ROOT / page).examples():
        example.evaluate()
    blocks = re.findall(r"^\s*(?:```|~~~) *\{?(?:code-block\} +)?py", (ROOT / page).read_text("utf-8"), re.MULTILINE)
    assert runner.ran == len(blocks), "a block is written so that it is not run"


@pytest.mark.parametrize(("module", "name"), [(module, name) for module in PUBLIC for name in module.__all__])
def test_the_reference_has_every_public_name(module: ModuleType, name: str) -> None:
    """What can be imported from aiosupervise, its integrations or its testing kit has an entry of its own."""
    reference = (ROOT / "docs/reference/api.md").read_text("utf-8")
    assert re.search(rf"^\.\. (auto\w+|py:type):: {module.__name__}\.{name}(\(|$)", reference, re.MULTILINE)


def test_the_formula_of_the_backoff_is_the_same_everywhere() -> None:
    """The page on retrying and the docstring of Backoff state the same formula."""
    stated = re.search(r"`(uniform\(.*\))`", aiosupervise.Backoff.__doc__ or "")
    assert stated
    assert f"\n{stated[1]}\n" in (ROOT / "docs/reference/retrying.md").read_text("utf-8")
