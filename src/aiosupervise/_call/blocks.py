"""Blocks: a loop over a policy makes the attempts of a block of code.

Theory of operation. The loop yields an attempt, and the `with` statement in its body performs it. A block that succeeds
ends the loop. If an error is retried, it is dropped, and the loop waits before it yields the next attempt. Each loop
has its own call, like that of a supervised function, and the same driver: an async function waits in its event loop,
other code in its thread. The call is named after the function and the line of the loop.

Three objects share the work. The variables of the user's frame refer to the attempt, which refers to the state. Only
the running loop refers to the iterator, so it is deallocated when the loop is left. This detects a `break` after a
failed attempt, whose error would otherwise be lost silently.
"""

from __future__ import annotations

import contextlib
import enum
import opcode
import sys
import time
import warnings
from types import FrameType, TracebackType
from typing import Any, final

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

_CODE = {
    SyncCall: "`for attempt in policy:` and in it `with attempt:`",
    AsyncCall: "`async for attempt in policy:` and in it `async with attempt:`",
}

# The instructions by which a frame drops the iterator of a loop that it leaves, unless an exception ends the loop.
_POP = {opcode.opmap[name] for name in ("POP_TOP", "POP_ITER") if name in opcode.opmap}

# Of the frames of an ExitStack.
_STACKS = vars(contextlib)


class _Next(enum.Enum):
    """What comes next in a loop."""

    ATTEMPT = enum.auto()
    ENTER = enum.auto()
    LEAVE = enum.auto()
    END = enum.auto()


class _State:
    """The state of one loop: its call, the limits that each attempt enters, and the next step."""

    __slots__ = ("call", "limits", "next")

    def __init__(self, call: Call, limits: Limits | SyncPassage | contextlib.nullcontext[None]) -> None:
        # Of one kind or the other: which methods of the attempt are called tells which.
        self.call: Any = call
        self.limits: Any = limits
        self.next = _Next.ATTEMPT

    def is_over(self) -> bool:
        """Return whether the loop ends; raise if its last attempt was never entered."""
        if self.next in (_Next.ENTER, _Next.LEAVE):
            self.abandon()
            rule = "the attempt that a Policy yielded was not entered, so no other one follows"
            raise RuntimeError(f"{rule}: write {_CODE[type(self.call)]}")
        return self.next is _Next.END

    def check_end(self, end: type[Exception]) -> None:
        """Raise if the call ends with an error, which its loop would mistake for an end without one."""
        final = self.call.final_error
        if issubclass(type(final), end):
            self.call.take_final_error()
            what = f"{self.call.name} gave up on a {end.__name__}, by which a loop would end silently"
            raise RuntimeError(what) from final  # noqa: TRY004 - as where a generator raises it

    def abandon(self, error: BaseException | None = None) -> bool:
        """End the loop, for this reason or because it was left; return whether this drops the error of an attempt."""
        is_over, self.next = self.next in (_Next.LEAVE, _Next.END), _Next.END
        if is_over or self.call.last_error is None:
            return False
        self.call.on_abandoned(self.call.last_error if error is None else error)
        return True


class _Attempt:
    """One attempt of a block; it does not refer to its own error, which holds the frame that refers to the attempt."""

    __slots__ = ("_frame", "_outer", "_state", "number", "previous_error")

    def __init__(self, state: _State) -> None:
        state.next = _Next.ENTER
        self._state = state
        self.number: int = state.call.attempts + 1
        self.previous_error: Exception | None = state.call.last_error

    @property
    def time_left(self) -> float | None:
        left: float | None = self._state.call.time_left()
        return left

    def _begin(self, frame: FrameType, kind: type[Call]) -> Any:
        """Begin the attempt with the `with` statement for this kind of call, and return the limits to enter."""
        state = self._state
        if type(state.call) is not kind:
            state.abandon()
            raise TypeError(f"the attempt is for {_CODE[type(state.call)]}")
        if state.next is not _Next.ENTER or self.number != state.call.attempts + 1:
            rule = "an attempt is entered once, in the loop that yields it"
            raise RuntimeError(f"attempt {self.number} of {state.call.name} was entered twice, or is over: {rule}")
        state.next = _Next.LEAVE
        state.call.begin()
        while frame.f_globals is _STACKS and frame.f_back is not None:
            # An ExitStack enters the attempt, for the function that has the stack.
            frame = frame.f_back
        self._frame = id(frame)
        self._outer = BLOCKS.get(self._frame)
        BLOCKS[self._frame] = state.call
        return state.limits

    def _end(self, error: BaseException | None, *, may_retry: bool = True) -> bool:
        """Record how the attempt ended; return whether its error is dropped because another attempt follows."""
        if self._outer is None:
            del BLOCKS[self._frame]
        else:
            BLOCKS[self._frame] = self._outer
        state, call = self._state, self._state.call
        state.next = _Next.END
        if not may_retry:
            # The body of a `with` statement cannot be skipped, so that there is no other attempt.
            call.policy = call.policy.replace(max_retries=0)
        if error is None:
            if listeners.count or call.job is not None or call.policy.budget is not None:
                call.on_success()
        elif not issubclass(type(error), Exception):
            call.on_abandoned(error)
        else:
            try:
                call.on_failure(error)
            except BaseException as raised:
                # By a function in the policy.
                call.on_abandoned(raised)
                raise
            if call.final_error is None:
                state.next = _Next.ATTEMPT
                return True
        # It may be the final error as well.
        self.previous_error = None
        return False

    # Mutation testing puts frames of its own between the caller and a function, but not a decorated one.
    @final
    def __enter__(self) -> None:
        limits = self._begin(sys._getframe(1), SyncCall)  # noqa: SLF001
        try:
            limits.__enter__()
        except BaseException as error:
            self._end(error, may_retry=False)
            self._state.call.raise_final_error()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        try:
            self._state.limits.__exit__(kind, error, traceback)
        except Exception as raised:
            error = raised
        except BaseException as raised:
            self._end(raised)
            raise
        try:
            is_dropped = self._end(error)
            self._state.call.raise_final_error()
            return is_dropped
        finally:
            # The traceback of the final error holds this frame.
            del error

    @final
    async def __aenter__(self) -> None:
        limits = self._begin(sys._getframe(1), AsyncCall)  # noqa: SLF001
        try:
            await limits.__aenter__()
        except BaseException as error:
            self._end(error, may_retry=False)
            self._state.call.raise_final_error()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        try:
            await self._state.limits.__aexit__(kind, error, traceback)
        except Exception as raised:
            error = raised
        except BaseException as raised:
            self._end(raised)
            raise
        try:
            is_dropped = self._end(error)
            self._state.call.raise_final_error()
            return is_dropped
        finally:
            # As in `__exit__`.
            del error


