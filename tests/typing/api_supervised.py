"""Supervised functions where only the exact type of the bare one fits; mypy --strict and pyright read it."""

import abc
import functools
from collections.abc import Awaitable, Callable, Coroutine
from typing import ParamSpec, Protocol, TypeVar, assert_type, overload

from aiosupervise import Policy, Supervisor, map_all, policy_of, run_all, supervise

P = ParamSpec("P")
T = TypeVar("T")

policy = Policy(retry_on=ConnectionError)
retried = supervise(policy)


# Protocols


class Fetches(Protocol):
    async def fetch(self, url: str, *, size: int = 1) -> bytes: ...


class OnFetched(Protocol):
    async def __call__(self, url: str, /) -> bytes: ...


class NamedCallback(Protocol):
    __name__: str

    async def __call__(self, url: str) -> bytes: ...


class Site:
    @supervise(retry_on=ConnectionError)
    async def fetch(self, url: str, *, size: int = 1) -> bytes:
        return url.encode() * size

    @classmethod
    @supervise(policy)
    async def open(cls, url: str) -> "Site":
        return cls() if url else Site()

    @staticmethod
    @supervise(policy)
    async def parse(page: bytes) -> str:
        return page.decode()


@supervise(policy)
async def fetch(url: str) -> bytes:
    return url.encode()


def protocols() -> None:
    site: Fetches = Site()
    on_fetched: OnFetched = fetch
    named: NamedCallback = fetch
    print(site, on_fetched, named)  # noqa: T201


async def methods() -> None:
    assert_type(await Site().fetch("url", size=2), bytes)
    assert_type(await Site.fetch(Site(), "url"), bytes)
    assert_type(await Site.open("url"), Site)
    assert_type(await Site().open("url"), Site)
    assert_type(await Site.parse(b"page"), str)
    assert_type(await Site().parse(b"page"), str)
    await Site().fetch(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] - arguments are checked
    await Site.open()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue] - and counted


# Abstract methods and overrides


class Storage(abc.ABC):
    @abc.abstractmethod
    async def load(self, key: str) -> bytes: ...

    async def save(self, key: str, value: bytes) -> None:
        print(key, value)  # noqa: T201

    @supervise(policy)
    async def delete(self, key: str) -> None:
        print(key)  # noqa: T201

    @supervise(policy)
    async def move(self, key: str) -> None:
        print(key)  # noqa: T201


class RemoteStorage(Storage):
    @supervise(policy)
    async def load(self, key: str) -> bytes:
        return key.encode()

    @supervise(policy)
    async def save(self, key: str, value: bytes) -> None: ...

    async def delete(self, key: str) -> None: ...

    @supervise(retry_on=OSError)
    async def move(self, key: str) -> None:
        await super().move(key)


async def overrides() -> None:
    storage: Storage = RemoteStorage()
    assert_type(await storage.load("key"), bytes)


# Overloads and generic functions


@overload
async def convert(value: str) -> int: ...
@overload
async def convert(value: bytes) -> float: ...
@supervise(policy)
async def convert(value: str | bytes) -> int | float:
    return len(value)


@supervise(policy)
async def first(values: list[T]) -> T:
    return values[0]


async def generics() -> None:
    assert_type(await convert("a"), int)
    assert_type(await convert(b"a"), float)
    assert_type(await first(["a"]), str)
    assert_type(await first([1]), int)


def logged(func: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[object, None, T]]:
    async def call(*args: P.args, **kwargs: P.kwargs) -> T:
        return await func(*args, **kwargs)

    return call


def retries(func: Callable[P, Coroutine[object, None, T]]) -> Callable[P, Coroutine[object, None, T]]:
    return supervise(policy)(func)


async def decorators() -> None:
    assert_type(await logged(fetch)("url"), bytes)
    assert_type(await retried(logged(fetch))("url"), bytes)
    assert_type(await retries(fetch)("url"), bytes)


# Other callables


class Fetcher:
    async def __call__(self, url: str, *, size: int = 1) -> bytes:
        return url.encode() * size


async def callables() -> None:
    assert_type(await retried(functools.partial(fetch, "url"))(), bytes)
    assert_type(await retried(Fetcher())("url", size=2), bytes)
    assert_type(await retried(Site().fetch)("url", size=2), bytes)
    assert_type(await retried(Site.open)("url"), Site)
    assert_type(policy_of(retried(Fetcher())), Policy)
    assert_type(policy_of(Site.open), Policy)
    on_fetched: OnFetched = retried(Fetcher())
    print(on_fetched)  # noqa: T201


def refused() -> None:
    retried(3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType] - no function
    supervise(retry_on=OSError, retries=3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue] - no such keyword


# Where they are passed


async def passed() -> None:
    assert_type((await map_all(fetch, ["url"])).values(), list[bytes])
    assert_type((await map_all(Site().fetch, ["url"])).values(), list[bytes])
    assert_type((await run_all([fetch("url")])).values(), list[bytes])
    async with Supervisor() as supervisor:
        supervisor.start(fetch, "url")
        supervisor.start(Site().fetch, "url")


# Plain functions


class Reads(Protocol):
    def read(self, path: str, *, size: int = 1) -> bytes: ...


class OnRead(Protocol):
    def __call__(self, path: str, /) -> bytes: ...


class Disk:
    @supervise(retry_on=OSError)
    def read(self, path: str, *, size: int = 1) -> bytes:
        return path.encode() * size

    @classmethod
    @supervise(policy)
    def open(cls) -> "Disk":
        return cls()

    @staticmethod
    @supervise(policy)
    def parse(page: bytes) -> str:
        return page.decode()


class Reader:
    def __call__(self, path: str, *, size: int = 1) -> bytes:
        return path.encode() * size


@overload
def turn(value: str) -> int: ...
@overload
def turn(value: bytes) -> float: ...
@supervise(policy)
def turn(value: str | bytes) -> int | float:
    return len(value)


@retried
def last(values: list[T]) -> T:
    return values[-1]


def plain_functions() -> None:
    disk: Reads = Disk()
    on_read: OnRead = retried(Reader())
    print(disk, on_read)  # noqa: T201
    assert_type(Disk().read("path", size=2), bytes)
    assert_type(Disk.open(), Disk)
    assert_type(Disk.parse(b"page"), str)
    assert_type(turn("a"), int)
    assert_type(turn(b"a"), float)
    assert_type(last(["a"]), str)
    assert_type(retried(functools.partial(Disk().read, "path"))(), bytes)
    assert_type(retried(Reader())("path", size=2), bytes)
    assert_type(policy_of(Disk.open), Policy)
    Disk().read(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] - arguments are checked
