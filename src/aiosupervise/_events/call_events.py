"""The events of a supervised call."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, final

from aiosupervise._policy.record import record

if TYPE_CHECKING:
    from aiosupervise._policy.verdict import Reason


@record
class _CallEvent:
    """The fields of every event of a supervised call.

    Attributes:
        call: the number of the call, unique within the process.
        name: the name of its policy, or of its function.
        run: the number of the run in which the call was made; None outside a run.
        job: the index of its job in that run; None outside a run.
    """

    call: int
    name: str
    run: int | None
    job: int | None


@final
@record
class AttemptStarted(_CallEvent):
    """An attempt of a supervised call is about to start.

    Attributes:
        call: the number of the call, unique within the process.
        name: the name of its policy, or of its function.
        run: the number of the run in which the call was made; None outside a run.
        job: the index of its job in that run; None outside a run.
        attempt: the number of the attempt, from 1.
        group: the group of its job in a run with `group_by`; otherwise None.
    """

    attempt: int
    group: Hashable = None


@final
@record
class AttemptFailed(_CallEvent):
    """An attempt of a supervised call has raised an error.

    It has the fields `call`, `name`, `run` and `job`, like every event of a call.

    Attributes:
        attempt: the number of the attempt, from 1.
        error: the error that it raised; for a `GiveUp` or a `RetryAfter`, the error it stands for.
        wait: seconds until the next attempt, not including a pause that an overloaded run may add; None if there is no
            further attempt.
        group: the group of its job in a run with `group_by`; otherwise None.
    """

    attempt: int
    error: Exception
    wait: float | None
    group: Hashable = None


@final
@record
class GaveUp(_CallEvent):
    """A supervised call has given up on an error, which now has a verdict. A `CallFinished` follows.

    It has the fields `call`, `name`, `run` and `job`, like every event of a call.

    Attributes:
        attempts: the number of attempts.
        elapsed: seconds since the first attempt failed.
        reason: why there is no further attempt.
        error: the error that the caller receives.
        group: the group of its job in a run with `group_by`; otherwise None.
    """

    attempts: int
    elapsed: float
    reason: Reason
    error: Exception
    group: Hashable = None


@final
@record
class Recovered(_CallEvent):
    """A supervised call has succeeded after at least one failed attempt. A `CallFinished` follows.

    It has the fields `call`, `name`, `run` and `job`, like every event of a call.

    Attributes:
        attempts: the number of attempts.
        elapsed: seconds since the first attempt failed.
        group: the group of its job in a run with `group_by`; otherwise None.
    """

    attempts: int
    elapsed: float
    group: Hashable = None


@final
@record
class CallFinished(_CallEvent):
    """A supervised call has ended: it returned, raised or was cancelled. This is the last event of every call.

    It has the fields `call`, `name`, `run` and `job`, like every event of a call.

    Attributes:
        attempts: the number of attempts.
        error: the error that the caller receives, which may be an asyncio.CancelledError; None if the call returned.
        group: the group of its job in a run with `group_by`; otherwise None.
    """

    attempts: int
    error: BaseException | None
    group: Hashable = None
