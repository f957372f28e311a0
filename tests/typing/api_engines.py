"""Implements the protocol of engines, and never runs: mypy --strict and pyright read it."""

from collections.abc import Awaitable, Callable, Collection
from typing import Any, TypeVar, assert_type

from aiosupervise import Adaptive, Failure, Overload, Pending, Report, Stopped, Success, Tally, map_all
from aiosupervise.engines import Engine, EngineConfig, EngineContext, EngineRun

T = TypeVar("T")
I = TypeVar("I")  # noqa: E741 - the input of map_all


class Mine(EngineRun):
    def start_job(self, item: Any, index: int) -> None:
        context = self.context
        context.tally.running += 1
        context.record(Success(index, item, 1, 0.5, context.job_name(item, index), item))
        context.record(Failure(index, OSError(), 1, 0.5, None))
        context.record(context.pending(item, index, started=True))
        context.record(item, index)  # type: ignore[call-arg]

    def cancel(self, *, already_cancelled: bool) -> None:
        assert_type(already_cancelled, bool)
        self.context.wake()
        self.context.stop(Stopped.STOP)
        self.context.fail(OSError())
        self.context.fail(KeyboardInterrupt())
        self.context.fail("broken")  # type: ignore[arg-type]


class Lacking(EngineRun):
    def start_job(self, item: Any, index: int) -> None: ...


class MyEngine:
    def check(self, func: Callable[[Any], Awaitable[object]], inputs: Collection[object]) -> None: ...

    def start(self, context: EngineContext[T, I]) -> EngineRun:
        assert_type(context.config, EngineConfig[T, I])
        assert_type(context.config.func, Callable[[I], Awaitable[T]])
        assert_type(context.config.name, str)
        assert_type(context.config.limit, int | Adaptive | None)
        assert_type(context.config.overload, Overload | None)
        assert_type(context.tally, Tally)
        Lacking(context)  # type: ignore[abstract]
        return Mine(context)


class NotAnEngine:
    def check(self, func: Callable[[Any], Awaitable[object]], inputs: Collection[object]) -> None: ...


async def double(number: int) -> float:
    return 2.0 * number


def pending(context: EngineContext[float, int]) -> Pending[float, int]:
    return context.pending(1, 0, started=False)


async def engines(engine: Engine) -> None:
    assert_type(await map_all(double, [1], engine=MyEngine()), Report[float, int])
    assert_type(await map_all(double, [1], engine=engine), Report[float, int])
    await map_all(double, [1], engine=NotAnEngine())  # type: ignore[call-overload]
