"""Blocks: a loop over a policy makes the attempts of a block of lines.

Theory of operation. The loop yields an attempt, and the `with` statement in its body makes it. A block that ends well
ends the loop. An error that is retried is dropped, and the loop waits before it yields the next attempt. Each loop has
a call of its own, the same as a supervised function has, and the same driver: an async function waits in its event
loop, other code in its thread. The call is named after the function and the line of the loop.

Three objects share the work. The variables of the user's frame refer to the attempt, which refers to the state. Nothing
but the running loop refers to the iterator: so it is thrown away when the loop is left, also by a `break` after a
failed attempt, whose error would be lost without a word.
"""

from __future__ import annotations

import enum
import opcode
import sys
import time
import warnings
from types import FrameType, TracebackType
from typing import Generic, Never, TypeVar

from aiosupervise._events.listeners import listeners
from aiosupervise._policy.checks import name_of
from aiosupervise._policy.gate import check_gate_fits, gate_for, is_gate_of_arguments, sync_gate_for
from aiosupervise._policy.loops import loops
from aiosupervise._policy.policy import Policy, cannot_interrupt

from .attempt import BLOCKS
from .call import Call
from .frames import register_module
from .gates import SyncPassage
from .limits import Limits, now
from .retry import AsyncCall
from .thread import SyncCall

C = TypeVar("C", bound=Call)
L = TypeVar("L")

_SYNC = "`for attempt in policy:` and in it `with attempt:`"
_ASYNC = "`async for attempt in policy:` and in it `async with attempt:`"

# The instructions by which a frame drops the iterator of a loop that it leaves, unless an exception ends the loop.
_POP = {opcode.opmap[name] for name in ("POP_TOP", "POP_ITER") if name in opcode.opmap}


class _Next(enum.Enum):
    """What comes next in a loop."""

    ATTEMPT = enum.auto()
    ENTER = enum.auto()
    LEAVE = enum.auto()
    END = enum.auto()


class _State(Generic[C, L]):
    """The state of one loop: its call, the limits that each attempt enters, and what comes next."""

    __slots__ = ("call", "limits", "next")

    def __init__(self, call: C, limits: L | None) -> None:
        self.call: C = call
        self.limits = limits
        self.next = _Next.ATTEMPT

    def is_over(self, code: str) -> bool:
        """Return whether the loop ends; raise if its last attempt was not made."""
        if self.next in (_Next.ENTER, _Next.LEAVE):
            raise self.misuse(RuntimeError, f"the attempt that a Policy yielded was not made: a Policy is for {code}")
        return self.next is _Next.END

    def misuse(self, kind: type[Exception], message: str) -> Exception:
        """End the loop, and return the error that says how it must be written."""
        self.abandon()
        return kind(message)

    def abandon(self, error: BaseException | None = None) -> bool:
        """End the loop, for this reason or since it was left; return whether that drops the error of an attempt."""
        last_error = self.call.last_error
        is_over, self.next = self.next in (_Next.LEAVE, _Next.END), _Next.END
        if is_over or last_error is None:
            return False
        self.call.on_abandoned(error or last_error)
        return True

    def end_attempt(self, error: BaseException | None) -> bool:
        """Record how an attempt ended; return whether its error is dropped, since another attempt follows."""
        call = self.call
        self.next = _Next.END
        if error is None:
            if listeners.count or call.job is not None or call.policy.budget is not None:
                call.on_success()
        elif not isinstance(error, Exception):
            call.on_abandoned(error)
        else:
            call.on_failure(error)
            if call.final_error is None:
                self.next = _Next.ATTEMPT
        return self.next is _Next.ATTEMPT


class _Attempt(Generic[C, L]):
    """One attempt of a block; it does not refer to the error of its own, which holds the frame that refers to it."""

    __slots__ = ("_frame", "_outer", "_previous_error", "_state", "number")

    def __init__(self, state: _State[C, L]) -> None:
        state.next = _Next.ENTER
        self._state: _State[C, L] = state
        self.number: int = state.call.attempts + 1
        self._previous_error = state.call.last_error

    @property
    def previous_error(self) -> Exception | None:
        return self._previous_error

    @property
    def time_left(self) -> float | None:
        return self._state.call.time_left()

    def _begin(self, frame: FrameType) -> L | None:
        state = self._state
        if state.next is not _Next.ENTER or self.number != state.call.attempts + 1:
            raise RuntimeError(
                f"attempt {self.number} of {state.call.name} was entered twice: the loop yields the next"
            )
        state.next = _Next.LEAVE
        state.call.begin()
        self._frame = id(frame)
        self._outer = BLOCKS.get(self._frame)
        BLOCKS[self._frame] = state.call
        return state.limits

    def _give_up(self, error: BaseException) -> None:
        """Give up, since the body of a `with` statement cannot be skipped: a limit raised on entering."""
        call = self._state.call
        call.policy = call.policy.replace(max_retries=0)
        self._end(error)

    def _end(self, error: BaseException | None) -> bool:
        if self._outer is None:
            del BLOCKS[self._frame]
        else:
            BLOCKS[self._frame] = self._outer
        is_dropped = self._state.end_attempt(error)
        if not is_dropped:
            # It may be the final error as well, which holds the frame that refers to this attempt.
            self._previous_error = None
        return is_dropped


