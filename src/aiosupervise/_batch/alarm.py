"""The end of a loop's wait when a signal comes.

Python calls the handler of a signal between two of its own steps. A loop that was just about to wait, or whose signal
went to another thread, waits on, and until something else ends that wait the handler is not called. What does end it is
a byte in a socket that the loop reads: `signal.set_wakeup_fd` has Python write one as soon as the signal is there.
asyncio sets that up for the handlers that its loops have themselves, and some loops do it always.

Laws, each with a test:
- Whoever has the loop woken up already goes on doing so, during the run and after it.
- The last run of a loop takes everything away again.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import threading

_alarms: dict[asyncio.AbstractEventLoop, Alarm] = {}


class Alarm:
    """Ends the waits of one loop, for all of its runs that hear signals."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.runs = 0
        self._loop = loop
        self._ears, self._bell = socket.socketpair()
        self._ears.settimeout(0)
        self._bell.settimeout(0)
        try:
            loop.add_reader(self._ears, self._ears.recv, 4096)
        except BaseException:
            self._hang_up()
            raise
        signal.set_wakeup_fd(self._bell.fileno())

    def release(self) -> None:
        """Let go of it, in the name of one run; if that is in another thread, it stays until the loop is closed."""
        if threading.current_thread() is threading.main_thread():
            self.runs -= 1
            if not self.runs:
                del _alarms[self._loop]
                self.close()

    def close(self) -> None:
        """Take everything away."""
        if not self._loop.is_closed():
            self._loop.remove_reader(self._ears)
        woken = signal.set_wakeup_fd(-1)
        if woken != self._bell.fileno():
            signal.set_wakeup_fd(woken)
        self._hang_up()

    def _hang_up(self) -> None:
        self._ears.close()
        self._bell.close()


def alarm_for(loop: asyncio.AbstractEventLoop) -> Alarm | None:
    """Have signals end the waits of a loop; None if somebody else does, or if the loop reads no sockets."""
    for closed in [other for other in _alarms if other.is_closed()]:
        _alarms.pop(closed).close()
    if loop not in _alarms:
        woken = signal.set_wakeup_fd(-1)
        if woken != -1:
            signal.set_wakeup_fd(woken)
            return None
        try:
            _alarms[loop] = Alarm(loop)
        except NotImplementedError:  # as of the loops of Windows that wait for something else
            return None
    _alarms[loop].runs += 1
    return _alarms[loop]
