"""The libraries that retry a call, each said to retry in its own words, the best that its documentation has."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import import_module
from typing import Any
from unittest import mock

import aiosupervise

from .answers import Library, by_hand

Func = Callable[..., Coroutine[Any, Any, Any]]
Isolation = tuple[bool, bool, str]
"Whether each call's decisions are its own; whether what is reported of it is, too; what was seen."


@dataclass(frozen=True, slots=True)
class Terms:
    """What is retried, how often, and in what time."""

    on: Any = ConnectionError
    retries: int = 2
    wait: float = 0.0
    deadline: float | None = None


class BadResultError(Exception):
    """Stands for a result that is not good enough."""


class Retrier(Library):
    """What probes ask of a library that retries."""

    def decorated(self, func: Callable[..., Any], terms: Terms) -> Any:
        """Decorate a function."""
        raise NotImplementedError

    def retry(self, func: Callable[..., Any], **terms: Any) -> Any:
        """Decorate a function, for most of the time with the same terms."""
        return self.decorated(func, Terms(**terms))

    def by_default(self, func: Func) -> Any:
        """Decorate with the fewest settings: two attempts, no wait."""
        return self.retry(func, retries=1)

    @by_hand
    async def block(self, lines: Func) -> Any:
        """Retry some lines in the middle of a function: by hand, an inner function."""

        @self.retry
        async def inner() -> Any:
            return await lines()

        return await inner()

    @by_hand
    def retry_result(self, func: Func, bad: Any) -> Any:
        """Retry while the result is bad: by hand, raise an error of one's own."""

        async def raising_if_bad() -> Any:
            if (result := await func()) == bad:
                raise BadResultError
            return result

        return self.retry(raising_if_bad, on=BadResultError)

    @by_hand
    async def call_within(self, func: Func, seconds: float) -> Any:
        """Bound the whole call by hand."""
        async with asyncio.timeout(seconds):
            return await self.retry(func)()

    @by_hand
    def retry_timed(self, func: Func, seconds: float) -> Any:
        """Bound each attempt by hand."""

        async def timed() -> Any:
            async with asyncio.timeout(seconds):
                return await func()

        return self.retry(timed, on=TimeoutError)

    def retry_after(self, func: Func) -> Any:
        """Wait as many seconds as the error's `retry_after` says."""
        raise NotImplementedError

    @by_hand
    def retry_paid(self, func: Func, retries: int) -> Any:
        """Share a budget of this many retries among all calls: by hand, a predicate that counts."""
        left = retries

        def paid(error: BaseException) -> bool:
            nonlocal left
            if not isinstance(error, ConnectionError) or left == 0:
                return False
            left -= 1
            return True

        return self.retry(func, on=paid, retries=10)

    @by_hand
    def retry_outermost(self, func: Func) -> Any:
        """Let one layer retry: by hand, mark the error that a layer has given up on."""
        retried = self.retry(func, on=lambda error: isinstance(error, ConnectionError) and not hasattr(error, "marked"))

        async def marking() -> Any:
            try:
                return await retried()
            except ConnectionError as error:
                error.marked = True  # type: ignore[attr-defined]
                raise

        return marking

    @by_hand
    def retry_groups(self, func: Func) -> Any:
        """Retry an ExceptionGroup if each of its leaves is a ConnectionError."""
        return self.retry(func, on=all_leaves_transient)

    async def isolation(self) -> Isolation:
        """Run two calls of one function at a time."""
        raise NotImplementedError

    def count_in_prometheus(self) -> tuple[AbstractContextManager[None], Callable[[Func], Func], str]:
        """Give what is to be entered, how to decorate, and the name of the counter of retries."""
        raise NotImplementedError

    def without_waiting(self, func: Func) -> Awaitable[Any]:
        """Call a function that waits for minutes as a test would."""
        raise NotImplementedError


def all_leaves_transient(error: BaseException) -> bool:
    """A predicate that a user writes to classify a group by its leaves."""
    if isinstance(error, BaseExceptionGroup):
        return all(all_leaves_transient(leaf) for leaf in error.exceptions)
    return isinstance(error, ConnectionError)


