"""Stages that fetch and parse pages, and record when."""

import asyncio
from typing import Any

from aiosupervise import Run


def now() -> float:
    """Return the loop's time, which begins at 0 for each test."""
    return asyncio.get_running_loop().time()


class Stage:
    """The function of a stage: it takes some seconds, and fails for some of its inputs."""

    def __init__(self, name: str, seconds: float = 1, *, fails: Any = (), error: BaseException | None = None) -> None:
        self.name = name
        self.asked: list[Any] = []
        self.ended: list[tuple[float, Any]] = []
        self.cancelled: list[Any] = []
        self.running = 0
        self.most = 0
        self._seconds = seconds
        self._fails = fails
        self._error = error or LookupError(name)
        self.__name__ = name

    async def __call__(self, value: Any) -> str:
        self.asked.append(value)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(self._seconds)
        except asyncio.CancelledError:
            self.cancelled.append(value)
            raise
        finally:
            self.running -= 1
        self.ended.append((now(), value))
        if value in self._fails:
            raise self._error
        return f"{self.name} {value}"


def shown(outcomes: Any) -> list[str]:
    """Return the kind and the name of each outcome."""
    return [f"{type(outcome).__name__} {outcome.name}" for outcome in outcomes]


async def read_all(run: Run[Any, Any]) -> list[Any]:
    """Read a run to its end."""
    async with run:
        return [outcome async for outcome in run]
