"""A scripted service that records its attempts, for tests of overload protection."""

import asyncio
from typing import Any, TypeAlias

from aiosupervise import Budget, Overload, Policy

POLICY = Policy(retry_on=ConnectionError, backoff=[0])

Answer: TypeAlias = tuple[float, Exception | None]
"""Seconds that an attempt takes, and the error that it ends with, or None."""


class DownError(ConnectionError):
    """The service is down."""


class BusyError(ConnectionError):
    """The service asks to wait."""

    def __init__(self, retry_after: float) -> None:
        super().__init__()
        self.retry_after = retry_after


def now() -> float:
    """Return the loop's time, which begins at 0 for each test."""
    return asyncio.get_running_loop().time()


def down(seconds: float = 0.0) -> Answer:
    """Return the answer of a service that is down, after this many seconds."""
    return seconds, DownError()


def busy(asked: float, seconds: float = 0.0) -> Answer:
    """Return the answer of a service that, after `seconds`, asks for a wait of `asked` seconds."""
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
        """Return the times at which this number was tried."""
        return [time for time, other in self.attempts if other == number]

    def numbers(self) -> list[int]:
        """Return the numbers that were tried, in order."""
        return [number for _, number in self.attempts]

    def between(self, start: float, end: float) -> list[int]:
        """Return the numbers that were tried after `start` and before `end`; sums of times are not exact."""
        return [number for time, number in self.attempts if start + 1e-5 < time < end - 1e-5]


def budget_of(tokens: int, **options: int) -> Budget:
    """Return a budget with this many tokens."""
    budget = Budget(**options)
    budget.tokens = tokens
    return budget


def empty(tokens: int = 0, **options: Any) -> Overload:
    """Return an Overload whose budget has this many tokens, by default none."""
    return Overload(budget=budget_of(tokens), **options)


def tokens_of(setting: Overload) -> int:
    """Return the number of tokens in its budget."""
    assert setting.budget is not None
    return setting.budget.tokens
