"""For tests of code that retries: waits that take no time, functions that fail on cue, and faults by chance."""

from __future__ import annotations

import inspect
import random
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Generic, Never, ParamSpec, TypeVar, final, overload
from unittest.mock import call

from ._call.no_waiting import NoWaiting, no_waits
from ._call.supervise import dress
from ._policy.checks import check_count, is_async_callable, name_of, shown

if TYPE_CHECKING:
    from unittest.mock import _Call  # the type of `call(...)`, which has no public name

__all__ = ["Faults", "Script", "ScriptEnded", "no_waiting", "script"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
E = TypeVar("E", bound=BaseException)
T_co = TypeVar("T_co", covariant=True)


def no_waiting(*, max_retries: int | None = None) -> AbstractContextManager[None, None]:
    """Let the waits of supervised calls and the pauses of runs take no time, inside of a `with` block.

    All decisions stay those of production: what is retried and how often, a retry-after that is too long, a wait that
    would end after the deadline, a budget that is empty. Only the sleeping is left out, so `attempt_timeout`,
    `deadline` and the run's `timeout` bound what really takes time: the attempts.

    It holds for the block's own code and for the tasks that are started in it, not for tasks from before or from
    elsewhere. Of blocks inside each other the innermost rules, its `max_retries` too.

    It is no decorator: around an async function that would end before the function begins.

    Args:
        max_retries: the most retries that a call makes, also where its policy allows more, or has no limit; 0 for
            none at all. None leaves it to the policy. A policy that allows fewer is not changed.

    Raises:
        TypeError, ValueError: if `max_retries` is no int of at least 0 and not None.

    """
    check_count("max_retries", max_retries, least=0, none="what the policy says")
    return _Block(NoWaiting(max_retries))


class _Block(AbstractContextManager[None, None]):
    """Sets the rules on entering and puts the ones before back on leaving; it can be entered again."""

    # What was set before is kept by value, not as a Token: the end of an async fixture can run in another context.

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
    """A `script` was called once more than it has steps: the test, or the code that it tests, is wrong.

    It is not an Exception, and so no AssertionError either: a policy with `retry_on=Exception` would retry it, and an
    `except Exception` in the tested code would hide it. Test runners report it like any other failure.

    Attributes:
        steps: how many steps the script has.
        last: the call that was too many, as `unittest.mock.call`.

    """

    def __init__(self, steps: int, last: _Call) -> None:
        super().__init__(steps, last)
        self.steps: int = steps
        self.last: _Call = last

    def __str__(self) -> str:
        has = "1 step, which was" if self.steps == 1 else f"{self.steps} steps, which were"
        repair = "give script(...) one for each call that you expect, retries included"
        return f"the script has {has} done when {self.last!r} came: {repair}"


@final
class Script(Generic[T_co]):
    """An async function that does the steps of its script, as `script` makes it.

    Attributes:
        calls: what it was called with, as `unittest.mock.call` objects, in the order in which the calls began:
            `assert fetch.calls == [call("a"), call("a", timeout=3)]`.

    """

    def __init__(self, steps: Iterable[BaseException | T_co]) -> None:
        self.__name__ = self.__qualname__ = "script"
        self.calls: list[_Call] = []
        self._steps = deque(steps)
        self._count = len(self._steps)

    async def __call__(self, *args: object, **kwargs: object) -> T_co:
        """Do the next step: raise its error, or return its value.

        Raises:
            ScriptEnded: if no step is left.

        """
        self.calls.append(call(*args, **kwargs))
        if not self._steps:
            raise ScriptEnded(self._count, self.calls[-1])
        step = self._steps.popleft()
        if isinstance(step, BaseException):
            try:
                raise step
            finally:
                del step  # or error and frame would keep each other alive
        return step

    def __repr__(self) -> str:
        return f"<script: {self._count - len(self._steps)} of {self._count} steps done>"


@overload
def script(*steps: type[BaseException] | BaseException) -> Script[Never]: ...
@overload
def script(*steps: type[BaseException | E] | BaseException | T) -> Script[T]: ...  # without E, T has it for pyright
def script(*steps: object) -> Script[object]:
    """Make an async function that does these steps in turn, one for each call, and records its calls.

    It takes the place of what a test cannot reach, such as a server: give it to `supervise`, `run_all` or `map_all`,
    or put it where the code under test looks for its function. It takes any arguments.

    Args:
        steps: an exception is raised: an instance as it is, a class without arguments. Anything else is returned.
            No steps at all make a function that must not be called.

    Returns:
        A `Script`, whose `calls` tells what it was called with. A call after the last step raises `ScriptEnded`.

    Raises:
        TypeError: for a class that cannot be made without arguments.

    """
    return Script(_ready(n, step) for n, step in enumerate(steps, 1))


@final
class Faults:
    """Lets some of the calls of an async function fail, at random but always the same ones.

    `faults = Faults(0.2, seed=1)`, then `fetch = supervise(policy)(faults(client.fetch))`. A call that is to fail
    raises before the function is called. Which ones those are depends on the seed and on how many calls began before,
    on nothing else: the same seed brings the same faults. Put it inside of `supervise`, as above: outside of it,
    nothing would retry the faults. Functions inside of one `Faults` share its sequence.

    Args:
        rate: the share of the calls that fail, from 0 for none to 1 for all. A higher rate lets the same calls fail,
            and others too.
        errors: what they raise: a subclass of Exception, or a tuple of them, each as often as the others. Each fault
            raises a new one, made without arguments, with a note that says that it was injected.
        seed: any int of at least 0.

    Attributes:
        calls: how many calls began so far.
        injected: how many of them were made to fail.

    Raises:
        TypeError, ValueError: for an argument that makes no sense.

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
        self._random = random.Random(seed)  # noqa: S311 - no secret
        self.calls: int = 0
        self.injected: int = 0

    def __call__(self, func: Callable[P, Coroutine[object, None, R]]) -> Callable[P, Coroutine[object, None, R]]:
        """Put the faults around an async function; it keeps name, docstring, signature and types.

        Args:
            func: what `supervise` takes: an async function or method, a partial of one, or an object with an async
                `__call__`. The result's `__wrapped__` is the bare one.

        Raises:
            TypeError: for anything else.

        """
        _check_function(func)

        async def flaky(*args: P.args, **kwargs: P.kwargs) -> R:
            if (fault := self._draw()) is not None:
                try:
                    raise fault
                finally:
                    del fault  # or error and frame would keep each other alive
            return await func(*args, **kwargs)

        return dress(flaky, func)

    def _draw(self) -> Exception | None:
        """Decide about the next call."""
        self.calls += 1
        # Two numbers for each call, whatever comes of it: so neither the rate nor the errors shift what comes later.
        # Python keeps the sequence of random() from version to version, but not that of choice().
        fails, which = self._random.random() < self._rate, self._random.random()
        if not fails:
            return None
        self.injected += 1
        fault = self._errors[int(which * len(self._errors))]()
        fault.add_note(f"injected into call {self.calls} by {self._title()}")
        return fault

    def _title(self) -> str:
        return f"Faults({self._rate}, seed={self._seed})"

    def __repr__(self) -> str:
        return f"<{self._title()}: {self.injected} of {self.calls} calls failed>"


def _ready(n: int, step: object) -> object:
    """Return an error for its class, and anything else as it is."""
    if not isinstance(step, type) or not issubclass(step, BaseException):
        return step
    try:
        return step()
    except Exception as error:
        repair = f"give an instance, {step.__name__}(...)"
        raise TypeError(f"step {n} of the script cannot be made without arguments: {error}; {repair}") from error


def _check_function(func: object) -> None:
    if is_async_callable(func):
        return
    if inspect.iscoroutine(func):
        func.close()
        name = name_of(func)
        raise TypeError(f"Faults go around an async function, not its call: faults({name}), without parentheses")
    title = name_of(func) if callable(func) else repr(func)
    raise TypeError(f"Faults go around an async function; {title} is not: write `async def`")


def _check_rate(rate: object) -> None:
    rule = "rate must be a number from 0, no call fails, to 1, every call fails"
    if isinstance(rate, bool) or not isinstance(rate, (int, float)):
        raise TypeError(f"{rule}; got {shown(rate)}")
    if not 0 <= rate <= 1:  # False for NaN
        raise ValueError(f"{rule}; got {shown(rate)}")


def _checked_errors(errors: object) -> tuple[type[Exception], ...]:
    rule = "errors must be a subclass of Exception, or a tuple of them"
    if errors == ():
        raise ValueError(f"{rule}; the tuple is empty: for no faults, write rate 0")
    members: tuple[object, ...] = errors if isinstance(errors, tuple) else (errors,)
    return tuple(_checked_class(rule, member) for member in members)


def _checked_class(rule: str, member: object) -> type[Exception]:
    if isinstance(member, Exception):
        name = type(member).__name__
        raise TypeError(f"{rule}; got {member!r}: give the class {name}, each fault raises a new error")
    if not isinstance(member, type) or not issubclass(member, Exception):
        raise TypeError(f"{rule}; got {shown(member)}")
    try:
        member()
    except Exception as error:
        repair = f"give a subclass of {member.__name__} that can"
        raise TypeError(f"{rule}, and {member.__name__} cannot be made without arguments: {error}; {repair}") from error
    return member
