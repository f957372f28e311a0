"""The lock of a journal: at most one user of a file at a time, in this process and across all others.

It is a lock on a file beside the journal. SQLite also locks the journal itself, but such a POSIX lock belongs to the
process, which loses it as soon as it closes any descriptor of that file: https://www.sqlite.org/howtocorrupt.html

It uses `lockf` and not `flock`, because a forked process would share a `flock` lock and keep it after this process is
killed; the workers of a process pool, for example, outlive a killed parent. A lock of `lockf` never blocks its own
process, so a dict records the paths that this process holds. The file is not removed, because that would let two
processes lock two files.
"""

from __future__ import annotations

import os
import sys

_held: dict[str, int] = {}
"""For each lock file that is held, the process: a forked one has a copy of this, but not of the locks."""


class FileLock:
    """The lock of one journal."""

    def __init__(self, path: str) -> None:
        self._path = f"{os.path.realpath(path)}.lock"
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            RuntimeError: if another Journal of this process has it.
            BlockingIOError: if another process has it.
            OSError: if the file cannot be created.
        """
        if _held.get(self._path) == os.getpid():
            raise RuntimeError(
                "another Journal of this process has it open: create one Journal, and pass it to every run that uses it"
            )
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        try:
            _lock(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        _held[self._path] = os.getpid()

    def release(self) -> None:
        """Release the lock; do nothing if it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
            _held.pop(self._path, None)


if sys.platform == "win32":  # pragma: no cover
    import msvcrt

    def _lock(descriptor: int) -> None:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            raise BlockingIOError(*error.args) from None
else:
    import fcntl

    def _lock(descriptor: int) -> None:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except PermissionError as error:  # what POSIX allows a system to say in place of EAGAIN
            raise BlockingIOError(*error.args) from None
