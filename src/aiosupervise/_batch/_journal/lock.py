"""The lock of a journal: at most one user of a file at a time, in this process and across all others.

It is a lock on a file beside the journal. SQLite also locks the journal itself, but such a POSIX lock belongs to the
process, which loses it as soon as it closes any descriptor of that file: https://www.sqlite.org/howtocorrupt.html

It uses `lockf` and not `flock`, because a forked process would share a `flock` lock and keep it after this process is
killed; the workers of a process pool, for example, outlive a killed parent. A lock of `lockf` never blocks its own
process, so a dict records the paths that this process holds. The file is not removed, because that would let two
processes lock two different files.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

_held: dict[tuple[str, int], Callable[[], None]] = {}
"""By lock file and process: the function that releases the lock if nobody uses the journal any longer.

A forked process has a copy of this dict, but not of the locks.
"""


class FileLock:
    """The lock of one journal."""

    def __init__(self, path: str) -> None:
        self._path = f"{os.path.realpath(path)}.lock"
        self._descriptor: int | None = None

    def acquire(self, let_go: Callable[[], None]) -> None:
        """Take the lock.

        Args:
            let_go: called when another Journal of this process wants the lock; releases it if it is no longer used.

        Raises:
            RuntimeError: if another Journal of this process has it.
            BlockingIOError: if another process has it.
            OSError: if the file cannot be created.
        """
        key = self._path, os.getpid()
        if (holder := _held.get(key)) is not None:
            holder()
        if _held.setdefault(key, let_go) is not let_go:
            raise RuntimeError(
                "another Journal of this process has it open: create one Journal, and pass it to every run that uses it"
            )
        try:
            self._descriptor = _open_and_lock(self._path)
        except BaseException:
            del _held[key]
            raise

    def release(self) -> None:
        """Release the lock; do nothing if it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
            _held.pop((self._path, os.getpid()), None)


def _open_and_lock(path: str) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
    try:
        _lock(descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


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
        except PermissionError as error:  # what POSIX allows a system to report in place of EAGAIN
            raise BlockingIOError(*error.args) from None
