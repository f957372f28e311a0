"""Tools for testing code that retries: waits that take no time, scripted functions, and random faults."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Never, ParamSpec, TypeVar, final, overload
from unittest.mock import call

from ._call.no_waiting import NoWaiting, no_waits
from ._call.supervise import copy_metadata
from ._policy.checks import check_count, is_async_callable, kind_of, name_of, safe_repr

if TYPE_CHECKING:
    # The type of `call(...)` has no public name.
    from unittest.mock import _Call

__all__ = ["Faults", "Script", "ScriptEnded", "no_waiting", "script"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
E = TypeVar("E", bound=BaseException)
T_co = TypeVar("T_co", covariant=True)


def no_waiting(*, max_retries: int | None = None) -> AbstractContextManager[None, None]:
    """Return a context manager in which the waits of supervised calls and the pauses of runs take no time.

    All decisions are the same as in production: which errors are retried and how often, and when a call gives up
    because a retry-after is too long, a wait would end after the deadline, or the budget is empty. Only sleeping is
    skipped, so `attempt_timeout`, `deadline` and the run's `timeout` limit the time that the attempts themselves take.

    The effect is limited to the code in the block and to tasks started there. In nested blocks, the innermost block and
    its `max_retries` apply.

    It cannot be used as a decorator: the block around an async function would end before the function begins.

    Args:
        max_retries: an upper bound for the retries of each call, for policies that allow more or have no limit; 0 for
            no retries. A policy that allows fewer retries keeps its own limit, as do all policies if this is None.

    Raises:
        TypeError, ValueError: if `max_retries` is neither an integer of at least 0 nor None.
    """
    check_count("max_retries", max_retries, least=0, none="the limit of each policy")
    return _NoWaitingBlock(NoWaiting(max_retries))


class _NoWaitingBlock(AbstractContextManager[None, None]):
    """The context manager of `no_waiting`: it sets the rules on entry and restores the previous ones on exit."""

    # The previous rules are kept by value and not as a Token, because a Token is valid in only one context, and the
    # code after the `yield` of an async fixture can run in another context.

    __slots__ = ("_outer", "_rules")

    def __init__(self, rules: NoWaiting) -> None:
        self._rules = rules
        self._outer: list[NoWaiting | None] = []

    def __enter__(self) -> None:
        self._outer.append(no_waits.get())
        no_waits.set(self._rules)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        no_waits.set(self._outer.pop())


@final
class ScriptEnded(BaseException):
    """A `script` was called more often than it has steps: the test or the code under test is wrong.

    It is not an Exception, and therefore not an AssertionError: a policy with `retry_on=Exception` would retry it, and
    an `except Exception` in the code under test would hide it. Test runners report it like any other failure.

    Attributes:
        steps: the number of steps of the script.
        last: a call made after the last step, as a `unittest.mock.call` object.
    """

    def __init__(self, steps: int, last: _Call) -> None:
        super().__init__(steps, last)
        self.steps: int = steps
        self.last: _Call = last

    def __str__(self) -> str:
        has = "1 step, which was" if self.steps == 1 else f"{self.steps} steps, which were"
        repair = "give script(...) one for each call that you expect, retries included"
        return f"the script has {has} done when another call was made (see its `last`): {repair}"


@final
class Script(Generic[T_co]):
    """An async function that performs the steps of its script; create it with `script`.

    Its method `plain` is a plain function that performs the same steps.

    Attributes:
        calls: the arguments of each call, as `unittest.mock.call` objects, in the order in which the calls began:
            `assert fetch.calls == [call("a"), call("a", timeout=3)]`.
    """

    def __init__(self, steps: Iterable[BaseException | T_co]) -> None:
        # These names are hidden from type checkers. Otherwise `supervise` would appear to return a Script, but it
        # returns a function, which has no `calls`.
        vars(self).update(__name__="script", __qualname__="script")
        self.calls: list[_Call] = []
        self._steps = deque(steps)
        self._count = len(self._steps)

    async def __call__(self, *args: object, **kwargs: object) -> T_co:
        """Perform the next step: raise its error, or return its value.

        Raises:
            ScriptEnded: if there is no next step.

        """
        return self.plain(*args, **kwargs)

    def plain(self, *args: object, **kwargs: object) -> T_co:
        """Perform the next step; the synchronous counterpart of calling the script, for replacing a plain function."""
        self.calls.append(call(*args, **kwargs))
        if not self._steps:
            raise ScriptEnded(self._count, self.calls[-1])
        step = self._steps.popleft()
        if isinstance(step, BaseException):
            # `del` breaks the reference cycle between the error and this frame.
            try:
                raise step
            finally:
                del step
        return step

    def __repr__(self) -> str:
        return f"<script: {self._count - len(self._steps)} of {self._count} steps done>"


@overload
def script(*steps: type[BaseException] | BaseException) -> Script[Never]: ...
# Without E, pyright would include the errors in T.
@overload
def script(
    *steps: type[BaseException | E] | BaseException | T,
) -> Script[T]: ...
def script(*steps: object) -> Script[object]:
    """Return an async function that performs these steps in turn, one per call, and records its calls.

    It replaces a function that a test cannot call, such as one that sends a request. Pass the script to `supervise`,
    `run_all` or `map_all`, or patch the code under test with it. It accepts any arguments. To replace a plain function,
    use its method `plain`: `load = script(OSError, "text")`, then `supervise(policy)(load.plain)`.

    Args:
        steps: the results of the calls. An exception is raised: the given instance, or a new instance of the given
            class. Any other value is returned. Without steps, the first call raises `ScriptEnded`.

    Returns:
        A `Script`, whose attribute `calls` lists the recorded calls. A call after the last step raises `ScriptEnded`.

    Raises:
        TypeError: if an exception class requires arguments.
    """
    return Script(_instance(n, step) for n, step in enumerate(steps, 1))


@final
class Faults:
    """Injects faults into a function: a random but reproducible share of its calls fails.

    `faults = Faults(0.2, seed=1)`, then `fetch = supervise(policy)(faults(client.fetch))`. If a fault is injected into
    a call, the error is raised and the function is not called. Whether a call fails depends only on the seed and on the
    number of calls before it, so the same seed produces the same faults. Apply `Faults` inside `supervise`, as in this
    example: faults injected outside are not retried. Functions wrapped by the same `Faults` share its sequence of
    faults.

    Args:
        rate: the share of calls that fail, from 0 for no call to 1 for every call. With a higher rate, the calls that
            fail with a lower rate still fail, and further calls fail as well.
        errors: the errors to raise: a subclass of Exception, or a tuple of such classes, each of which is equally
            likely. Each fault raises a new instance, created without arguments, with a note that says that it was
            injected.
        seed: an integer of at least 0.

    Attributes:
        calls: the number of calls so far.
        injected: the number of injected faults so far.

    Raises:
        TypeError, ValueError: if an argument is invalid.
    """

    def __init__(
        self,
        rate: float,
        errors: type[Exception] | tuple[type[Exception], ...] = ConnectionError,
        *,
        seed: int,
    ) -> None:
        _check_rate(rate)
        check_count("seed", seed, least=0, none=None)
        self._rate = rate
        self._errors = _checked_errors(errors)
        self._seed = seed
        self._random = random.Random(seed)  # noqa: S311
        self.calls: int = 0
        self.injected: int = 0

    def __call__(self, func: Callable[P, R]) -> Callable[P, R]:
        """Return a wrapper that injects the faults into a function; it keeps name, docstring, signature and types.

        Args:
            func: an async or plain function or method, a partial of one, or an object with a `__call__`, as for
                `supervise`. It is the `__wrapped__` of the result.

        Raises:
            TypeError: for any other object.
        """
        _check_function(func)
        call: Callable[..., Any] = func

        async def flaky(*args: P.args, **kwargs: P.kwargs) -> object:
            self._draw()
            return await call(*args, **kwargs)

        def flaky_plain(*args: P.args, **kwargs: P.kwargs) -> object:
            self._draw()
            return call(*args, **kwargs)

        wrapper: Callable[..., Any] = flaky if is_async_callable(func) else flaky_plain
        return copy_metadata(wrapper, func)

    def _draw(self) -> None:
        """Count a call, and raise the fault that is injected into it, if any."""
        self.calls += 1
        # Every call draws two numbers, even if it does not fail, so a fault does not change the numbers that later
        # calls draw. Python guarantees the same sequence of random() in all its versions, but not that of choice():
        # https://docs.python.org/3/library/random.html#notes-on-reproducibility
        fails, which = self._random.random() < self._rate, self._random.random()
        if not fails:
            return
        self.injected += 1
        fault = self._errors[int(which * len(self._errors))]()
        fault.add_note(f"injected into call {self.calls} by {self._title()}")
        # `del` breaks the reference cycle between the error and this frame.
        try:
            raise fault
        finally:
            del fault

    def _title(self) -> str:
        return f"Faults({self._rate}, seed={self._seed})"

    def __repr__(self) -> str:
        return f"<{self._title()}: {self.injected} of {self.calls} calls failed>"


def _instance(n: int, step: object) -> object:
    """Return an instance of an exception class; return any other object unchanged."""
    if not isinstance(step, type) or not issubclass(step, BaseException):
        return step
    try:
        return step()
    except Exception as error:
        repair = f"give an instance, {step.__name__}(...)"
        raise TypeError(f"step {n} of the script cannot be created without arguments: {error}; {repair}") from error


def _check_function(func: object) -> None:
    if isinstance(func, Coroutine):
        func.close()
        name = name_of(func)
        raise TypeError(f"Faults wrap a function, not its call: faults({name}), without parentheses")
    if not callable(func) or isinstance(func, type):
        raise TypeError(f"Faults wrap a function; got {kind_of(func)}")


def _check_rate(rate: object) -> None:
    rule = "rate must be a number from 0 (no call fails) to 1 (every call fails)"
    if isinstance(rate, bool) or not isinstance(rate, (int, float)):
        raise TypeError(f"{rule}; got {safe_repr(rate)}")
    # The condition is written so that NaN also fails the check.
    if not 0 <= rate <= 1:
        raise ValueError(f"{rule}; got {safe_repr(rate)}")


def _checked_errors(errors: object) -> tuple[type[Exception], ...]:
    rule = "errors must be a subclass of Exception, or a tuple of them"
    if errors == ():
        raise ValueError(f"{rule}; the tuple is empty: for no faults, set the rate to 0")
    members: tuple[object, ...] = errors if isinstance(errors, tuple) else (errors,)
    return tuple(_checked_class(rule, member) for member in members)


def _checked_class(rule: str, member: object) -> type[Exception]:
    if isinstance(member, Exception):
        name = type(member).__name__
        raise TypeError(f"{rule}; got an instance: give the class {name}, since each fault raises a new instance")
    if not isinstance(member, type) or not issubclass(member, Exception):
        raise TypeError(f"{rule}; got {safe_repr(member)}")
    try:
        member()
    except Exception as error:
        repair = f"give a subclass of {member.__name__} that can"
        what = f"{member.__name__} cannot be created without arguments: {error}"
        raise TypeError(f"{rule}; {what}; {repair}") from error
    return member
