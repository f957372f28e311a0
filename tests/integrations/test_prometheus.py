"""The metrics of calls and runs, as prometheus_client exposes them, over a real socket too."""

import asyncio
import contextlib
import importlib
import math
import sys
import urllib.request
from collections.abc import Callable, Coroutine, Iterator
from threading import Thread
from typing import Any

import pytest
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, generate_latest, start_http_server
from prometheus_client.parser import text_string_to_metric_families

from aiosupervise import (
    AttemptStarted,
    Budget,
    Event,
    Overload,
    RetryAfter,
    RunFinished,
    RunPaused,
    RunResumed,
    RunStarted,
    Tally,
    listen,
    run_all,
    supervise,
)
from aiosupervise.integrations.prometheus import Metrics

Call = Callable[[], Coroutine[Any, Any, Any]]


@pytest.fixture
def registry() -> CollectorRegistry:
    """A registry of the test's own."""
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> Iterator[Metrics]:
    """Everything is counted in it."""
    metrics = Metrics(registry)
    with listen(metrics):
        yield metrics


@pytest.fixture
def value(registry: CollectorRegistry, metrics: Metrics) -> Callable[..., float | None]:  # noqa: ARG001 - it counts
    """The value of one of our samples."""
    return lambda name, **labels: registry.get_sample_value(f"aiosupervise_{name}", labels)


Value = Callable[..., float | None]


def failing(*errors: BaseException, name: str = "fetch") -> Call:
    """A supervised function that raises these in turn, then succeeds; a ConnectionError is worth a second try."""
    left = list(errors)

    @supervise(retry_on=ConnectionError, irrecoverable=PermissionError, max_retries=2, backoff=[0], name=name)
    async def fetch() -> None:
        if left:
            raise left.pop(0)

    return fetch


async def ended(call: Call) -> None:
    """The call has ended, in whatever way."""
    with contextlib.suppress(Exception, asyncio.CancelledError):
        await call()


# Calls


@pytest.mark.parametrize(
    ("errors", "outcome", "attempts", "reason"),
    [
        ([], "succeeded", 1, None),
        ([ConnectionError(), ConnectionError()], "recovered", 3, None),
        ([ConnectionError(), ConnectionError(), ConnectionError()], "failed", 3, "exhausted"),
        ([PermissionError()], "failed", 1, "irrecoverable"),
        ([RetryAfter(1000)], "failed", 1, "retry_after_too_long"),
        ([KeyError()], "failed", 1, None),
        ([ConnectionError(), asyncio.CancelledError()], "cancelled", 2, None),
    ],
    ids=["succeeded", "recovered", "exhausted", "irrecoverable", "too long", "not listed", "cancelled"],
)
async def test_a_call_is_counted(
    value: Value, errors: list[BaseException], outcome: str, attempts: int, reason: str | None
) -> None:
    """By its outcome, its attempts and retries, and why it gave up; all other counts of its name are 0."""
    await ended(failing(*errors))
    for possible in ("succeeded", "recovered", "failed", "cancelled"):
        assert value("calls_total", call="fetch", outcome=possible) == (possible == outcome)
    for possible in ("exhausted", "irrecoverable", "deadline", "budget", "retry_after_too_long"):
        assert value("give_ups_total", call="fetch", reason=possible) == (possible == reason)
    assert value("attempts_total", call="fetch") == attempts
    assert value("retries_total", call="fetch") == attempts - 1


async def test_calls_of_one_name_add_up(value: Value) -> None:
    """Each name has its own counters, and all calls of that name count there."""
    for _ in range(3):
        await ended(failing(ConnectionError(), name="one"))
    await ended(failing(name="two"))
    assert value("attempts_total", call="one") == 6
    assert value("calls_total", call="one", outcome="recovered") == 3
    assert value("attempts_total", call="two") == 1


# Runs


async def test_the_jobs_of_a_run_are_counted(value: Value) -> None:
    """By outcome; the run's duration is observed once, and its gauges are 0 when it has ended."""

    async def hang() -> None:
        await asyncio.Event().wait()

    jobs = [failing(), failing(), failing(KeyError()), hang]
    await run_all(jobs, strategy="wait", return_when="FIRST_EXCEPTION", limit=4, name="batch")
    assert value("jobs_total", run="batch", outcome="succeeded") == 2
    assert value("jobs_total", run="batch", outcome="failed") == 1
    assert value("jobs_total", run="batch", outcome="pending") == 1
    assert value("run_duration_seconds_count", run="batch") == 1
    for gauge in ("runs", "runs_paused", "jobs_running", "jobs_limit"):
        assert value(gauge, run="batch") == 0


