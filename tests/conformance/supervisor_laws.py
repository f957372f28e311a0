"""The rules that hold after any end of a supervisor, all of which `play_supervisor` checks."""

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterator
from contextlib import contextmanager, nullcontext
from types import TracebackType
from typing import Any, TypeAlias

from aiosupervise import (
    Child,
    ChildExited,
    ChildRestarted,
    ChildStarted,
    ChildStopped,
    Event,
    RestartsExceeded,
    Supervisor,
    listen,
)
from aiosupervise._supervisor.child_state import RestartType

from .laws import Make, _no_traces
from .loops import Steps, has_virtual_time, pause, perform, seconds

GRACE = 100  # ticks: a second, the shortest time between two cancellations
Scene: TypeAlias = Callable[["Watch"], Awaitable[object]]


class Watch:
    """Watches the supervisors of one caller: start children through it, `check` at the end."""

    def __init__(self, steps: Steps) -> None:
        # A supervisor in a child goes on restarting until it is stopped itself.
        self.nested = False
        self.escalated = False
        self._steps = steps
        self._task = _me()
        self._tasks = asyncio.all_tasks()
        self._names: set[str] = set()
        self._running: set[str] = set()
        self._broken_rules: list[str] = []
        self._refusals = 0
        self._signals = 0
        self._events: list[Event] = []

    # Parts of a scene.

    @staticmethod
    def grace() -> float:
        """Seconds for a clean-up; long enough never to expire where time is real."""
        return seconds(GRACE) if has_virtual_time() else 5.0

    def supervisor(self, strategy: Any, **options: Any) -> Supervisor:
        """A supervisor whose children restart after one tick."""
        return Supervisor(strategy=strategy, grace=self.grace(), backoff=[seconds(1)], **options)

    def send(self, number: signal.Signals) -> None:
        """Send this process a signal; from the second one on, children may be cancelled once more."""
        self._signals += 1
        signal.raise_signal(number)

    def start(
        self, sup: Supervisor, name: str, make: Make, restart: RestartType = "permanent", **limits: float
    ) -> Child:
        """Start a child whose starts and ends are recorded."""
        self._names.add(name)
        return sup.start(self._child, name, make, restart=restart, name=name, **limits)

    def start_nested(self, sup: Supervisor, func: Callable[[], Coroutine[object, None, object]]) -> Child:
        """Start a child that is a supervisor, whose grace covers those of its children."""
        self.nested = True
        return sup.start(func, grace=10 * self.grace())

    async def _child(self, name: str, make: Make) -> None:
        self._expect(name not in self._running, f"{name} runs twice")
        self._running.add(name)
        self._expect(self.nested or self._since_cancel() == 0, f"{name} was started after the cancel")
        refusals = self._refusals
        try:
            await make()
        finally:
            self._running.remove(name)
            # No local variable may hold the task: its error holds this frame.
            cancels = _me().cancelling()
            most = 1 + (self._refusals > refusals) + (self._signals > 1)
            self._expect(cancels <= most, f"{name} was cancelled {cancels} times")

    def _since_cancel(self) -> float:
        """Virtual time since the first cancel."""
        if self._steps.first_cancel is None or not has_virtual_time():
            return 0.0
        return asyncio.get_running_loop().time() - self._steps.first_cancel

    def _expect(self, holds: bool, rule: str) -> None:  # noqa: FBT001 - as `assert`, which would only fail the child
        if not holds:
            self._broken_rules.append(rule)

    def clean_up_slowly(self) -> Make:
        """A child that runs until it is cancelled; its clean-up of three steps must not be interrupted."""

        async def work() -> None:
            try:
                await pause(1000)
            except asyncio.CancelledError:
                await self._clean_up()
                raise

        return work

    async def _clean_up(self) -> None:
        try:
            for _ in range(3):
                await pause(2)
        except asyncio.CancelledError:
            self._broken_rules.append("a clean-up was interrupted")
            raise

    async def refuse(self) -> None:
        """A child that ends at its second cancellation only, which must not come before its grace is over."""
        loop = asyncio.get_running_loop()
        try:
            await pause(1000)
        except asyncio.CancelledError:
            first = loop.time()
            try:
                await pause(1000)
            except asyncio.CancelledError:
                self._refusals += 1
                self._expect(loop.time() - first >= self.grace() - 1e-9, "cancelled again before the grace was over")
                raise

    @contextmanager
    def refusals(self) -> Iterator[None]:
        """Check that each refusal is named in the log."""
        records: list[logging.LogRecord] = []
        handler = logging.Handler()
        handler.emit = records.append  # type: ignore[method-assign,assignment]
        logger = logging.getLogger("aiosupervise.supervisor")
        logger.addHandler(handler)
        try:
            yield
        finally:
            logger.removeHandler(handler)
        assert len([record for record in records if "is cancelled again" in record.msg]) == self._refusals

    def escalation(self) -> "_Escalation":
        """Let a supervisor escalate. A cancellation at the same time is raised by the next await."""
        return _Escalation(self)

    # Checks.

    def check(self) -> None:
        """Check every rule that holds when the caller has control again."""
        assert not self._broken_rules, self._broken_rules
        assert not self._running, "a child is still running"
        assert asyncio.all_tasks() == self._tasks, "tasks were left behind"
        assert self._task.cancelling() == self._steps.cancels, "the caller's cancels were miscounted"
        graces = len(self._names) * self.grace()
        assert self._since_cancel() <= graces + 1e-9, "the end took longer than all graces together"

    def on_event(self, event: Event) -> None:
        """Record an event."""
        self._events.append(event)

    def check_events(self) -> None:
        """Check that each start of a child emitted an event, followed by one for its end."""
        is_running: dict[tuple[int, str], bool] = {}
        for event in self._events:
            if isinstance(event, (ChildStarted, ChildRestarted, ChildExited, ChildStopped)):
                starts = isinstance(event, (ChildStarted, ChildRestarted))
                child = (event.supervisor, event.child)
                assert is_running.get(child, False) is not starts, "a start or an end was emitted twice"
                is_running[child] = starts
        assert not any(is_running.values()), "an end was not emitted"

    def clear(self) -> None:
        """Drop the events: their errors hold the frames of children, which hold this watch."""
        self._events.clear()


class _Escalation:
    """Catches the error of a supervisor that escalates; `except*` in a generator would leave it in a cycle."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if not isinstance(error, ExceptionGroup):
            return False
        self._watch.escalated = True
        return [type(one) for one in error.exceptions] == [RestartsExceeded]


def _me() -> asyncio.Task[object]:
    task = asyncio.current_task()
    assert task is not None
    return task


def play_supervisor(
    loop: asyncio.AbstractEventLoop, scene: Scene, cancel_at: Collection[int] = (), *, listened: bool = False
) -> Steps:
    """Play a scene on a loop, its caller cancelled at these steps, and check every rule of a clean end."""

    async def caller(steps: Steps) -> None:
        watch = Watch(steps)
        with listen(watch.on_event) if listened else nullcontext():
            try:
                await scene(watch)
            finally:
                watch.check()
                if listened:
                    watch.check_events()
                watch.clear()
            # Raises a cancellation that came with an escalation.
            await asyncio.sleep(0)

    with _no_traces(loop):
        return perform(loop, caller, cancel_at)