class Aiosupervise(Retrier):
    """Ours."""

    name = package = module = "aiosupervise"

    def decorated(self, func: Callable[..., Any], terms: Terms) -> Any:
        return aiosupervise.supervise(
            retry_on=terms.on, max_retries=terms.retries, backoff=[terms.wait], deadline=terms.deadline
        )(func)

    async def block(self, lines: Func) -> Any:
        async for attempt in aiosupervise.Policy(retry_on=ConnectionError, backoff=[0]):
            async with attempt:
                result = await lines()
        return result

    async def call_within(self, func: Func, seconds: float) -> Any:
        return await self.retry(func, deadline=seconds)()

    def retry_timed(self, func: Func, seconds: float) -> Any:
        return aiosupervise.supervise(retry_on=ConnectionError, backoff=[0], attempt_timeout=seconds)(func)

    def retry_after(self, func: Func) -> Any:
        return self.retry(func)

    def retry_paid(self, func: Func, retries: int) -> Any:
        budget = aiosupervise.Budget(capacity=retries, cost=1)
        return aiosupervise.supervise(retry_on=ConnectionError, backoff=[0], budget=budget)(func)

    def retry_groups(self, func: Func) -> Any:
        return self.retry(func)

    async def isolation(self) -> Isolation:
        reported: list[tuple[str, int]] = []

        async def call(name: str, failures: int) -> None:
            await asyncio.sleep(0)
            now = aiosupervise.attempt().number
            if now <= failures:
                raise ConnectionError
            reported.append((name, now))

        func = self.retry(call)
        await asyncio.gather(func("a", 2), func("b", 0))
        good = sorted(reported) == [("a", 3), ("b", 1)]
        return good, good, "attempt() and the events give each call its own number"

    def count_in_prometheus(self) -> tuple[AbstractContextManager[None], Callable[[Func], Func], str]:
        prometheus = import_module("aiosupervise.integrations.prometheus")
        return aiosupervise.listen(prometheus.Metrics()), self.retry, "aiosupervise_retries_total"

    async def without_waiting(self, func: Func) -> Any:
        with import_module("aiosupervise.testing").no_waiting():
            return await self.retry(func, wait=300.0)()


class Tenacity(Retrier):
    """tenacity."""

    name = package = module = "tenacity"

    def __init__(self) -> None:
        self.lib = import_module("tenacity")

    def decorated(self, func: Callable[..., Any], terms: Terms) -> Any:
        stop = self.lib.stop_after_attempt(terms.retries + 1)
        if terms.deadline is not None:
            stop |= self.lib.stop_after_delay(terms.deadline)
        wait = self.lib.wait_fixed(terms.wait)
        return self.lib.retry(retry=self._when(terms.on), wait=wait, stop=stop, reraise=True)(func)

    def _when(self, on: Any) -> Any:
        is_type = isinstance(on, (type, tuple))
        return self.lib.retry_if_exception_type(on) if is_type else self.lib.retry_if_exception(on)

    def by_default(self, func: Func) -> Any:
        return self.lib.retry(stop=self.lib.stop_after_attempt(2))(func)

    async def block(self, lines: Func) -> Any:
        async for attempt in self.lib.AsyncRetrying(stop=self.lib.stop_after_attempt(3), reraise=True):
            with attempt:
                result = await lines()
        return result

    def retry_result(self, func: Func, bad: Any) -> Any:
        is_bad = self.lib.retry_if_result(lambda result: result == bad)
        return self.lib.retry(retry=is_bad, stop=self.lib.stop_after_attempt(3))(func)

    def retry_after(self, func: Func) -> Any:
        wait = self.lib.wait_exception(lambda error: error.retry_after)
        return self.lib.retry(wait=wait, stop=self.lib.stop_after_attempt(3))(func)

    async def isolation(self) -> Isolation:
        attempts = {"a": 0, "b": 0}
        seen: dict[str, int] = {}

        async def call(name: str, failures: int) -> None:
            attempts[name] += 1
            await asyncio.sleep(0)
            seen[name] = func.statistics["attempt_number"]
            if attempts[name] <= failures:
                raise ConnectionError

        func = self.retry(call)
        await asyncio.gather(func("a", 2), func("b", 0))
        own = attempts == {"a": 3, "b": 1}
        counted = f"two calls of 3 and 1 attempts: `statistics` counted {seen['a']} and {seen['b']}"
        return own, seen == attempts, counted

    @by_hand
    def count_in_prometheus(self) -> tuple[AbstractContextManager[None], Callable[[Func], Func], str]:
        counter = import_module("prometheus_client").Counter("by_hand_tenacity", "retries")
        decorate = self.lib.retry(stop=self.lib.stop_after_attempt(3), before_sleep=lambda _: counter.inc())
        return contextlib.nullcontext(), decorate, "by_hand_tenacity_total"

    @by_hand
    async def without_waiting(self, func: Func) -> Any:
        return await self.retry(func, wait=300.0).retry_with(wait=self.lib.wait_none())()