async def test_the_gauges_add_up_the_runs_of_a_name(value: Value) -> None:
    """They show the runs as they are at the moment of the scrape, and need no event for that."""
    release = asyncio.Event()
    seen = []

    async def look() -> None:
        await asyncio.sleep(0)
        seen.append([value(name, run="batch") for name in ("runs", "runs_paused", "jobs_running", "jobs_limit")])
        release.set()

    async with asyncio.TaskGroup() as group:
        for limit in (3, 5):
            group.create_task(_finished([release.wait] * 4, limit))
        group.create_task(look())
        group.create_task(_finished([release.wait], None, name="other"))
    assert seen == [[2, 0, 7, 8]]
    assert value("runs", run="other") == 0


async def _finished(jobs: list[Call], limit: int | None, name: str = "batch") -> None:
    await run_all(jobs, limit=limit, name=name)


async def test_a_run_without_a_limit(value: Value) -> None:
    """Its limit is +Inf, which is a number to Prometheus."""
    seen = []

    async def look() -> None:
        seen.append(value("jobs_limit", run="batch"))

    await _finished([look], None)
    assert seen == [math.inf]


@pytest.mark.looptime
async def test_a_pause_shows(value: Value) -> None:
    """While the run pauses it is among the paused ones, then no more; the pauses are counted."""
    seen = []

    def look(event: Event) -> None:
        if isinstance(event, RunPaused | RunResumed):
            seen.append((value("runs_paused", run="batch"), value("pauses_total", run="batch")))

    empty = Budget(capacity=500)
    while empty.take(throttled=False) is not None:
        pass
    with listen(look):
        await run_all([failing(ConnectionError())], overload=Overload(budget=empty), name="batch")
    assert seen == [(1, 1), (0, 1)]


async def test_a_run_that_began_before(registry: CollectorRegistry) -> None:
    """A run that was under way when the listener was added is counted from then on, and released as any other."""
    metrics = Metrics(registry)
    release = asyncio.Event()
    troubles: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: troubles.append(context))
    async with asyncio.TaskGroup() as group:
        run = group.create_task(_finished([release.wait], 1))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        with listen(metrics):
            release.set()
            await run
    assert registry.get_sample_value("aiosupervise_jobs_total", {"run": "batch", "outcome": "succeeded"}) == 1
    assert registry.get_sample_value("aiosupervise_runs", {"run": "batch"}) == 0
    assert troubles == []


async def test_a_listener_for_one_run(registry: CollectorRegistry) -> None:
    """A run's own listener counts the run and the calls in its jobs, and no others."""
    await run_all([failing(), failing()], name="batch", listen=Metrics(registry))
    await ended(failing(name="elsewhere"))
    assert registry.get_sample_value("aiosupervise_jobs_total", {"run": "batch", "outcome": "succeeded"}) == 2
    assert registry.get_sample_value("aiosupervise_attempts_total", {"call": "fetch"}) == 2
    assert registry.get_sample_value("aiosupervise_attempts_total", {"call": "elsewhere"}) is None


def test_everything_that_a_scrape_iterates_over_is_changed_with_the_lock(registry: CollectorRegistry) -> None:
    """A scrape in another thread never meets a dict that changes its size."""

    class Lock:
        is_held = False

        def __enter__(self) -> None:
            self.is_held = True

        def __exit__(self, *_: object) -> None:
            self.is_held = False

    class Guarded(dict[Any, Any]):
        def __getattribute__(self, name: str) -> Any:
            assert name == "get" or lock.is_held
            return super().__getattribute__(name)

        def __setitem__(self, key: Any, value: Any) -> None:
            assert lock.is_held
            super().__setitem__(key, value)

    metrics = Metrics(registry)
    lock, tally = Lock(), Tally(1, 1)
    metrics._lock = lock  # type: ignore[assignment]  # it has all that is used of one
    metrics._runs = Guarded()
    metrics(RunStarted(7, "batch", tally))
    metrics._runs.get("batch").in_progress = Guarded()  # type: ignore[union-attr]  # it is there
    metrics(RunPaused(7, "batch", tally, 1.0, "the retry budget is empty"))
    assert registry.get_sample_value("aiosupervise_runs_paused", {"run": "batch"}) == 1
    metrics(RunFinished(7, "batch", tally, 1.0))
    assert registry.get_sample_value("aiosupervise_runs", {"run": "batch"}) == 0


