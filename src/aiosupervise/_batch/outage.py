"""One outage of the service behind a run, from the opening of the circuit until it closes."""

from __future__ import annotations

from .circuit import Circuit

# The maximum number of times that a pause is doubled, so that its length cannot overflow.
_DOUBLINGS = 60


class Outage:
    """The data that the circuit keeps between the pauses of one outage.

    Attributes:
        failed_probes: the number of probes that have failed in a row.
    """

    def __init__(self, circuit: Circuit) -> None:
        self.failed_probes = 0
        self._circuit = circuit
        # The number of jobs when the circuit opened.
        self._running = circuit.protected.running
        self._overdue = set[object]()

    def seconds_to_pause(self) -> float:
        """Return the length of the next pause: twice that of the previous one, up to the longest."""
        setting = self._circuit.setting
        return min(setting.first_pause * 2.0 ** min(self.failed_probes, _DOUBLINGS), setting.longest_pause)

    def admits_job(self, taken: int) -> bool:
        """Return whether a new job may start as the probe, given the number of occupied slots.

        A job whose call waits in the queue makes no attempt, and an overdue probe is considered lost, so neither counts
        towards the limit. But at most `probes` jobs may exist beyond the limit, or beyond the number of jobs that were
        running when the circuit opened if an adaptive limit has since shrunk below that number.
        """
        limit = self._circuit.protected.limit
        if limit is None:
            return True
        attempting = taken - self._circuit.waiters.count_jobs() - len(self._overdue)
        return attempting < limit and taken < max(limit, self._running) + self._circuit.setting.probes

    def add_overdue(self, probe: object) -> None:
        """Record a probe that continues although it was counted as failed."""
        self._overdue.add(probe)

    def is_overdue(self, who: tuple[object, ...]) -> bool:
        """Return whether any of these calls or jobs is an overdue probe."""
        return not self._overdue.isdisjoint(who)

    def forget(self, who: tuple[object, ...]) -> None:
        """Forget overdue probes that have ended."""
        self._overdue.difference_update(who)
