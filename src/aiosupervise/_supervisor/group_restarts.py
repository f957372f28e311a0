"""Group restarts, under one_for_all and rest_for_one: the members of a group are stopped and started in order.

Theory of operation. A group restart is a sequence: the members are stopped, the group waits for the backoff, and the
members are started. There is at most one sequence at a time, and every failure merges into it:

- While members are being stopped, one at a time in reverse start order, a failure of a member is absorbed: it causes no
  other restart.
- A failure of another child extends the group, as does a failure while the group waits.
- A failure while members are being started restarts the sequence.

A member that does not stop delays only its group, and the members before it keep running until they are stopped in
order. A member that was stopped or restarted by a command has left the group; if it is still being stopped when the
sequence reaches it, the group waits for its end.

When members are started, a member with `ready=` must be ready before the next member starts. A new child joins the
group if a member or the child itself must become ready.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial

from .child_state import ChildState, Purpose
from .lifecycle import Lifecycle
from .steps import Steps


class GroupRestarts:
    """The group restarts of one supervisor.

    Args:
        lifecycle: starts and stops children.
        steps: runs each change as one step.
        group_of: returns the group of a child, in start order.

    """

    def __init__(
        self,
        lifecycle: Lifecycle,
        steps: Steps,
        group_of: Callable[[ChildState], list[ChildState]],
    ) -> None:
        self._lifecycle = lifecycle
        self._steps = steps
        self._group_of = group_of
        # The members that will be started, in start order; the dict is used as an ordered set.
        self._members: dict[ChildState, None] = {}
        self._to_stop: list[ChildState] = []
        self._to_start: deque[ChildState] = deque()
        # The member that must be ready before the next one is started.
        self._awaited: ChildState | None = None
        # Whether new children wait for members of the group.
        self._has_ready = False
        self._is_stopping_next = False
        # The delay of the restart, and whether it is logged.
        self._delay: float
        self._is_logged: bool
        self._timer: asyncio.TimerHandle | None = None

    # The methods of the protocol `Restarts`.

    def add(self, child: ChildState) -> None:
        """Start a new child, or queue it behind members that must become ready first.

        A child that must itself become ready also joins the group, because it would delay the members if it were
        started before them.
        """
        if self._awaited is not None or (self._members and (self._has_ready or child.spec.ready is not None)):
            self._has_ready = self._has_ready or child.spec.ready is not None
            self._members[child] = None
            if not self._to_stop and self._timer is None:
                self._to_start.append(child)
        else:
            self._start(child)

    def absorbs(self, child: ChildState) -> bool:
        """Return whether a child that has failed belongs to a group whose members are being stopped."""
        return bool(self._to_stop) and child in self._members

    def restart(self, child: ChildState, delay: float) -> None:
        """Begin the restart of the group of a failed child, or extend the one in progress."""
        is_starting = not self._to_stop and self._timer is None
        self._delay = delay if is_starting else max(delay, self._delay)
        self._is_logged = child.is_restart_logged or (not is_starting and self._is_logged)
        # The members are in start order.
        first = min(child, next(iter(self._members), child), key=lambda member: member.position)
        self._reset()
        group = self._group_of(first)
        self._members = dict.fromkeys(member for member in group if not _is_commanded(member))
        for member in self._members:
            member.is_restart_logged = self._is_logged
        self._has_ready = any(member.spec.ready is not None for member in group)
        self._to_stop = group
        self._stop_next()

    def leave(self, child: ChildState) -> None:
        """Remove a child from the group."""
        self._members.pop(child, None)
        if not self._members and not self._to_stop:
            self._cancel_timer()

    def advance(self, child: ChildState) -> None:
        """Continue if the group waits for the end of this child, or for it to become ready."""
        if self._to_stop:
            if self._to_stop[-1] is child:
                self._stop_next()
        elif self._awaited is child:
            # The step is deferred to the next iteration of the loop, so that a child that becomes ready and fails in
            # the same iteration does not let the next child start.
            self._lifecycle.loop.call_soon(
                self._steps.run, partial(self._continue_starting, child), context=self._lifecycle.context
            )

    def close(self) -> None:
        """Cancel the restart in progress, and begin no other."""
        self._reset()
        self._members = {}

    # The sequence.

    def _reset(self) -> None:
        self._to_stop = []
        self._to_start.clear()
        self._awaited = None
        self._cancel_timer()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _stop_next(self) -> None:
        # The loop below stops members, which may call this method again.
        if self._is_stopping_next:
            return
        self._is_stopping_next = True
        try:
            while (member := self._next_to_stop()) is not None and self._is_down(member):
                self._to_stop.pop()
                if member in self._members and not member.is_alive:
                    self._lifecycle.enter(member, "waiting")
        finally:
            self._is_stopping_next = False
        if not self._to_stop:
            self._wait()

    def _next_to_stop(self) -> ChildState | None:
        """Return the next member to stop, after handling its end if it has ended."""
        while self._to_stop:
            member = self._to_stop[-1]
            # If a child has left the group and is running again, its failure is handled separately, after the sequence.
            if member in self._members:
                self._lifecycle.catch_up(member)
            # Handling an end may have extended the group, or stopped the supervisor.
            if self._to_stop and self._to_stop[-1] is member:
                return member
        return None

    def _is_down(self, member: ChildState) -> bool:
        """Return whether a member has ended or has left the group; if it is running, begin to stop it."""
        if member in self._members and member.task is not None and member.state != "stopping":
            self._lifecycle.stop(member, Purpose.GROUP)
        return member.state != "stopping"

    def _wait(self) -> None:
        self._members = {member: None for member in self._members if member.state == "waiting"}
        if self._members:
            call = partial(self._steps.run, self._start_all)
            self._timer = self._lifecycle.loop.call_later(self._delay, call, context=self._lifecycle.context)

    def _start_all(self) -> None:
        self._timer = None
        self._to_start.extend(self._members)
        self._start_next()

    def _start_next(self) -> None:
        while self._to_start and self._awaited is None:
            member = self._to_start.popleft()
            if member in self._members:
                del self._members[member]
                self._start(member)

    def _start(self, member: ChildState) -> None:
        if member.spec.ready is not None:
            self._awaited = member
        self._lifecycle.start(member, again=member.has_run)

    def _continue_starting(self, child: ChildState) -> None:
        if self._awaited is not child or child.state in ("starting", "waiting", "stopping"):
            return
        if child.state == "running" and child.task is not None and child.task.done():
            return
        self._awaited = None
        self._start_next()


def _is_commanded(child: ChildState) -> bool:
    """Return whether a command determines the next state of a child that is being or has just been stopped."""
    purpose = child.purpose if child.ending is None else child.ending.purpose
    return purpose in (Purpose.STOP, Purpose.RESTART)
