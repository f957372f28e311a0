"""Retried blocks: a loop over a policy makes the attempts of a block of code.

Theory of operation. The loop yields an attempt, and the `with` statement in its body performs it. A block that succeeds
ends the loop. If another attempt follows an error, the error is dropped, and the loop waits before it yields that
attempt. Each loop has a `Call` of its own, which waits like that of a supervised function: in the event loop if the
loop is in an async function, otherwise in the thread. The call is named after the function and the line of the loop.

Three objects share the work: the attempt, the call and the iterator. A variable in the user's frame refers to the
attempt, and the attempt to the call. Only the running loop refers to the iterator, which is therefore deallocated when
the loop is left. The iterator's finalizer detects a `break` after a failed attempt; otherwise the error of that attempt
would be lost silently.
"""

from __future__ import annotations

import contextlib
import enum
import opcode
import sys
import time
import warnings
from types import FrameType
from typing import Any, ClassVar, final

from aiosupervise._events.listeners import listeners
from aiosupervise._policy.arguments import Arguments
from aiosupervise._policy.gate import check_gate_of_loop
from aiosupervise._policy.loops import loops
from aiosupervise._policy.policy import Policy, cannot_interrupt

from .attempt import BLOCKS
from .call import Call
from .frames import CONTEXTLIB, frame_outside, register_module
from .gates import GateLimit
from .limits import limit_of, now
from .retry import AsyncCall
from .thread import SyncCall

# The instructions with which a frame drops the iterator of a loop that it leaves without an exception. FOR_ITER drops
# an iterator that has ended, such as an `itertools.islice` of the attempts.
_POP = {opcode.opmap[name] for name in ("POP_TOP", "POP_ITER", "FOR_ITER") if name in opcode.opmap}

# A block has neither function nor arguments.
_NO_FUNCTION: Arguments = (type(None), (), {})


_Next = enum.Enum("_Next", "ATTEMPT WAIT ENTER LEAVE END")
"""The next step in a loop."""


class _Block(Call):
    """The call of one loop, with the limit that each attempt enters, and the next step."""

    __slots__ = ("limit", "next")

    code: ClassVar[str]
    end: ClassVar[type[Exception]]
    limit: Any

    def __init__(self, policy: Policy, frame: FrameType, started: float, *, is_async: bool) -> None:
        name = policy.name or f"{frame.f_code.co_name}:{frame.f_lineno}"
        check_gate_of_loop(policy.gate, name, is_async=is_async, repair=f"write {_AsyncBlock.code}")
        super().__init__(policy, name, started, _NO_FUNCTION)
        self.next = _Next.ATTEMPT

    def check_next(self) -> None:
        """Raise if no attempt follows, because the loop has ended or because its last attempt was never entered."""
        self.check_idle()
        if self.next in (_Next.ENTER, _Next.LEAVE):
            self.abandon()
            rule = "the attempt that a Policy yielded was not entered, so no other one follows"
            raise RuntimeError(f"{rule}: write {self.code}")
        if self.next is _Next.END:
            raise self.end

    def check_idle(self) -> None:
        """Raise if the loop is waiting: like a running generator, its iterator cannot be used by other code."""
        if self.next is _Next.WAIT:
            rule = f"{self.name} is waiting for its next attempt, so that its iterator cannot be used"
            raise RuntimeError(f"{rule}: cancel the task of the loop, or close the iterator in the body of the loop")

    def check_end(self) -> None:
        """End the loop if its call has ended; raise a RuntimeError if the final error would end the loop silently."""
        if self.final_error is not None:
            self.next = _Next.END
        if issubclass(type(self.final_error), self.end):
            what = f"{self.name} gave up on a {self.end.__name__}, by which a loop would end silently"
            raise RuntimeError(what) from self.take_final_error()  # noqa: TRY004 - as a generator does

    def abandon(self, error: BaseException | None = None) -> bool:
        """End the loop because of `error`, or because it was left; return whether an attempt's error is dropped."""
        is_over, self.next = self.next in (_Next.LEAVE, _Next.END), _Next.END
        if is_over or self.last_error is None:
            return False
        self.on_abandoned(self.last_error if error is None else error)
        return True


class _SyncBlock(_Block, SyncCall):
    """The call of a loop in synchronous code."""

    __slots__ = ()
    code = "`for attempt in policy:` and in it `with attempt:`"
    end = StopIteration


class _AsyncBlock(_Block, AsyncCall):
    """The call of a loop in an async function."""

    __slots__ = ()
    code = "`async for attempt in policy:` and in it `async with attempt:`"
    end = StopAsyncIteration


