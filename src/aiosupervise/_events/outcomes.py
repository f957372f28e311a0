"""What became of the jobs: one record each, and the report that holds them."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar, final

from aiosupervise._policy.record import Record
from aiosupervise._policy.verdict import Reason

if sys.version_info >= (3, 13):
    from typing import TypeAliasType
    from typing import TypeVar as TypeVarWithDefault
else:
    from typing_extensions import TypeAliasType
    from typing_extensions import TypeVar as TypeVarWithDefault

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
I = TypeVarWithDefault("I", default=None)  # noqa: E741 - the input of map_all
I_co = TypeVarWithDefault("I_co", default=None, covariant=True)
_NO_INPUT: Any = None


@final
class Success(Record, Generic[T_co, I_co]):
    """A job that returned.

    Attributes:
        index: its place in the input, from 0.
        value: what it returned.
        attempts: 1, plus every retry that supervised calls made in the job, in the tasks it started too.
        elapsed: seconds from its start to its end.
        name: the name of its task.
        input: what `map_all` called the function with; None under `run_all`.

    """

    index: int
    value: T_co
    attempts: int
    elapsed: float
    name: str = ""
    input: I_co = _NO_INPUT


@final
class Failure(Record, Generic[I_co]):
    """A job that raised.

    Attributes:
        index: its place in the input, from 0.
        error: what it raised: the same object; a CancelledError if the job was cancelled by somebody else than the run.
        attempts: 1, plus every retry that supervised calls made in the job, in the tasks it started too.
        elapsed: seconds from its start to its end.
        reason: why a supervised call gave up on the error; None if no policy had a say.
        name: the name of its task.
        input: what `map_all` called the function with; None under `run_all`.

    """

    index: int
    error: BaseException
    attempts: int
    elapsed: float
    reason: Reason | None
    name: str = ""
    input: I_co = _NO_INPUT


@final
class Pending(Record, Generic[T_co, I_co]):
    """A job that the end of the run came before: it never started, or was cancelled.

    Attributes:
        index: its place in the input, from 0.
        job: the callable to run it again; None where the job was a coroutine, a task or a future: those run once.
        started: whether it had begun when it was cancelled.
        name: the name of its task, or the one it would have had.
        input: what `map_all` would call the function with; None under `run_all`.

    """

    index: int
    job: Callable[[], Awaitable[T_co]] | None
    started: bool
    name: str = ""
    input: I_co = _NO_INPUT


Outcome = TypeAliasType("Outcome", Success[T, I] | Failure[I] | Pending[T, I], type_params=(T, I))


@final
@dataclass(slots=True)
class Tally:
    """Live counts of a run.

    Attributes:
        total: how many jobs there are; None while that is unknown.
        succeeded: jobs that returned.
        failed: jobs that raised.
        pending: jobs that the run ended before.
        running: jobs that run now.
        retries: retries that supervised calls have made in the jobs.
        limit: how many jobs may run at once; None for no limit.

    """

    total: int | None
    limit: int | None
    succeeded: int = 0
    failed: int = 0
    pending: int = 0
    running: int = 0
    retries: int = 0

    def copy(self) -> Tally:
        """Return the counts as they are now."""
        return replace(self)

    def count(self, outcome: Outcome[object, object]) -> None:
        """Count one more outcome."""
        if isinstance(outcome, Success):
            self.succeeded += 1
        elif isinstance(outcome, Failure):
            self.failed += 1
        else:
            self.pending += 1
