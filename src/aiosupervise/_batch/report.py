"""The report of a run: the outcomes of its jobs."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator, Sequence
from typing import Generic, TypeVar, final, overload

from aiosupervise._events.outcomes import Failure, I_co, Outcome, Pending, Stopped, Success, Tally
from aiosupervise._policy.checks import line_of, safe_str
from aiosupervise._policy.raw import type_name_of

from .summary import Summary, summarize

T_co = TypeVar("T_co", covariant=True)
_SHOWN_GROUPS = 10


@final
class Report(Sequence[Outcome[T_co, I_co]], Generic[T_co, I_co]):
    """The outcomes of a run, in the order of its strategy.

    Attributes:
        tally: the counts of the run, including outcomes that a streamed run has already delivered.
        elapsed: the duration of the run in seconds, up to now if it has not ended.
        stopped: why the run ended before its source was exhausted; None if it did not, or if it has not ended.
        stopped_groups: the groups of `group_by` whose service stayed down, in the order in which they were stopped.
            Their inputs are pending; the other groups continued.
    """

    __slots__ = ("_failed", "_outcomes", "_pending", "_succeeded", "elapsed", "stopped", "stopped_groups", "tally")

    def __init__(
        self,
        outcomes: Sequence[Outcome[T_co, I_co]],
        tally: Tally,
        elapsed: float,
        stopped: Stopped | None = None,
        stopped_groups: Collection[Hashable] = (),
    ) -> None:
        self._outcomes = tuple(outcomes)
        # The outcomes of each kind, collected on first access: a report may have a million outcomes.
        self._succeeded: tuple[Success[T_co, I_co], ...] | None = None
        self._failed: tuple[Failure[I_co], ...] | None = None
        self._pending: tuple[Pending[T_co, I_co], ...] | None = None
        self.tally: Tally = tally
        self.elapsed: float = elapsed
        self.stopped: Stopped | None = stopped
        self.stopped_groups: tuple[Hashable, ...] = tuple(stopped_groups)

    @property
    def succeeded(self) -> tuple[Success[T_co, I_co], ...]:
        """The jobs that returned, in the report's order."""
        if self._succeeded is None:
            self._succeeded = tuple(outcome for outcome in self._outcomes if isinstance(outcome, Success))
        return self._succeeded

    @property
    def failed(self) -> tuple[Failure[I_co], ...]:
        """The jobs that raised, in the report's order."""
        if self._failed is None:
            self._failed = tuple(outcome for outcome in self._outcomes if isinstance(outcome, Failure))
        return self._failed

    @property
    def pending(self) -> tuple[Pending[T_co, I_co], ...]:
        """The jobs that were unfinished when the run ended, in the report's order."""
        if self._pending is None:
            self._pending = tuple(outcome for outcome in self._outcomes if isinstance(outcome, Pending))
        return self._pending

    @property
    def ok(self) -> bool:
        """True if nothing failed, nothing is pending, and nothing stopped the run."""
        return not (self.tally.failed or self.tally.pending or self.stopped)

    def values(self) -> list[T_co]:
        """Return the plain values in the report's order, if every job of the source succeeded.

        Raises:
            ExceptionGroup: contains the errors of all failed jobs, and one RuntimeError if jobs are pending or were
                never pulled because the run was stopped. If it contains a CancelledError, it is a BaseExceptionGroup.
        """
        errors = [failure.error for failure in self.failed]
        why = f": {self.stopped.value}" if self.stopped else ""
        if pending := len(self.pending):
            cause = f"the run ended before them{why}"
            if self.stopped_groups and not self.stopped:
                cause = f"the services of some groups stayed down: {self._groups()}"
            errors.append(RuntimeError(f"{pending} of {len(self)} jobs are pending, as {cause}"))
        elif self.stopped:
            errors.append(RuntimeError(f"the run ended before its source did, so inputs may be missing{why}"))
        if errors:
            raise BaseExceptionGroup(f"{len(errors)} reasons why the values are not complete", errors)
        return [success.value for success in self.succeeded]

    def _groups(self) -> str:
        """Return the names of stopped groups, for an error message."""
        names = ", ".join(line_of(group) for group in self.stopped_groups[:_SHOWN_GROUPS])
        more = ", ..." if len(self.stopped_groups) > _SHOWN_GROUPS else ""
        return names + more

    def summary(self) -> str:
        """Return a human-readable summary of a few lines, for `print(report.summary())` at the end of a script.

        The summary shows the counts, the duration, why the run stopped, the stopped groups, and the p50, p95 and
        maximum of the attempts and seconds per job. It also shows the five most frequent errors, each with the number
        of jobs that failed with it and the index of one such job. The size of the text is bounded, however many
        outcomes there are.

        A percentile is a measured value, determined by the nearest-rank method. Pending jobs do not count towards it,
        nor do jobs whose results came from a journal.

        Errors of one class are counted together if their texts differ only in URLs and numbers, except for numbers of
        three digits, which may be status codes. The differing parts are shown as `…`. If there are more than 10,000
        failures, a sample is examined. As in the log, the text of an error is shown, truncated to 60 characters; its
        repr is never shown.

        The counts cover the whole run, even if it was streamed. A streamed run does not keep outcomes that have been
        read, so the percentiles and errors cover only the unread outcomes, and the summary says so.
        """
        return self._summarized().text()

    def _repr_html_(self) -> str:
        """Return the summary as HTML; notebooks call this to display a report."""
        return self._summarized().html()

    def _summarized(self) -> Summary:
        return summarize(self._outcomes, self.tally, self.elapsed, self.stopped, self.stopped_groups)

    def to_dicts(self) -> list[dict[str, object]]:
        """Return each outcome as a dict, in the report's order, for a data frame or JSON lines.

        All dicts have the same keys: `index`, `name`, `input`, `status` ("succeeded", "failed" or "pending"), `value`,
        `error_type` and `error` (the name of the error's class, and its text), `reason` (as text), `attempts`,
        `elapsed`, `started` and `replayed`. Values that an outcome does not have are None; `started` is False only for
        a pending outcome, and `replayed` is True only for a success. Inputs and values are the original objects; errors
        and tracebacks are not included.
        """
        return [_as_dict(outcome) for outcome in self._outcomes]

    @overload
    def __getitem__(self, index: int) -> Outcome[T_co, I_co]: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Outcome[T_co, I_co], ...]: ...
    def __getitem__(self, index: int | slice) -> Outcome[T_co, I_co] | tuple[Outcome[T_co, I_co], ...]:
        return self._outcomes[index]

    def __len__(self) -> int:
        return len(self._outcomes)

    def __iter__(self) -> Iterator[Outcome[T_co, I_co]]:
        return iter(self._outcomes)

    def __repr__(self) -> str:
        t = self.tally
        retries = "retry" if t.retries == 1 else "retries"
        return (
            f"<Report: {t.succeeded} succeeded, {t.failed} failed, {t.pending} pending, "
            f"{t.retries} {retries}, {self.elapsed:.2f} s>"
        )


def _as_dict(outcome: Outcome[object, object]) -> dict[str, object]:
    row: dict[str, object] = {"index": outcome.index, "name": outcome.name, "input": outcome.input}
    row |= dict.fromkeys(("status", "value", "error_type", "error", "reason", "attempts", "elapsed"))
    row |= {"started": True, "replayed": False}
    if isinstance(outcome, Pending):
        return row | {"status": "pending", "started": outcome.started}
    row |= {"attempts": outcome.attempts, "elapsed": outcome.elapsed}
    if isinstance(outcome, Success):
        return row | {"status": "succeeded", "value": outcome.value, "replayed": outcome.replayed}
    error = outcome.error
    row |= {"error_type": type_name_of(type(error)), "error": safe_str(error)}
    return row | {"status": "failed", "reason": outcome.reason and outcome.reason.value}
