"""Metrics of calls and runs for Prometheus, through prometheus_client.

Install with `pip install "aiosupervise[prometheus]"`.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, TypeVar, final

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

C = TypeVar("C")

_MAX_NAMES: Final = 100
_OTHER: Final = "other"

_GAUGES: Final = (
    ("aiosupervise_runs", "Runs in progress"),
    ("aiosupervise_runs_paused", "Runs in progress that are paused, because of their service or at its request"),
    ("aiosupervise_jobs_running", "Running jobs"),
    ("aiosupervise_jobs_limit", "Concurrency limit of the runs in progress, +Inf for no limit"),
)


class _Families:
    """The families of metrics; each family contains one metric for each combination of labels."""

    def __init__(self) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"aiosupervise_{name}", text, labels, registry=None)

        self.calls = counter("calls_total", "Finished supervised calls, by outcome", "call", "outcome")
        self.attempts = counter("attempts_total", "Attempts started by supervised calls", "call")
        self.retries = counter("retries_total", "Attempts after the first of a supervised call", "call")
        self.give_ups = counter("give_ups_total", "Supervised calls that gave up, by reason", "call", "reason")
        self.jobs = counter("jobs_total", "Jobs of runs, by outcome", "run", "outcome")
        self.pauses = counter("pauses_total", "Pauses of runs, including the one after each failed probe", "run")
        self.durations = Summary(
            "aiosupervise_run_duration_seconds", "Duration of finished runs", ["run"], registry=None
        )

    def all(self) -> tuple[Counter | Summary, ...]:
        """Return all families, in the order of the exposition."""
        return self.calls, self.attempts, self.retries, self.give_ups, self.jobs, self.pauses, self.durations


class _CallCounters:
    """The counters of all calls with one name. All of them start at 0, so that Prometheus sees the first increase."""

    def __init__(self, families: _Families, name: str) -> None:
        self.attempts = families.attempts.labels(name)
        self.retries = families.retries.labels(name)
        self.give_ups = {reason: families.give_ups.labels(name, reason.name.lower()) for reason in Reason}
        self.succeeded, self.recovered, self.failed, self.cancelled = (
            families.calls.labels(name, outcome) for outcome in ("succeeded", "recovered", "failed", "cancelled")
        )

    def for_outcome(self, event: CallFinished) -> Counter:
        """Return the counter for the outcome of a finished call."""
        if event.error is None:
            return self.succeeded if event.attempts == 1 else self.recovered
        return self.failed if isinstance(event.error, Exception) else self.cancelled


class _RunCounters:
    """The counters of all runs with one name, and the runs in progress, from which the gauges are read."""

    def __init__(self, families: _Families, name: str) -> None:
        # By the number of the run: its counts, and whether it is paused.
        self.in_progress: dict[int, tuple[Tally, bool]] = {}
        self.pauses = families.pauses.labels(name)
        self.durations = families.durations.labels(name)
        self.succeeded, self.failed, self.pending = (
            families.jobs.labels(name, outcome) for outcome in ("succeeded", "failed", "pending")
        )

    def for_outcome(self, outcome: Outcome[object, object]) -> Counter:
        """Return the counter for the outcome of a job."""
        if isinstance(outcome, Success):
            return self.succeeded
        return self.failed if isinstance(outcome, Failure) else self.pending

    def gauges(self) -> tuple[float, float, float, float]:
        """Return the sums over the runs in progress, in the order of `_GAUGES`."""
        runs = list(self.in_progress.values())
        paused = sum(is_paused for _, is_paused in runs)
        running = sum(tally.running for tally, _ in runs)
        limit = sum(math.inf if tally.limit is None else tally.limit for tally, _ in runs)
        return len(runs), paused, running, limit


@final
class Metrics:
    """A listener that exports counters and gauges to Prometheus: `listen(Metrics())`.

    Counters: `aiosupervise_calls_total` by outcome (succeeded, recovered, failed, cancelled),
    `aiosupervise_attempts_total`, `aiosupervise_retries_total`, `aiosupervise_give_ups_total` by reason,
    `aiosupervise_jobs_total` by outcome (succeeded, failed, pending), `aiosupervise_pauses_total`; and the summary
    `aiosupervise_run_duration_seconds`. Gauges, which are read from the runs at each scrape: `aiosupervise_runs`,
    `aiosupervise_runs_paused`, `aiosupervise_jobs_running`, `aiosupervise_jobs_limit`.

    The label `call` or `run` is the name of the call or run. Each label has at most 100 distinct values, assigned in
    order of appearance: all further names are counted as "other". Arguments and errors are never labels. The values of
    runs with the same name are added up. `registry.unregister(metrics)` removes the metrics from their registry.

    Args:
        registry: the registry for the metrics.

    Raises:
        ValueError: if the registry already has metrics of these names, such as those of another `Metrics`.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._families = _Families()
        self._calls: dict[str, _CallCounters] = {}
        self._runs: dict[str, _RunCounters] = {}
        # Event loops of several threads add names and runs while another thread serves a scrape.
        self._lock = threading.Lock()
        try:
            registry.register(self)
        except ValueError as error:
            raise ValueError(
                "the registry already has metrics of these names: create one Metrics per registry, "
                "and let it listen to everything: listen(Metrics())"
            ) from error

    def __call__(self, event: Event) -> None:
        """Count an event."""
        match event:
            case AttemptStarted():
                counters = self._call_counters(event.name)
                counters.attempts.inc()
                if event.attempt > 1:
                    counters.retries.inc()
            case CallFinished():
                self._call_counters(event.name).for_outcome(event).inc()
            case GaveUp():
                self._call_counters(event.name).give_ups[event.reason].inc()
            case RunStarted() | RunPaused() | RunResumed() | JobFinished() | RunFinished():
                self._on_run_event(event)
            case _:
                pass

    def _on_run_event(self, event: RunStarted | RunPaused | RunResumed | JobFinished | RunFinished) -> None:
        counters = self._run_counters(event.name)
        match event:
            case JobFinished():
                counters.for_outcome(event.outcome).inc()
            case RunPaused():
                counters.pauses.inc()
                self._set_paused(counters, event, is_paused=True)
            case RunFinished():
                counters.durations.observe(event.elapsed)
                with self._lock:
                    counters.in_progress.pop(event.run, None)
            case _:
                self._set_paused(counters, event, is_paused=False)

    def _set_paused(
        self, counters: _RunCounters, event: RunStarted | RunPaused | RunResumed, *, is_paused: bool
    ) -> None:
        with self._lock:
            counters.in_progress[event.run] = event.tally, is_paused

    def _call_counters(self, name: str) -> _CallCounters:
        return self._counters(self._calls, _CallCounters, name)

    def _run_counters(self, name: str) -> _RunCounters:
        return self._counters(self._runs, _RunCounters, name)

    def _counters(self, known: dict[str, C], make: Callable[[_Families, str], C], name: str) -> C:
        """Return the counters for a name, or for "other" if there are too many names: each name is a time series."""
        counters = known.get(name)
        if counters is None:
            with self._lock:
                if name not in known and len(known) >= _MAX_NAMES:
                    name = _OTHER
                # Another thread may have added the name in the meantime, with runs in progress.
                counters = known.get(name)
                if counters is None:
                    counters = known[name] = make(self._families, name)
        return counters

    # The protocol of prometheus_client's collectors.

    def describe(self) -> Iterable[Metric]:
        """Return the families without samples; the registry uses their names to detect duplicates."""
        for family in self._families.all():
            yield from family.describe()
        yield from self._gauge_families({})

    def collect(self) -> Iterator[Metric]:
        """Return all families with the current samples."""
        for family in self._families.all():
            yield from family.collect()
        with self._lock:
            values = {name: counters.gauges() for name, counters in self._runs.items()}
        yield from self._gauge_families(values)

    def _gauge_families(self, values: Mapping[str, tuple[float, ...]]) -> Iterator[Metric]:
        for index, (name, text) in enumerate(_GAUGES):
            family = GaugeMetricFamily(name, text, labels=["run"])
            for run, gauges in values.items():
                family.add_metric([run], gauges[index])
            yield family