class _Attempt:
    """One attempt of a block. It keeps no reference to its own error, whose traceback refers to the attempt."""

    __slots__ = ("_block", "_frame", "_outer", "number", "previous_error")

    def __init__(self, block: Any) -> None:
        block.next = _Next.ENTER
        self._block = block
        self.number: int = block.attempts + 1
        self.previous_error: Exception | None = block.last_error

    @property
    def time_left(self) -> float | None:
        left: float | None = self._block.time_left()
        return left

    def __repr__(self) -> str:
        return f"<attempt {self.number} of {self._block.name}>"

    def _begin(self, frame: FrameType, kind: type[_Block]) -> Any:
        """Begin the attempt if the `with` statement suits its kind of block, and return the limit to enter."""
        block = self._block
        if type(block) is not kind:
            # Only an async function can mix the two kinds of statements.
            raise TypeError(f"`for` and `with` must both be async, or neither: write {_AsyncBlock.code}")
        if block.next is not _Next.ENTER or self.number != block.attempts + 1:
            rule = "an attempt is entered once, in the loop that yields it"
            raise RuntimeError(f"attempt {self.number} of {block.name} was entered twice, or has ended: {rule}")
        block.next = _Next.LEAVE
        block.begin()
        while frame.f_globals is CONTEXTLIB and frame.f_back is not None:
            # An ExitStack enters the attempt on behalf of the function that owns the stack.
            frame = frame.f_back
        self._frame = id(frame)
        self._outer = BLOCKS.get(self._frame)
        BLOCKS[self._frame] = block
        return block.limit

    def _end(self, error: BaseException | None, *, was_made: bool = True) -> bool:
        """Record how the attempt ended; return whether its error is dropped because another attempt follows."""
        if self._outer is None:
            del BLOCKS[self._frame]
        else:
            BLOCKS[self._frame] = self._outer
        block = self._block
        if not was_made or block.next is _Next.END:
            # No other attempt can follow. Either the loop was closed, or the limit could not be entered, which has to
            # raise because the body of a `with` statement cannot be skipped.
            block.policy = block.policy.replace(max_retries=0)
        block.next = _Next.END
        if error is None:
            if listeners.count or block.job is not None or block.policy.budget is not None:
                block.on_success()
        elif not issubclass(type(error), Exception):
            block.on_abandoned(error)
        else:
            try:
                block.on_failure(error)
            except BaseException as raised:
                # A function of the policy has raised.
                block.on_abandoned(raised)
                raise
            if block.final_error is None:
                block.next = _Next.ATTEMPT
                return True
        # The previous error may be the same object as the final one, whose traceback refers to this attempt.
        self.previous_error = None
        return False

    # This method is decorated with `final` because of mutation testing, which would insert a frame between the caller
    # and an undecorated function.
    @final
    def __enter__(self) -> None:
        limit = self._begin(sys._getframe(1), _SyncBlock)  # noqa: SLF001
        try:
            limit.__enter__()
        except BaseException as error:
            self._end(error, was_made=False)
            self._block.raise_final_error()
            raise

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        try:
            self._block.limit.__exit__(kind, error, traceback)
        except Exception as raised:
            error = raised
        except BaseException as raised:
            self._end(raised)
            raise
        is_dropped = self._end(error)
        # The traceback of the final error holds this frame.
        del error
        self._block.raise_final_error()
        return is_dropped

    @final
    async def __aenter__(self) -> None:
        limit = self._begin(sys._getframe(1), _AsyncBlock)  # noqa: SLF001
        try:
            await limit.__aenter__()
        except BaseException as error:
            self._end(error, was_made=False)
            self._block.raise_final_error()
            raise

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        try:
            await self._block.limit.__aexit__(kind, error, traceback)
        except Exception as raised:
            error = raised
        except BaseException as raised:
            self._end(raised)
            raise
        is_dropped = self._end(error)
        # As in `__exit__`.
        del error
        self._block.raise_final_error()
        return is_dropped


class _Loop:
    """The iterator of a loop of either kind."""

    __slots__ = ("_block",)

    def __init__(self, block: Any) -> None:
        self._block = block

    def __iter__(self) -> _Loop:
        return self

    __aiter__ = __iter__

    def __next__(self) -> _Attempt:
        block = self._block
        block.check_next()
        try:
            if block.last_error is not None:
                block.next = _Next.WAIT
                block.wait_to_retry(block.last_error)
        except BaseException as error:
            block.abandon(error)
            raise
        block.check_end()
        block.raise_final_error()
        return _Attempt(block)

    async def __anext__(self) -> _Attempt:
        block = self._block
        block.check_next()
        try:
            if block.last_error is not None:
                block.next = _Next.WAIT
                await block.wait_to_retry(block.last_error)
        except BaseException as error:
            block.abandon(error)
            raise
        block.check_end()
        block.raise_final_error()
        return _Attempt(block)

    def close(self) -> None:
        """End the loop; warn if this drops an error, unless an exception is being handled."""
        self._block.check_idle()
        if self._block.abandon() and sys.exception() is None:
            self._warn()

    async def aclose(self) -> None:
        self.close()

    @final
    def __del__(self) -> None:
        """Finish the call if the loop is left between two attempts, and warn if a `break` left it."""
        frame = sys._getframe().f_back  # noqa: SLF001
        # There is no frame when the interpreter shuts down.
        if self._block.abandon() and frame is not None and frame.f_code.co_code[frame.f_lasti] in _POP:
            self._warn()

    def _warn(self) -> None:
        block = self._block
        what = f"{block.name} was left after attempt {block.attempts} had failed, and before another one"
        repair = "leave the loop inside the `with`, or raise an error"
        warnings.warn(f"{what}, so that its error is lost: {repair}", RuntimeWarning, stacklevel=frame_outside()[1])


def _loop_of(policy: Policy, frame: FrameType) -> _Loop:
    if policy.attempt_timeout is not None:
        raise TypeError(cannot_interrupt("a loop that is not async", f"write {_AsyncBlock.code}"))
    block = _SyncBlock(policy, frame, time.monotonic(), is_async=False)
    block.limit = contextlib.nullcontext() if policy.gate is None else GateLimit(policy.gate, block.name)
    return _Loop(block)


def _async_loop_of(policy: Policy, frame: FrameType) -> _Loop:
    block = _AsyncBlock(policy, frame, now(), is_async=True)
    block.limit = limit_of(policy, block.name, (), {}, now())
    return _Loop(block)


loops.plain = _loop_of
loops.in_coroutine = _async_loop_of
register_module(__name__)
