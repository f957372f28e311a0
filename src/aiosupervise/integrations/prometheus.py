"""Metrics of calls and runs for Prometheus, through prometheus_client.

Install with `pip install "aiosupervise[prometheus]"`.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, final

from aiosupervise import (
    AttemptStarted,
    CallFinished,
    Event,
    Failure,
    GaveUp,
    JobFinished,
    Outcome,
    Reason,
    RunFinished,
    RunPaused,
    RunResumed,
    RunStarted,
    Success,
    Tally,
)

try:
    from prometheus_client import REGISTRY, CollectorRegistry, Counter, Metric, Summary
    from prometheus_client.core import GaugeMetricFamily
except ImportError as _error:
    raise ImportError(
        'aiosupervise.integrations.prometheus needs prometheus_client: pip install "aiosupervise[prometheus]"'
    ) from _error

__all__ = ["Metrics"]

_GAUGES: Final = (
    ("aiosupervise_runs", "Runs that go on now"),
    ("aiosupervise_runs_paused", "Runs that pause now, because the service behind them is in trouble"),
    ("aiosupervise_jobs_running", "Jobs that run now"),
    ("aiosupervise_jobs_limit", "Jobs that may run at once, +Inf for no limit"),
)


class _Counters:
    """The counters that all names share."""

    def __init__(self) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"aiosupervise_{name}", text, labels, registry=None)

        self.calls = counter("calls_total", "Supervised calls that have ended", "call", "outcome")
        self.attempts = counter("attempts_total", "Attempts that supervised calls have begun", "call")
        self.retries = counter("retries_total", "Attempts after the first one of a supervised call", "call")
        self.give_ups = counter("give_ups_total", "Supervised calls that gave up", "call", "reason")
        self.jobs = counter("jobs_total", "Jobs that have an outcome", "run", "outcome")
        self.pauses = counter("pauses_total", "Pauses of runs", "run")
        self.durations = Summary(
            "aiosupervise_run_duration_seconds", "Seconds from the start of a run to its end", ["run"], registry=None
        )

    def families(self) -> tuple[Counter | Summary, ...]:
        """Return all of them, in the order in which they are shown."""
        return self.calls, self.attempts, self.retries, self.give_ups, self.jobs, self.pauses, self.durations


class _OfCall:
    """The counters of one name of calls. They begin at 0, so that Prometheus sees the first rise."""

    def __init__(self, counters: _Counters, name: str) -> None:
        self.attempts = counters.attempts.labels(name)
        self.retries = counters.retries.labels(name)
        self.give_ups = {reason: counters.give_ups.labels(name, reason.name.lower()) for reason in Reason}
        self.succeeded, self.recovered, self.failed, self.cancelled = (
            counters.calls.labels(name, outcome) for outcome in ("succeeded", "recovered", "failed", "cancelled")
        )

    def finished(self, event: CallFinished) -> Counter:
        """Return the counter of an end."""
        if event.error is None:
            return self.succeeded if event.attempts == 1 else self.recovered
        return self.failed if isinstance(event.error, Exception) else self.cancelled


class _OfRun:
    """The counters of one name of runs, and those of its runs that go on."""

    def __init__(self, counters: _Counters, name: str) -> None:
        self.runs: dict[int, tuple[Tally, bool]] = {}  # and whether it is paused
        self.pauses = counters.pauses.labels(name)
        self.durations = counters.durations.labels(name)
        self.succeeded, self.failed, self.pending = (
            counters.jobs.labels(name, outcome) for outcome in ("succeeded", "failed", "pending")
        )

    def finished(self, outcome: Outcome[object, object]) -> Counter:
        """Return the counter of a job's outcome."""
        if isinstance(outcome, Success):
            return self.succeeded
        return self.failed if isinstance(outcome, Failure) else self.pending

    def gauges(self) -> tuple[float, float, float, float]:
        """Add up the runs as they are now, in the order of _GAUGES."""
        runs = list(self.runs.values())
        paused = sum(is_paused for _, is_paused in runs)
        running = sum(tally.running for tally, _ in runs)
        limit = sum(math.inf if tally.limit is None else tally.limit for tally, _ in runs)
        return len(runs), paused, running, limit


