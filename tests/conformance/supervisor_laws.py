"""The rules that hold after any end of a supervisor, whatever ended it, checked by one function: `play_supervisor`."""

import asyncio
import warnings
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

GRACE = 8  # ticks
Scene: TypeAlias = Callable[["Watch"], Awaitable[object]]


class Watch:
    """Watches the supervisors of one caller: start their children with it, and `check` when control is back."""

    def __init__(self, steps: Steps) -> None:
        self.nested = False  # a supervisor in a child goes on until its turn to be stopped has come
        self.escalated = False
        self._steps = steps
        self._task = _me()
        self._tasks = asyncio.all_tasks()
        self._names: set[str] = set()
        self._running: set[str] = set()
        self._wrong: list[str] = []
        self._refused = 0
        self._heard: list[Event] = []

    # What a scene is made of.

    @staticmethod
    def grace() -> float:
        """Seconds for a clean-up; where time is real, enough to be never over."""
        return seconds(GRACE) if has_virtual_time() else 5.0

    def supervisor(self, strategy: Any, **options: Any) -> Supervisor:
        """A supervisor whose children restart after one tick."""
        return Supervisor(strategy=strategy, grace=self.grace(), backoff=[seconds(1)], **options)

    def start(self, sup: Supervisor, name: str, make: Make, restart: RestartType = "permanent") -> Child:
        """Start a child that is known to have started and to have ended."""
        self._names.add(name)
        return sup.start(self._child, name, make, restart=restart, name=name)

    def start_nested(self, sup: Supervisor, func: Callable[[], Coroutine[object, None, object]]) -> Child:
        """Start a child that is a supervisor: its grace is enough for those of its children."""
        self.nested = True
        return sup.start(func, grace=10 * self.grace())

    async def _child(self, name: str, make: Make) -> None:
        self._claim(name not in self._running, f"{name} runs twice")
        self._running.add(name)
        self._claim(self.nested or self._since_cancel() == 0, f"{name} was started after the cancel")
        refused = self._refused
        try:
            await make()
        finally:
            self._running.remove(name)
            cancels = _me().cancelling()  # of a task that no local variable may hold: its error holds this frame
            self._claim(cancels <= 1 + (self._refused > refused), f"{name} was cancelled {cancels} times")

    def _since_cancel(self) -> float:
        """Virtual time since the first cancel."""
        if self._steps.first_cancel is None or not has_virtual_time():
            return 0.0
        return asyncio.get_running_loop().time() - self._steps.first_cancel

    def _claim(self, holds: bool, what: str) -> None:  # noqa: FBT001 - as `assert`, which would only end the child
        if not holds:
            self._wrong.append(what)

    def clean_up_slowly(self) -> Make:
        """A child that runs until it is cancelled, and takes three more steps, which must not be cut short."""

        async def work() -> None:
            try:
                await pause(100)
            except asyncio.CancelledError:
                await self._clean_up()
                raise

        return work

    async def _clean_up(self) -> None:
        try:
            for _ in range(3):
                await pause(2)
        except asyncio.CancelledError:
            self._wrong.append("a clean-up was cut short")
            raise

    async def refuse(self) -> None:
        """A child that ends only when it is cancelled for the second time, which must not be before its grace."""
        loop = asyncio.get_running_loop()
        try:
            await pause(100)
        except asyncio.CancelledError:
            first = loop.time()
            try:
                await pause(100)
            except asyncio.CancelledError:
                self._refused += 1
                self._claim(loop.time() - first >= self.grace() - 1e-9, "cancelled again before the grace was over")
                raise

    @contextmanager
    def refusals(self) -> Iterator[None]:
        """Check that who refuses is warned of, each time."""
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            yield
        assert ["still running" in str(warning.message) for warning in warned] == [True] * self._refused

    def escalation(self) -> "_Escalation":
        """Let a supervisor give up. A cancel that has come as well is told by the next await."""
        return _Escalation(self)

    # What is checked.

    def check(self) -> None:
        """Check every rule that holds at the moment in which control returns."""
        assert not self._wrong, self._wrong
        assert not self._running, "a child is still under way"
        assert asyncio.all_tasks() == self._tasks, "tasks were left behind"
        assert self._task.cancelling() == self._steps.cancels, "the caller's cancels were miscounted"
        graces = len(self._names) * self.grace()
        assert self._since_cancel() <= graces + 1e-9, "the end took longer than all graces together"

    def hear(self, event: Event) -> None:
        """Listen to what happens, if somebody is to."""
        self._heard.append(event)

    def check_events(self) -> None:
        """Check that each start of a child was told, then its end, and that no start is without its end."""
        is_running: dict[tuple[int, str], bool] = {}
        for event in self._heard:
            if isinstance(event, (ChildStarted, ChildRestarted, ChildExited, ChildStopped)):
                starts = isinstance(event, (ChildStarted, ChildRestarted))
                child = (event.supervisor, event.child)
                assert is_running.get(child, False) is not starts, "a start or an end was told twice"
                is_running[child] = starts
        assert not any(is_running.values()), "an end was not told"

    def let_go(self) -> None:
        """Forget what was heard: errors hold the frames of the children, and those this watch."""
        self._heard.clear()


class _Escalation:
    """Catches what a supervisor raises that gives up; `except*` in a generator would leave the error in a cycle."""

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
        with listen(watch.hear) if listened else nullcontext():
            try:
                await scene(watch)
            finally:
                watch.check()
                if listened:
                    watch.check_events()
                watch.let_go()
            await asyncio.sleep(0)  # which tells of a cancel that came with an escalation

    with _no_traces(loop):
        return perform(loop, caller, cancel_at)