# The exposition


def scrape(registry: CollectorRegistry) -> str:
    """What Prometheus gets, over HTTP."""
    server, thread = start_http_server(0, "127.0.0.1", registry)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics") as response:
            text: str = response.read().decode()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    return text


@pytest.mark.slow
async def test_a_real_scrape(registry: CollectorRegistry, metrics: Metrics) -> None:  # noqa: ARG001 - it counts
    """What comes over HTTP in the middle of a run can be read by Prometheus' own rules, and says what happens."""
    texts = []

    async def look() -> None:
        texts.append(await asyncio.to_thread(scrape, registry))

    await run_all([failing(ConnectionError("a secret")), failing(PermissionError()), look], limit=1, name="batch")
    samples = {
        (sample.name, *(label for _, label in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(texts[0])
        for sample in family.samples
    }
    assert samples["aiosupervise_attempts_total", "fetch"] == 3
    assert samples["aiosupervise_retries_total", "fetch"] == 1
    assert samples["aiosupervise_give_ups_total", "fetch", "irrecoverable"] == 1
    assert samples["aiosupervise_jobs_total", "succeeded", "batch"] == 1
    assert samples["aiosupervise_runs", "batch"] == 1
    assert samples["aiosupervise_jobs_running", "batch"] == 1
    assert samples["aiosupervise_jobs_limit", "batch"] == 1
    assert "secret" not in texts[0]


def test_the_help_of_each_metric(registry: CollectorRegistry, metrics: Metrics) -> None:
    """The text and the type of each metric are those that a dashboard shows."""
    metrics(AttemptStarted(1, "fetch", None, None, 1))
    metrics(RunStarted(1, "batch", Tally(1, 1)))
    assert {(family.name, family.type, family.documentation) for family in registry.collect()} == {
        ("aiosupervise_calls", "counter", "Finished supervised calls, by outcome"),
        ("aiosupervise_attempts", "counter", "Attempts started by supervised calls"),
        ("aiosupervise_retries", "counter", "Attempts after the first of a supervised call"),
        ("aiosupervise_give_ups", "counter", "Supervised calls that gave up, by reason"),
        ("aiosupervise_jobs", "counter", "Jobs of runs, by outcome"),
        ("aiosupervise_pauses", "counter", "Pauses of runs, including the one after each failed probe"),
        ("aiosupervise_run_duration_seconds", "summary", "Duration of finished runs"),
        ("aiosupervise_runs", "gauge", "Runs in progress"),
        (
            "aiosupervise_runs_paused",
            "gauge",
            "Runs in progress that are paused, because of their service or at its request",
        ),
        ("aiosupervise_jobs_running", "gauge", "Running jobs"),
        ("aiosupervise_jobs_limit", "gauge", "Concurrency limit of the runs in progress, +Inf for no limit"),
    }


def test_the_labels_are_few(registry: CollectorRegistry) -> None:
    """However many calls, jobs and runs there are, the exposition is as long as it was."""
    metrics = Metrics(registry)

    async def runs(number: int) -> None:
        for _ in range(number):
            await run_all([failing(ConnectionError(str(index))) for index in range(3)], name="batch")

    with listen(metrics):
        asyncio.run(runs(1))
        before = len(generate_latest(registry).splitlines())
        asyncio.run(runs(10))
    assert len(generate_latest(registry).splitlines()) == before
    names = {name for metric in registry.collect() for sample in metric.samples for name in sample.labels}
    assert names == {"call", "run", "outcome", "reason"}
    assert [len(counters.in_progress) for counters in metrics._runs.values()] == [0]


def test_names_after_the_first_hundred_are_counted_together(registry: CollectorRegistry) -> None:
    """So names that are made from URLs or ids cannot grow without bound; runs among them leave the gauges too."""
    metrics, tally = Metrics(registry), Tally(1, 1)
    for number in range(150):
        metrics(AttemptStarted(number, f"call {number}", None, None, 1))
        metrics(RunStarted(number, f"run {number}", tally))
    before = len(generate_latest(registry).splitlines())
    assert registry.get_sample_value("aiosupervise_runs", {"run": "other"}) == 50
    for number in range(1000):
        metrics(AttemptStarted(number, f"call {number}", None, None, 2))
        metrics(RunFinished(number, f"run {number}", tally, 1.0))
    assert len(generate_latest(registry).splitlines()) == before
    for label in ("call", "run"):
        samples = [sample for metric in registry.collect() for sample in metric.samples]
        found = {sample.labels[label] for sample in samples if label in sample.labels}
        assert found == {"other", *(f"{label} {number}" for number in range(100))}
    assert registry.get_sample_value("aiosupervise_attempts_total", {"call": "call 99"}) == 2
    assert registry.get_sample_value("aiosupervise_attempts_total", {"call": "other"}) == 50 + 900
    assert registry.get_sample_value("aiosupervise_run_duration_seconds_count", {"run": "other"}) == 900
    assert registry.get_sample_value("aiosupervise_runs", {"run": "other"}) == 0


def test_a_name_that_another_thread_adds_meanwhile_keeps_its_counters(registry: CollectorRegistry) -> None:
    """Though it is the hundredth, its events are not split between its own counters and those of the other names."""
    metrics = Metrics(registry)
    for number in range(99):
        metrics(AttemptStarted(number, f"call {number}", None, None, 1))
    lock = metrics._lock

    class Contended:
        def __enter__(self) -> None:
            metrics._lock = lock
            metrics(AttemptStarted(99, "call 99", None, None, 1))

        def __exit__(self, *_: object) -> None: ...

    metrics._lock = Contended()  # type: ignore[assignment]  # it has all that is used of one
    metrics(AttemptStarted(100, "call 99", None, None, 1))
    assert registry.get_sample_value("aiosupervise_attempts_total", {"call": "call 99"}) == 2


def test_loops_in_several_threads(value: Value, registry: CollectorRegistry) -> None:
    """One listener counts for them all, while somebody scrapes, and loses none."""

    async def runs() -> None:
        for number in range(20):
            await run_all([failing(ConnectionError()) for _ in range(5)], name=f"batch {number}")

    threads = [Thread(target=asyncio.run, args=(runs(),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        generate_latest(registry)
    for thread in threads:
        thread.join()
    assert value("attempts_total", call="fetch") == 3 * 20 * 5 * 2
    assert [value("run_duration_seconds_count", run=f"batch {number}") for number in range(20)] == [3] * 20
    assert [value("runs", run=f"batch {number}") for number in range(20)] == [0] * 20


# The registry


def test_two_in_one_registry(registry: CollectorRegistry) -> None:
    """The second is refused, with an error that names the repair."""
    Metrics(registry)
    with pytest.raises(ValueError, match="the registry already has") as caught:
        Metrics(registry)
    assert str(caught.value) == (
        "the registry already has metrics of these names: create one Metrics per registry, "
        "and let it listen to everything: listen(Metrics())"
    )


@pytest.mark.parametrize(
    "theirs", [Counter("aiosupervise_jobs_total", "", registry=None), Gauge("aiosupervise_runs", "", registry=None)]
)
def test_a_name_that_is_taken(registry: CollectorRegistry, theirs: Counter | Gauge) -> None:
    """Where the registry has one of the names, nothing of ours is registered, so that it can be tried again."""
    registry.register(theirs)
    with pytest.raises(ValueError, match="metrics of these names"):
        Metrics(registry)
    registry.unregister(theirs)
    Metrics(registry)


def test_it_can_be_taken_out(registry: CollectorRegistry) -> None:
    """`unregister` frees the names for another one."""
    registry.unregister(Metrics(registry))
    assert generate_latest(registry) == b""
    Metrics(registry)


def test_the_default_is_the_global_registry() -> None:
    """Metrics() is part of what `start_http_server(port)` shows."""
    metrics = Metrics()
    try:
        metrics(AttemptStarted(1, "fetch", None, None, 1))
        assert REGISTRY.get_sample_value("aiosupervise_attempts_total", {"call": "fetch"}) == 1
    finally:
        REGISTRY.unregister(metrics)


def test_import_without_prometheus_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is not installed, the import error gives the command that installs it."""
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.delitem(sys.modules, "aiosupervise.integrations.prometheus")
    with pytest.raises(ImportError, match=r'needs prometheus_client: pip install "aiosupervise\[prometheus\]"$'):
        importlib.import_module("aiosupervise.integrations.prometheus")