@final
class Metrics:
    """A listener that counts for Prometheus: `listen(Metrics())`.

    Counters: `aiosupervise_calls_total` by outcome (succeeded, recovered, failed, cancelled),
    `aiosupervise_attempts_total`, `aiosupervise_retries_total`, `aiosupervise_give_ups_total` by reason,
    `aiosupervise_jobs_total` by outcome (succeeded, failed, pending), `aiosupervise_pauses_total`; and the summary
    `aiosupervise_run_duration_seconds`. Gauges, which are read from the runs at each scrape: `aiosupervise_runs`,
    `aiosupervise_runs_paused`, `aiosupervise_jobs_running`, `aiosupervise_jobs_limit`.

    The label `call` or `run` has the name of the call or run, and nothing else is a label: no argument and no error.
    Runs of the same name add up. `registry.unregister(metrics)` takes it out of its registry.

    Args:
        registry: where the metrics are registered.

    Raises:
        ValueError: if the registry has metrics of these names, such as those of another `Metrics`.

    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._counters = _Counters()
        self._calls: dict[str, _OfCall] = {}
        self._runs: dict[str, _OfRun] = {}
        self._lock = threading.Lock()  # loops of several threads add to the dicts, and the scrape reads them
        try:
            registry.register(self)
        except ValueError as error:
            raise ValueError(
                "the registry has metrics of these names already: make one Metrics for each registry, "
                "and let it listen to everything: listen(Metrics())"
            ) from error

    def __call__(self, event: Event) -> None:
        """Hear of an event."""
        match event:
            case AttemptStarted():
                calls = self._calls_named(event.name)
                calls.attempts.inc()
                if event.attempt > 1:
                    calls.retries.inc()
            case CallFinished():
                self._calls_named(event.name).finished(event).inc()
            case GaveUp():
                self._calls_named(event.name).give_ups[event.reason].inc()
            case RunStarted() | RunPaused() | RunResumed() | JobFinished() | RunFinished():
                self._of_run(event)
            case _:
                pass

    def _of_run(self, event: RunStarted | RunPaused | RunResumed | JobFinished | RunFinished) -> None:
        runs = self._runs_named(event.name)
        match event:
            case JobFinished():
                runs.finished(event.outcome).inc()
            case RunPaused():
                runs.pauses.inc()
                self._note(runs, event, is_paused=True)
            case RunFinished():
                runs.durations.observe(event.elapsed)
                with self._lock:
                    runs.runs.pop(event.run, None)
            case _:
                self._note(runs, event, is_paused=False)

    def _note(self, runs: _OfRun, event: RunStarted | RunPaused | RunResumed, *, is_paused: bool) -> None:
        with self._lock:
            runs.runs[event.run] = event.tally, is_paused

    def _calls_named(self, name: str) -> _OfCall:
        calls = self._calls.get(name)
        if calls is None:
            calls = self._calls[name] = _OfCall(self._counters, name)
        return calls

    def _runs_named(self, name: str) -> _OfRun:
        runs = self._runs.get(name)
        if runs is None:
            with self._lock:
                runs = self._runs.setdefault(name, _OfRun(self._counters, name))
        return runs

    # What prometheus_client asks.

    def describe(self) -> Iterable[Metric]:
        """Tell the registry the names, so that it can refuse them if it has them."""
        for family in self._counters.families():
            yield from family.describe()
        yield from self._gauges({})

    def collect(self) -> Iterator[Metric]:
        """Give the numbers of this moment."""
        for family in self._counters.families():
            yield from family.collect()
        with self._lock:
            values = {name: runs.gauges() for name, runs in self._runs.items()}
        yield from self._gauges(values)

    def _gauges(self, values: Mapping[str, tuple[float, ...]]) -> Iterator[Metric]:
        for place, (name, text) in enumerate(_GAUGES):
            family = GaugeMetricFamily(name, text, labels=["run"])
            for run, numbers in values.items():
                family.add_metric([run], numbers[place])
            yield family