class _SyncAttempt(_Attempt[SyncCall, SyncPassage]):
    """One attempt of a block in synchronous code."""

    __slots__ = ()

    def __enter__(self) -> None:
        limits = self._begin(sys._getframe(1))  # noqa: SLF001
        if limits is not None:
            try:
                limits.__enter__()
            except BaseException as error:
                self._give_up(error)
                if self._state.call.final_error is not None:
                    self._state.call.raise_final_error()
                raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        call, limits = self._state.call, self._state.limits
        try:
            if limits is not None:
                try:
                    limits.__exit__(kind, error, traceback)
                except Exception as raised:
                    error = raised
                except BaseException as raised:
                    self._end(raised)
                    raise
            is_dropped = self._end(error)
            if call.final_error is not None:
                call.raise_final_error()
            return is_dropped
        finally:
            # The traceback of the final error holds this frame.
            del error, traceback

    async def __aenter__(self) -> Never:
        raise self._state.misuse(TypeError, f"this attempt is of a `for` loop: write {_SYNC}, or {_ASYNC}")

    __aexit__ = __aenter__


class _AsyncAttempt(_Attempt[AsyncCall, Limits]):
    """One attempt of a block in an async function."""

    __slots__ = ()

    async def __aenter__(self) -> None:
        limits = self._begin(sys._getframe(1))  # noqa: SLF001
        if limits is not None:
            try:
                await limits.__aenter__()
            except BaseException as error:
                self._give_up(error)
                if self._state.call.final_error is not None:
                    self._state.call.raise_final_error()
                raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        call, limits = self._state.call, self._state.limits
        try:
            if limits is not None:
                try:
                    await limits.__aexit__(kind, error, traceback)
                except Exception as raised:
                    error = raised
                except BaseException as raised:
                    self._end(raised)
                    raise
            is_dropped = self._end(error)
            if call.final_error is not None:
                call.raise_final_error()
            return is_dropped
        finally:
            # The traceback of the final error holds this frame.
            del error, traceback

    def __enter__(self) -> Never:
        raise self._state.misuse(TypeError, f"this attempt is of an `async for` loop: write {_ASYNC}")

    __exit__ = __enter__


class _Loop(Generic[C, L]):
    """The iterator of a loop."""

    __slots__ = ("_state",)

    def __init__(self, call: C, limits: L | None) -> None:
        self._state: _State[C, L] = _State(call, limits)

    def close(self) -> None:
        """End the loop, and warn if that drops the error of an attempt."""
        self._close()

    def __del__(self) -> None:
        frame = sys._getframe(1)  # noqa: SLF001
        if frame.f_code.co_code[frame.f_lasti] in _POP:
            self._close()
        else:
            self._state.abandon()

    def _close(self) -> None:
        name, attempts = self._state.call.name, self._state.call.attempts
        if self._state.abandon():
            what = f"{name} was left after attempt {attempts} had failed, and before another one, so that its error is"
            repair = "leave the loop inside of `with attempt:`, or raise an error"
            warnings.warn(f"{what} lost: {repair}", RuntimeWarning, stacklevel=3)


class _SyncLoop(_Loop[SyncCall, SyncPassage]):
    """The iterator of a loop in synchronous code."""

    __slots__ = ()

    def __iter__(self) -> _SyncLoop:
        return self

    def __next__(self) -> _SyncAttempt:
        state = self._state
        if state.is_over(_SYNC):
            raise StopIteration
        call = state.call
        if call.last_error is not None:
            try:
                call.rest(call.last_error)
            except BaseException as error:
                state.abandon(error)
                raise
            if call.final_error is not None:
                state.next = _Next.END
                call.raise_final_error()
        return _SyncAttempt(state)


class _AsyncLoop(_Loop[AsyncCall, Limits]):
    """The iterator of a loop in an async function."""

    __slots__ = ()

    def __aiter__(self) -> _AsyncLoop:
        return self

    async def __anext__(self) -> _AsyncAttempt:
        state = self._state
        if state.is_over(_ASYNC):
            raise StopAsyncIteration
        call = state.call
        if call.last_error is not None:
            try:
                await call.rest(call.last_error)
            except BaseException as error:
                state.abandon(error)
                raise
            if call.final_error is not None:
                state.next = _Next.END
                call.raise_final_error()
        return _AsyncAttempt(state)


def _sync_loop(policy: Policy, frame: FrameType) -> _SyncLoop:
    if policy.attempt_timeout is not None:
        raise TypeError(cannot_interrupt("a loop without `async`", f"in an async function, write {_ASYNC}"))
    name = _checked_name(policy, frame, is_async=False)
    call = SyncCall(policy, name, time.monotonic(), (_block, (), {}))
    gate = sync_gate_for(policy.gate, (), {})
    return _SyncLoop(call, None if gate is None else SyncPassage(gate, name))


def _async_loop(policy: Policy, frame: FrameType) -> _AsyncLoop:
    name = _checked_name(policy, frame, is_async=True)
    started = now()
    call = AsyncCall(policy, name, started, (_block, (), {}))
    gate = gate_for(policy.gate, (), {})
    is_limited = gate is not None or policy.deadline is not None or policy.attempt_timeout is not None
    return _AsyncLoop(call, Limits(policy, name, gate, started) if is_limited else None)


def _checked_name(policy: Policy, frame: FrameType, *, is_async: bool) -> str:
    """Return the name of the call of a loop, whose policy has a gate that fits."""
    name = policy.name or f"{frame.f_code.co_name}:{frame.f_lineno}"
    if is_gate_of_arguments(policy.gate):
        rule = f"gate {name_of(policy.gate)} is a function of a call's arguments, and a loop over a Policy has none"
        raise TypeError(f"{rule}: call it, and loop over policy.replace(gate=...)")
    check_gate_fits(policy.gate, name, is_async=is_async)
    return name


def _block() -> None:
    """Stand for the function of a call, in a block, which has no arguments."""


loops.plain = _sync_loop
loops.in_coroutine = _async_loop
register_module(__name__)
