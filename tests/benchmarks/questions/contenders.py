"""One retry policy, said in the words of each library."""

import asyncio
import functools
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import aiosupervise

Func = Callable[..., Coroutine[Any, Any, Any]]


@dataclass(frozen=True, slots=True)
class Terms:
    """The settings for every library: the number of retries after a ConnectionError, the wait, and the deadline."""

    retries: int = 3
    wait: float = 0.0
    deadline: float | None = None


def bare(func: Func, terms: Terms) -> Func:  # noqa: ARG001
    """No retries at all: the floor."""
    return func


def handwritten(func: Func, terms: Terms) -> Func:
    """What people write themselves."""
    retries, wait = terms.retries, terms.wait

    @functools.wraps(func)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        for attempt in range(retries + 1):
            try:
                return await func(*args, **kwargs)
            except ConnectionError:
                if attempt == retries:
                    raise
                await asyncio.sleep(wait)
        return None

    return wrapper


def ours(func: Func, terms: Terms) -> Func:
    """This library."""
    decorate = aiosupervise.supervise(
        retry_on=ConnectionError,
        max_retries=terms.retries,
        backoff=[terms.wait],
        deadline=terms.deadline,
    )
    return decorate(func)


def backoff(func: Func, terms: Terms) -> Func:
    """The library backoff, without the log line that it would format at each retry."""
    lib = import_module("backoff")
    decorated: Func = lib.on_exception(
        lib.constant,
        ConnectionError,
        interval=terms.wait,
        jitter=None,
        logger=None,
        max_tries=terms.retries + 1,
        max_time=terms.deadline,
    )(func)
    return decorated


def tenacity(func: Func, terms: Terms) -> Func:
    """The library tenacity."""
    lib = import_module("tenacity")
    stop = lib.stop_after_attempt(terms.retries + 1)
    if terms.deadline is not None:
        stop |= lib.stop_after_delay(terms.deadline)
    decorated: Func = lib.retry(
        retry=lib.retry_if_exception_type(ConnectionError),
        wait=lib.wait_fixed(terms.wait),
        stop=stop,
        reraise=True,
    )(func)
    return decorated


def stamina(func: Func, terms: Terms) -> Func:
    """The library stamina, without the log line that it would write at each retry."""
    lib = import_module("stamina")
    lib.instrumentation.set_on_retry_hooks([])
    decorated: Func = lib.retry(
        on=ConnectionError,
        attempts=terms.retries + 1,
        timeout=terms.deadline,
        wait_initial=terms.wait,
        wait_max=terms.wait,
        wait_jitter=0,
    )(func)
    return decorated


_ALL: dict[str, Callable[[Func, Terms], Func]] = {
    "bare await": bare,
    "handwritten": handwritten,
    "aiosupervise": ours,
    "backoff": backoff,
    "tenacity": tenacity,
    "stamina": stamina,
}
LIBRARIES = ("backoff", "tenacity", "stamina")


def retriers() -> list[str]:
    """The names of those that retry and are installed, in the order of the tables' rows."""
    return [name for name in _ALL if name != "bare await" and (name not in LIBRARIES or find_spec(name))]


def everyone() -> list[str]:
    """The same, after the bare await."""
    return ["bare await", *retriers()]


def decorate(name: str, func: Func, terms: Terms) -> Func:
    """`func` under `terms`, by the contender called `name`."""
    return _ALL[name](func, terms)