class _Loop:
    """The iterator of a loop of either kind."""

    __slots__ = ("_state",)

    def __init__(self, state: _State) -> None:
        self._state = state

    def __iter__(self) -> _Loop:
        return self

    def __aiter__(self) -> _Loop:
        return self

    def __next__(self) -> _Attempt:
        state = self._state
        if state.is_over():
            raise StopIteration
        try:
            if state.call.last_error is not None:
                state.call.rest(state.call.last_error)
        except BaseException as error:
            state.abandon(error)
            raise
        state.check_end(StopIteration)
        attempt = _Attempt(state)
        state.call.raise_final_error()
        return attempt

    async def __anext__(self) -> _Attempt:
        state = self._state
        if state.is_over():
            raise StopAsyncIteration
        try:
            if state.call.last_error is not None:
                await state.call.rest(state.call.last_error)
        except BaseException as error:
            state.abandon(error)
            raise
        state.check_end(StopAsyncIteration)
        attempt = _Attempt(state)
        state.call.raise_final_error()
        return attempt

    @final
    def __del__(self) -> None:
        """Finish the call if the loop is left between two attempts, and warn if a `break` left it."""
        frame = sys._getframe().f_back  # noqa: SLF001
        # There is none when the interpreter shuts down.
        if self._state.abandon() and frame is not None and frame.f_code.co_code[frame.f_lasti] in _POP:
            call = self._state.call
            what = f"{call.name} was left after attempt {call.attempts} had failed, and before another one"
            repair = "leave the loop inside of the `with`, or raise an error"
            warnings.warn(f"{what}, so that its error is lost: {repair}", RuntimeWarning, stacklevel=2)


def _loop_of(policy: Policy, frame: FrameType) -> _Loop:
    if policy.attempt_timeout is not None:
        raise TypeError(cannot_interrupt("a loop that is not async", f"write {_CODE[AsyncCall]}"))
    name = _checked_name(policy, frame, is_async=False)
    gate = sync_gate_for(policy.gate, (), {})
    call = SyncCall(policy, name, time.monotonic(), (_block, (), {}))
    return _Loop(_State(call, contextlib.nullcontext() if gate is None else SyncPassage(gate, name)))


def _async_loop_of(policy: Policy, frame: FrameType) -> _Loop:
    name = _checked_name(policy, frame, is_async=True)
    gate = gate_for(policy.gate, (), {})
    call = AsyncCall(policy, name, now(), (_block, (), {}))
    return _Loop(_State(call, Limits(policy, name, gate, now())))


def _checked_name(policy: Policy, frame: FrameType, *, is_async: bool) -> str:
    """Return the name of the call of a loop, after checking that the gate of its policy fits."""
    name = policy.name or f"{frame.f_code.co_name}:{frame.f_lineno}"
    if is_gate_of_arguments(policy.gate):
        rule = f"gate {name_of(policy.gate)} is a function of a call's arguments, and a loop over a Policy has none"
        raise TypeError(f"{rule}: call it, and loop over policy.replace(gate=...)")
    check_gate_fits(policy.gate, name, is_async=is_async)
    return name


def _block() -> None:
    """Stand in for the function of a call: a block has neither function nor arguments."""


loops.plain = _loop_of
loops.in_coroutine = _async_loop_of
register_module(__name__)