class Stamina(Retrier):
    """stamina."""

    name = package = module = "stamina"

    def __init__(self) -> None:
        self.lib = import_module("stamina")
        self.lib.instrumentation.set_on_retry_hooks([])  # it would log every retry

    def decorated(self, func: Callable[..., Any], terms: Terms) -> Any:
        waits = {"wait_initial": terms.wait, "wait_max": terms.wait, "wait_jitter": 0}
        return self.lib.retry(on=terms.on, attempts=terms.retries + 1, timeout=terms.deadline, **waits)(func)

    async def block(self, lines: Func) -> Any:
        async for attempt in self.lib.retry_context(on=ConnectionError, attempts=3, wait_initial=0, wait_jitter=0):
            with attempt:
                result = await lines()
        return result

    def retry_after(self, func: Func) -> Any:
        return self.retry(func, on=lambda error: error.retry_after)

    async def isolation(self) -> Isolation:
        """A hook may return a context manager, which is open while its call waits for the retry."""
        attempts = {"a": 0, "b": 0}
        waiting: list[str] = []

        @contextlib.contextmanager
        def waits(name: str) -> Iterator[None]:
            waiting.append(name)
            yield
            waiting.remove(name)

        async def call(name: str, failures: int) -> None:
            attempts[name] += 1
            if attempts[name] <= failures:
                raise ConnectionError

        with self._hooked(lambda details: waits(details.args[0])):
            func = self.retry(call, wait=30.0)
            first = asyncio.ensure_future(func("a", 1))
            await asyncio.sleep(0.001)
            before = waiting.copy()
            await func("b", 0)
            kept = before == waiting == ["a"]
            first.cancel()
            await asyncio.wait({first})
        seen = f"a hook's context manager, open while its call waits, {'stays open' if kept else 'is exited'}"
        return attempts == {"a": 1, "b": 1}, kept, f"{seen} when another call begins"

    @contextlib.contextmanager
    def _hooked(self, *hooks: Any) -> Iterator[None]:
        self.lib.instrumentation.set_on_retry_hooks(hooks)
        try:
            yield
        finally:
            self.lib.instrumentation.set_on_retry_hooks([])

    def count_in_prometheus(self) -> tuple[AbstractContextManager[None], Callable[[Func], Func], str]:
        hook = import_module("stamina.instrumentation").PrometheusOnRetryHook
        return self._hooked(hook), self.retry, "stamina_retries_total"

    async def without_waiting(self, func: Func) -> Any:
        with self.lib.set_testing(testing=True, attempts=10, cap=True):
            return await self.retry(func, wait=300.0)()


class Backoff(Retrier):
    """python-backoff, whose module is `backoff`."""

    name = package = "python-backoff"
    module = "backoff"

    def __init__(self) -> None:
        self.lib = import_module("backoff")

    def decorated(self, func: Callable[..., Any], terms: Terms) -> Any:
        is_type = isinstance(terms.on, (type, tuple))
        judge: Any = {} if is_type else {"giveup": lambda error: not terms.on(error)}
        times = {"interval": terms.wait, "max_time": terms.deadline}
        return self._on(terms.on if is_type else Exception, terms.retries, **times, **judge)(func)

    def _on(self, types: Any, retries: int = 2, **settings: Any) -> Callable[[Func], Func]:
        wait = settings.pop("wait_gen", self.lib.constant)
        decorate: Callable[[Func], Func] = self.lib.on_exception(
            wait, types, max_tries=retries + 1, jitter=None, logger=None, **settings
        )
        return decorate

    async def block(self, lines: Func) -> Any:
        settings = {"max_tries": 3, "interval": 0, "jitter": None, "logger": None}
        async for attempt in self.lib.aretry_context(ConnectionError, self.lib.constant, **settings):
            with attempt:
                result = await lines()
        return result

    def retry_result(self, func: Func, bad: Any) -> Any:
        settings = {"max_tries": 3, "interval": 0, "jitter": None, "logger": None}
        return self.lib.on_predicate(self.lib.constant, lambda result: result == bad, **settings)(func)

    def retry_after(self, func: Func) -> Any:
        return self._on(ConnectionError, wait_gen=self.lib.runtime, value=lambda error: error.retry_after)(func)

    async def isolation(self) -> Isolation:
        attempts = {"a": 0, "b": 0}
        reported: dict[str, int] = {}

        async def call(name: str, failures: int) -> None:
            attempts[name] += 1
            await asyncio.sleep(0)
            if attempts[name] <= failures:
                raise ConnectionError

        def keep(details: Any) -> None:
            reported[details["args"][0]] = details["tries"]

        func = self._on(ConnectionError, interval=0, on_success=keep)(call)
        await asyncio.gather(func("a", 2), func("b", 0))
        own = {"a": 3, "b": 1}
        return attempts == own, reported == own, "the handlers' details give each call its own number"

    @by_hand
    def count_in_prometheus(self) -> tuple[AbstractContextManager[None], Callable[[Func], Func], str]:
        counter = import_module("prometheus_client").Counter("by_hand_backoff", "retries")
        decorate = self._on(ConnectionError, interval=0, on_backoff=lambda _: counter.inc())
        return contextlib.nullcontext(), decorate, "by_hand_backoff_total"

    @by_hand
    async def without_waiting(self, func: Func) -> Any:
        with mock.patch("asyncio.sleep", mock.AsyncMock()):
            return await self.retry(func, wait=300.0)()


RETRIERS: tuple[type[Retrier], ...] = (Aiosupervise, Tenacity, Stamina, Backoff)
