"""`supervise`: the decorator. It checks, picks a wrapper of `_call`, and makes it look like the function."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Concatenate, ParamSpec, Protocol, TypeVar, overload

from aiosupervise._policy.checks import innermost, is_async_callable, name_of
from aiosupervise._policy.policy import Options, Policy, RetryOn

from .retry import Coro, guarded, plain

if TYPE_CHECKING:
    from typing import Self

    from typing_extensions import Unpack

P = ParamSpec("P")
Rest = ParamSpec("Rest")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
S = TypeVar("S")


class Supervised(Protocol[P, R_co]):
    """A function under a policy, as `supervise` returns it: called and bound as a method just as before."""

    @property
    def policy(self) -> Policy:
        """The policy it is called under."""
        ...

    @property
    def __wrapped__(self) -> Callable[P, Coroutine[object, None, R_co]]:
        """The bare function."""
        ...

    @property
    def __name__(self) -> str:
        """The name of the function, taken from inside partials and methods."""
        ...

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[object, None, R_co]:
        """Call the function under its policy."""
        ...

    @overload
    def __get__(self, instance: None, owner: type, /) -> Self: ...
    @overload
    def __get__(
        self: Supervised[Concatenate[S, Rest], R_co], instance: S, owner: type | None = None, /
    ) -> Supervised[Rest, R_co]: ...


@overload
def supervise(policy: Policy, /) -> Callable[[Callable[P, Coro[R]]], Supervised[P, R]]: ...
@overload
def supervise(
    *, retry_on: RetryOn, **options: Unpack[Options]
) -> Callable[[Callable[P, Coro[R]]], Supervised[P, R]]: ...
def supervise(*args: object, **options: object) -> object:  # noqa: D417 - Policy describes the keywords
    """Put a policy on an async function: retry what is transient, give up at once on what is irrecoverable.

    The caller gets what the function returns, or the function's own last error, with a note that tells what was
    tried (`verdict(error)`). An error that the policy does not list passes through untouched, and so do
    cancellation and exit.

    Args:
        policy: a `Policy` to share; or give its keywords here:
            `retry_on`, `irrecoverable`, `max_retries`, `backoff`, `attempt_timeout`, `deadline`, `max_retry_after`,
            `budget`, `gate`, `name`. `Policy` says what each means; only `retry_on` has no default.

    Returns:
        A decorator for `async def` functions and methods, bound or not, partials of them, and objects with an async
        `__call__`. The result keeps name, docstring, signature and types; its `policy` is the policy, its
        `__wrapped__` the bare function.

    Raises:
        TypeError, ValueError: at decoration, for an argument that makes no sense, or a thing that cannot be
            supervised; the text shows the right code.

    """
    policy = _policy_of(args, options)

    def decorate(func: Callable[P, Coro[R]]) -> Callable[P, Coro[R]]:
        _check_function(func)
        limits = (policy.attempt_timeout, policy.deadline, policy.budget, policy.gate)
        wrap = plain if all(limit is None for limit in limits) else guarded
        name = policy.name or name_of(func)
        wrapper = dress(wrap(policy, name, func), func)
        wrapper.__dict__["policy"] = policy
        return wrapper

    return decorate


def dress(wrapper: Callable[P, Coro[R]], func: Callable[P, Coro[R]]) -> Callable[P, Coro[R]]:
    """Make the wrapper look like the function that it wraps."""
    source = innermost(func)
    if inspect.isfunction(source):
        functools.update_wrapper(wrapper, source)
    else:  # an object with an async __call__, whose attributes are its own
        functools.update_wrapper(wrapper, func, updated=())
        wrapper.__name__ = wrapper.__qualname__ = name_of(source)
    wrapper.__dict__["__wrapped__"] = func
    return wrapper


def _policy_of(args: tuple[object, ...], options: dict[str, object]) -> Policy:
    if not args:
        if "retry_on" not in options:
            raise TypeError("supervise needs retry_on, what is transient: @supervise(retry_on=ConnectionError)")
        _check_keywords(options)
        return Policy(**options)  # type: ignore[arg-type]  # Policy checks each
    if len(args) == 1 and isinstance(args[0], Policy):
        if options:
            changes = ", ".join(f"{name}=..." for name in options)
            raise TypeError(f"supervise takes a policy or keywords, not both: supervise(policy.replace({changes}))")
        return args[0]
    if callable(args[0]):
        name = name_of(args[0])
        raise TypeError(f"@supervise needs its policy first: @supervise(retry_on=ConnectionError) above {name}")
    raise TypeError(f"supervise takes one Policy, or keywords: supervise(retry_on=...); got {args!r}")


def _check_keywords(options: dict[str, object]) -> None:
    known = [field.name for field in dataclasses.fields(Policy)]
    for name in options:
        if name not in known:
            raise TypeError(f"supervise has no keyword {name}; it has {', '.join(known)}")


def _check_function(func: object) -> None:
    rule = "supervise takes an async function"
    if is_async_callable(func):
        return
    inner = innermost(func)
    name = name_of(inner)
    if inspect.iscoroutine(func):
        func.close()
        raise TypeError(f"{rule}, not its call: supervise(...)({name}), without the parentheses after {name}")
    if isinstance(inner, (classmethod, staticmethod)):
        kind = type(inner).__name__
        raise TypeError(f"{rule}: put @{kind} above @supervise(...), not below it, for {name}")
    if isinstance(inner, type):
        raise TypeError(f"{rule}, not a class: put @supervise(...) on the async methods of {name}")
    if inspect.isasyncgenfunction(inner) or inspect.isasyncgen(inner):
        raise TypeError(f"{rule}, not the async generator {name}: supervise the calls that it makes")
    if callable(inner):
        raise TypeError(f"{rule}, and {name} is a plain function: write `async def {name}`")
    raise TypeError(f"{rule}; got {func!r}")
