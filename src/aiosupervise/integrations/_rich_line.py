"""The counts of one run, derived from its events, as the fields of its task in a `rich.progress.Progress`."""

from __future__ import annotations

import asyncio
from typing import Any

from rich.markup import escape
from rich.progress import TaskID

from aiosupervise._events.records import AttemptFailed, AttemptStarted, CallFinished, RunPaused, RunResumed, RunStarted


class RunLine:
    """The counts of one run.

    The same event may arrive twice, if the listener was added in two scopes, so sets of calls are kept instead of
    counts.

    Attributes:
        loop: the event loop of the run.
        task: the run's task in the Progress; set by the display.
        timer: triggers the next update; set by the display.
    """

    __slots__ = ("_name", "_pause", "_replayed", "_retrying", "_tally", "_waiting", "loop", "task", "timer")

    task: TaskID
    timer: asyncio.TimerHandle

    def __init__(self, event: RunStarted) -> None:
        self.loop = asyncio.get_running_loop()
        self._name = escape(event.name)
        self._tally = event.tally
        self._replayed = 0
        # The numbers of the calls whose retry is running, and of those that wait for a retry.
        self._retrying: set[int] = set()
        self._waiting: set[int] = set()
        # The loop's time at the end of the pause, and the reason.
        self._pause: tuple[float, str] | None = None

    def on_event(self, event: AttemptStarted | AttemptFailed | CallFinished | RunPaused | RunResumed) -> None:
        """Update the counts."""
        match event:
            case AttemptStarted(call=call, attempt=attempt):
                if attempt > 1:
                    self._waiting.discard(call)
                    self._retrying.add(call)
            case AttemptFailed(call=call, wait=wait):
                self._retrying.discard(call)
                if wait is not None:
                    self._waiting.add(call)
            case CallFinished(call=call):
                self._retrying.discard(call)
                self._waiting.discard(call)
            case RunPaused(seconds=seconds, why=why):
                self._pause = (self.loop.time() + seconds, why)
            case _:
                self._pause = None

    def finish(self) -> None:
        """Clear the fields that apply only to a run in progress, and stop the timer."""
        self.timer.cancel()
        self._pause = None
        self._retrying.clear()
        self._waiting.clear()

    def take_replayed(self) -> int:
        """Return how many jobs have been replayed since the previous call; they must not count towards the rate."""
        before, self._replayed = self._replayed, self._tally.replayed
        return self._replayed - before

    def task_fields(self, *, finished: bool = False) -> dict[str, Any]:
        """Return the arguments for `Progress.add_task` and `Progress.update`."""
        tally = self._tally
        done = tally.succeeded + tally.failed
        jobs = {"succeeded": tally.succeeded, "failed": tally.failed}
        others = {"pending": tally.pending, "retrying": len(self._retrying), "waiting": len(self._waiting)}
        counts = jobs | {word: count for word, count in others.items() if count}
        paused = self._pause_text()
        if tally.paused_groups:
            counts["group paused" if tally.paused_groups == 1 else "groups paused"] = tally.paused_groups
        status = ", ".join(f"{count} {word}" for word, count in counts.items()) + (f"; {paused}" if paused else "")
        return {
            "description": f"{self._name}: {status}",
            "completed": done,
            "total": done + tally.pending if finished and tally.total is None else tally.total,
            "name": self._name,
            "paused": paused,
            "status": status,
            **jobs,
            **others,
        }

    def _pause_text(self) -> str:
        if self._pause is None:
            return ""
        end, why = self._pause
        left = end - self.loop.time()
        return f"paused for {left:.1f} s, {why}" if left > 0 else f"probing, {why}"
