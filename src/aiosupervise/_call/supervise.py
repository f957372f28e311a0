"""The `supervise` decorator: it checks its arguments, chooses a wrapper, and copies the function's metadata to it.

`policy_of` returns the policy of a supervised function.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Coroutine
from types import CoroutineType
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, overload

from aiosupervise._policy.checks import inner_function, is_async_callable, kind_of, name_of
from aiosupervise._policy.gate import check_gate_fits
from aiosupervise._policy.policy import Policy, RetryOn, cannot_interrupt
from aiosupervise._policy.record import field_names

from .retry import Coro
from .wrappers import wrap_limited, wrap_limited_sync, wrap_plain, wrap_plain_sync

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from aiosupervise._policy.policy import PolicyOptions

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

# Decorators whose results are not functions. They belong above `supervise`.
_DESCRIPTORS = (classmethod, staticmethod, property, functools.cached_property)

# All functions that one of these decorators returns share one code object.
_CONTEXT_MANAGERS: tuple[Any, ...] = (contextlib.contextmanager(iter), contextlib.asynccontextmanager(aiter))


class _NamedFunction(Protocol[P, R_co]):
    """A function or method, for type checkers: a callable that has a name."""

    @property
    def __name__(self) -> str: ...

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...


F = TypeVar("F", bound=_NamedFunction[..., object])


class Decorator(Protocol):
    """The return type of `supervise(...)`, for type checkers.

    A function keeps its exact type, so that it satisfies the same protocols, can implement or override the same
    methods, and is bound in the same way. Other callables, such as partials and objects, become functions.
    """

    @overload
    def __call__(self, func: F, /) -> F: ...
    @overload
    def __call__(self, func: Callable[P, Coro[R]], /) -> Callable[P, CoroutineType[object, None, R]]: ...
    @overload
    def __call__(self, func: Callable[P, R], /) -> Callable[P, R]: ...


@overload
def supervise(policy: Policy) -> Decorator: ...
@overload
def supervise(*, retry_on: RetryOn, **options: Unpack[PolicyOptions]) -> Decorator: ...
def supervise(*args: object, **options: object) -> object:  # noqa: D417
    """Return a decorator that calls a function under a policy and retries transient errors, but not irrecoverable ones.

    The caller gets the function's return value, or its last error with a note that lists the failed attempts
    (`verdict(error)`). Errors that the policy does not list pass through unchanged, as do cancellation and exit.

    Args:
        policy: a `Policy`, which several functions can share. Alternatively, pass the keywords of `Policy` here:
            `retry_on`, `irrecoverable`, `max_retries`, `backoff`, `attempt_timeout`, `deadline`, `max_retry_after`,
            `budget`, `gate`, `name`. Only `retry_on` is required.

    Returns:
        A decorator for functions and methods, `async def` or plain, bound or unbound, for partials of them, and for
        objects with a `__call__`. The result keeps name, docstring, signature and types. Its attribute `policy` is the
        policy, and `__wrapped__` the undecorated function. A plain function waits with `time.sleep`, cannot have an
        `attempt_timeout`, and requires a synchronous context manager as its `gate`.

    Raises:
        TypeError, ValueError: at decoration, if an argument is invalid or the decorated object cannot be supervised;
            the message shows the correct code.
    """
    policy = _make_policy(args, options)

    def decorate(func: Callable[P, Any]) -> Callable[P, Any]:
        is_async = _check_function(policy, func)
        limits = (policy.attempt_timeout, policy.deadline, policy.budget, policy.gate)
        is_limited = any(limit is not None for limit in limits)
        wrap: Callable[..., Callable[P, Any]]
        if is_async:
            wrap = wrap_limited if is_limited else wrap_plain
        else:
            wrap = wrap_limited_sync if is_limited else wrap_plain_sync
        name = policy.name or name_of(func)
        wrapper = copy_metadata(wrap(policy, name, func), func)
        wrapper.__dict__["policy"] = policy
        return wrapper

    return decorate


def policy_of(func: Callable[..., object]) -> Policy:
    """Return the policy of a supervised function.

    It is also the function's `policy` attribute, but type checkers do not know this attribute, because a supervised
    function has the type of the original function.

    Args:
        func: a supervised function, or a bound method or partial of one.

    Raises:
        TypeError: if the function is not supervised.
    """
    function = inner_function(func)
    # Only functions are considered, because another object may use an attribute of this name for its own purposes.
    policy = vars(function).get("policy") if inspect.isfunction(function) else None
    if not isinstance(policy, Policy):
        raise TypeError(
            f"policy_of takes a supervised function, and {name_of(func)} has no policy: "
            f"decorate it, @supervise(retry_on=...)"
        )
    return policy


def copy_metadata(wrapper: Callable[P, R], func: Callable[P, R]) -> Callable[P, R]:
    """Copy the name, docstring, signature and attributes of a function to its wrapper, and return the wrapper."""
    source = inner_function(func)
    if inspect.isfunction(source):
        functools.update_wrapper(wrapper, source)
    else:
        # The attributes of an object with a __call__ are not copied, because they are its state.
        functools.update_wrapper(wrapper, func, updated=())
        wrapper.__name__ = wrapper.__qualname__ = name_of(source)
    wrapper.__dict__["__wrapped__"] = func
    return wrapper


def _make_policy(args: tuple[object, ...], options: dict[str, object]) -> Policy:
    if "policy" in options:
        args += (options.pop("policy"),)
    if not args:
        if "retry_on" not in options:
            raise TypeError("supervise needs retry_on, the transient errors: @supervise(retry_on=ConnectionError)")
        _check_keywords(options)
        make_policy: Callable[..., Policy] = Policy
        return make_policy(**options)
    if len(args) == 1 and isinstance(args[0], Policy):
        if options:
            changes = ", ".join(f"{name}=..." for name in options)
            raise TypeError(f"supervise takes a policy or keywords, not both: supervise(policy.replace({changes}))")
        return args[0]
    if callable(args[0]):
        name = name_of(args[0])
        raise TypeError(f"@supervise needs its policy first: @supervise(retry_on=ConnectionError) above {name}")
    given = ", ".join(map(kind_of, args))
    raise TypeError(f"supervise takes one Policy, or keywords: supervise(retry_on=...); got {given}")


def _check_keywords(options: dict[str, object]) -> None:
    known = field_names(Policy)
    for name in options:
        if name not in known:
            raise TypeError(f"supervise has no keyword {name}; it has {', '.join(known)}")


def _check_function(policy: Policy, func: object) -> bool:
    """Raise unless the function can be supervised under this policy; return whether it is async."""
    rule = "supervise takes a function"
    inner = inner_function(func)
    if isinstance(inner, functools.partialmethod):
        name = name_of(inner.func)
        raise TypeError(
            f"{rule}, not a partialmethod: supervise {name}, and write functools.partialmethod({name}, ...)"
        )
    is_async = is_async_callable(func)
    if not is_async:
        _check_plain_function(rule, func, inner)
    name = name_of(inner)
    repair = f"write `async def {name}`"
    if policy.attempt_timeout is not None and not is_async:
        raise TypeError(cannot_interrupt(f"the plain function {name}", repair))
    check_gate_fits(policy.gate, name, is_async=is_async, repair=repair)
    return is_async


def _check_plain_function(rule: str, func: object, inner: object) -> None:
    name = name_of(inner)
    if isinstance(func, Coroutine):
        func.close()
        raise TypeError(f"{rule}, not its call: supervise(...)({name}), without the parentheses after {name}")
    if isinstance(inner, _DESCRIPTORS):
        kind = type(inner).__name__
        # Before Python 3.13, a property has no name of its own.
        name = name_of(inner.fget if isinstance(inner, property) else getattr(inner, "func", inner))
        raise TypeError(f"{rule}: put @{kind} above @supervise(...), not below it, for {name}")
    if isinstance(inner, type):
        raise TypeError(f"{rule}, not a class: put @supervise(...) on the methods of {name}")
    if any(getattr(inner, "__code__", None) is each.__code__ for each in _CONTEXT_MANAGERS):
        raise TypeError(
            f"{rule}, not the context manager {name}, which runs after its call has returned: supervise the calls that "
            f"it makes"
        )
    call = type(inner).__call__
    if inspect.isasyncgenfunction(inner) or inspect.isasyncgenfunction(call) or inspect.isasyncgen(inner):
        raise TypeError(
            f"{rule}, not the async generator {name}, which runs after its call has returned: supervise the calls that "
            f"it makes, or retry a block in it: `async for attempt in policy:` and in it `async with attempt:`"
        )
    if inspect.isgeneratorfunction(inner) or inspect.isgeneratorfunction(call) or inspect.isgenerator(inner):
        raise TypeError(
            f"{rule}, not the generator {name}, which runs after its call has returned: supervise the calls that it "
            f"makes, or retry a block in it: `for attempt in policy:` and in it `with attempt:`"
        )
    if not callable(inner):
        raise TypeError(f"{rule}; got {kind_of(func)}")
