"""The outcomes of jobs, and the counts of a run."""

from __future__ import annotations

import enum
import sys
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, Generic, TypeVar, final

from aiosupervise._policy.record import mutable_record, quick_record, replaced
from aiosupervise._policy.verdict import Reason

if sys.version_info >= (3, 13):  # pragma: no cover
    from typing import TypeAliasType
    from typing import TypeVar as TypeVarWithDefault
else:  # pragma: no cover
    from typing_extensions import TypeAliasType
    from typing_extensions import TypeVar as TypeVarWithDefault

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
I = TypeVarWithDefault("I", default=None)  # noqa: E741 - the input of map_all
I_co = TypeVarWithDefault("I_co", default=None, covariant=True)
_NO_INPUT: Any = None


@final
@quick_record
class Success(Generic[T_co, I_co]):
    """A job that returned.

    Attributes:
        index: the position of the job in the input, from 0.
        value: the value that it returned.
        attempts: 1 plus all retries of supervised calls in the job, including those in its child tasks.
        elapsed: the duration of the job in seconds.
        name: the name of the job's task.
        input: the argument of the function under `map_all`; None under `run_all`.
        replayed: True if the value comes from the journal of the run; `attempts` and `elapsed` are then those of the
            earlier run in which the job ran.
    """

    index: int
    value: T_co
    attempts: int
    elapsed: float
    name: str = ""
    input: I_co = _NO_INPUT
    replayed: bool = False

    # Inputs may be secret.
    __not_in_repr__: ClassVar[tuple[str, ...]] = ("input", "replayed")


@final
@quick_record
class Failure(Generic[I_co]):
    """A job that raised.

    Attributes:
        index: the position of the job in the input, from 0.
        error: the original error object; a CancelledError if something other than the run cancelled the job.
        attempts: 1 plus all retries of supervised calls in the job, including those in its child tasks.
        elapsed: the duration of the job in seconds.
        reason: why a supervised call gave up on the error; None if none did.
        name: the name of the job's task.
        input: the argument of the function under `map_all`; None under `run_all`.
    """

    index: int
    error: BaseException
    attempts: int
    elapsed: float
    reason: Reason | None
    name: str = ""
    input: I_co = _NO_INPUT

    __not_in_repr__: ClassVar[tuple[str, ...]] = ("input",)


@final
@quick_record
class Pending(Generic[T_co, I_co]):
    """A job that was unfinished when the run ended, because it never started or was cancelled.

    Attributes:
        index: the position of the job in the input, from 0.
        job: a function that runs the job again; None if the job was a coroutine, a task or a future, which run only
            once.
        started: whether the job had started when it was cancelled.
        name: the name of the job's task, or the name it would have had.
        input: the argument of the function under `map_all`; None under `run_all`.
    """

    index: int
    job: Callable[[], Awaitable[T_co]] | None
    started: bool
    name: str = ""
    input: I_co = _NO_INPUT

    # Under `map_all` the job is a partial, whose repr quotes the input.
    __not_in_repr__: ClassVar[tuple[str, ...]] = ("job", "input")


Outcome = TypeAliasType("Outcome", Success[T, I] | Failure[I] | Pending[T, I], type_params=(T, I))


@final
class Stopped(enum.Enum):
    """The reason why a run ended before its source was exhausted."""

    TIMEOUT = "timeout"
    SIGNAL = "signal"
    STOP = "stop() was called"
    RETURN_WHEN = "return_when"
    LEFT = "its block was left"
    PROBES = "too many probes failed"
    FAILURES = "too many jobs failed"
    CANCELLED = "cancelled"


@final
@mutable_record
class Tally:
    """Live counts of a run.

    Attributes:
        total: the number of jobs; None while it is unknown.
        succeeded: the number of jobs that returned.
        failed: the number of jobs that raised.
        pending: the number of jobs that were unfinished when the run ended.
        running: the number of jobs that are running.
        retries: the number of retries of supervised calls in the jobs.
        limit: the number of jobs that may run concurrently; None for no limit.
        replayed: the number of succeeded jobs that did not run, because a journal had their results.
        paused_groups: the number of groups of `group_by` that are starting no jobs, because their service is
            overloaded.
    """

    total: int | None
    limit: int | None
    succeeded: int = 0
    failed: int = 0
    pending: int = 0
    running: int = 0
    retries: int = 0
    replayed: int = 0
    paused_groups: int = 0

    def copy(self) -> Tally:
        """Return a copy of the counts."""
        return replaced(self, {})

    def count(self, outcome: Outcome[object, object]) -> None:
        """Count one more outcome."""
        if isinstance(outcome, Success):
            self.succeeded += 1
            if outcome.replayed:
                self.replayed += 1
        elif isinstance(outcome, Failure):
            self.failed += 1
        else:
            self.pending += 1
