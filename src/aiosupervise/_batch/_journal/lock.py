"""The lock of a journal, which lets only one Journal of one process open the file at a time.

It is a lock on a separate file next to the journal. SQLite also locks the journal itself, but a process loses that
POSIX lock as soon as it closes any descriptor of the journal: https://www.sqlite.org/howtocorrupt.html

It uses `lockf` and not `flock`, because a forked process would share a `flock` lock and keep it after its parent is
killed; the workers of a process pool, for example, outlive a killed parent. A `lockf` lock does not exclude the process
that holds it, so a dict records the files that this process has locked. The lock file is never removed, because two
processes could then lock two different files with the same path.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

_held: dict[tuple[str, int], Callable[[], None]] = {}
"""For each held lock, by path and process id: the function that releases it if the journal is no longer used.

A forked process inherits a copy of this dict, but not the locks.
"""


class FileLock:
    """The lock of one journal."""

    def __init__(self, path: str) -> None:
        self._path = f"{os.path.realpath(path)}.lock"
        self._descriptor: int | None = None

    def acquire(self, release_if_unused: Callable[[], None]) -> None:
        """Acquire the lock.

        Args:
            release_if_unused: called when another Journal of this process requests the lock; releases the lock if the
                file has no users left.

        Raises:
            RuntimeError: if another Journal of this process holds the lock.
            BlockingIOError: if another process holds the lock.
            OSError: if the lock file cannot be created.
        """
        key = self._path, os.getpid()
        if (holder := _held.get(key)) is not None:
            holder()
        if _held.setdefault(key, release_if_unused) is not release_if_unused:
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
            del _held[self._path, os.getpid()]


def _open_and_lock(path: str) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
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
        except PermissionError as error:
            # POSIX allows EACCES in place of EAGAIN.
            raise BlockingIOError(*error.args) from None
