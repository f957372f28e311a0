"""A service that does as it is told, and remembers what it saw, for tests of runs in trouble."""

import asyncio
from typing import Any, TypeAlias

from aiosupervise import Budget, Overload, Policy

POLICY = Policy(retry_on=ConnectionError, backoff=[0])

Answer: TypeAlias = tuple[float, Exception | None]
"""After so many seconds, this error, or none."""


class DownError(ConnectionError):
    """The service is down."""


class BusyError(ConnectionError):
    """The service asks to wait."""

    def __init__(self, retry_after: float) -> None:
        super().__init__()
        self.retry_after = retry_after


def now() -> float:
    """The loop's time, which begins at 0 for each test."""
    return asyncio.get_running_loop().time()


def down(seconds: float = 0.0) -> Answer:
    """The service is found to be down after so many seconds."""
    return seconds, DownError()


def busy(asked: float, seconds: float = 0.0) -> Answer:
    """After so many seconds the service asks to wait so many."""
    return seconds, BusyError(asked)


class Service:
    """Fails until it is back; or answers each number as its script says, and after that in `takes` seconds."""

    def __init__(self, *, back: float = 0.0, takes: float = 0.0, script: dict[int, list[Answer]] | None = None) -> None:
        self.attempts: list[tuple[float, int]] = []
        self.errors: dict[int, Exception] = {}
        self.running = 0
        self.tasks: dict[int, asyncio.Task[Any] | None] = {}
        self._back = back
        self._takes = takes
        self._script = {number: list(answers) for number, answers in (script or {}).items()}

    async def __call__(self, number: int) -> int:
        self.attempts.append((now(), number))
        self.tasks[number] = asyncio.current_task()
        script = self._script.get(number)
        seconds, error = script.pop(0) if script else (self._takes, None)
        self.running += 1
        try:
            await asyncio.sleep(seconds)
        finally:
            self.running -= 1
        if error is None and now() < self._back:
            error = DownError(number)
        if error is not None:
            self.errors[number] = error
            raise error
        return number

    def times(self, number: int) -> list[float]:
        """When this number was tried."""
        return [time for time, other in self.attempts if other == number]

    def numbers(self) -> list[int]:
        """Which numbers were tried, in order."""
        return [number for _, number in self.attempts]

    def between(self, start: float, end: float) -> list[int]:
        """Which numbers were tried after the one moment and before the other; sums of times are not exact."""
        return [number for time, number in self.attempts if start + 1e-5 < time < end - 1e-5]


def budget_of(tokens: int, **options: int) -> Budget:
    """A budget with so many tokens in it."""
    budget = Budget(**options)
    budget.tokens = tokens
    return budget


def empty(tokens: int = 0, **options: Any) -> Overload:
    """Protection with a budget that is empty, or nearly."""
    return Overload(budget=budget_of(tokens), **options)


def tokens_of(setting: Overload) -> int:
    """What is in its budget."""
    assert setting.budget is not None
    return setting.budget.tokens
