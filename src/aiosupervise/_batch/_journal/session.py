"""The session of one run in a journal: the results from earlier runs, and the outcomes that wait for their commit.

Theory of operation. An outcome is processed in two steps. When it *arrives*, it frees its slot, and counts towards
`return_when` and `max_failures`. When its row has been committed, it is *delivered* to the tally, the strategy, the
reader and the listeners. Between the two steps, it waits in a queue. Later outcomes wait there too, so that the order
is preserved:

    add -> queue -> a group of rows, in the writer -> deliver

A group of rows is sent to the writer 20 ms after its first row arrived, when it is large enough, or immediately when
the run ends. The writer stores one group at a time. Outcomes that arrive in the meantime form the next group, however
large it becomes, so a run that ends while the disk is slow needs only one more commit.

Invariants, each with a test:
- Every outcome that was added is delivered once, and in order, even if the writer or a listener raises an error.
- After a failed commit, outcomes are delivered only after `fail` has been called: they are in the report, but no reader
  receives them. A value that cannot be stored also makes the run fail, but the other rows of its group are stored.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import repeat
from typing import Any, NamedTuple, TypeAlias

from aiosupervise._call.tasks import wait_until_done
from aiosupervise._events.log import NAME_WITHOUT_RESULTS
from aiosupervise._events.outcomes import Outcome, Success
from aiosupervise._policy.record import record

from .keys import KeyFunction, hashes_of, key_of
from .rows import KnownResults, NewRow
from .store import Store, User
from .values import Codec, decode, encode, undecodable
from .writer import Writer, works_in_loop

_INTERVAL = 0.02  # seconds
_MOST_ROWS = 200
_MOST_BYTES = 2_000_000
# The size of the first group, because the size of a row is not yet known.
_FIRST_ROWS = 20


@record
class Settings:
    """The settings of a journal for inputs and values."""

    path: str
    key: KeyFunction | None
    version: str
    codec: Codec


Known: TypeAlias = tuple[Any, int, float]
"""The stored result of an input: the value, the attempts and the seconds."""


class _Saved(NamedTuple):
    """The result of a commit.

    Attributes:
        rows: the number of stored rows.
        size: their total size in bytes.
        refused: the errors of the values that were not stored, by index.
    """

    rows: int
    size: int
    refused: dict[int, TypeError]


class Session:
    """Looks up the stored results of one run, and stores its outcomes before they are delivered.

    Attributes:
        key_of: returns the key of an input, given the input and its index; raises a TypeError if it has none.
        known: the number of results of the run's function in the file; 0 before `open`.
        remaining: the number of these results that no input has taken.
        keys: by index, the keys of the running jobs and of the outcomes that have not been sent to the writer.
        queue: the outcomes that have not been delivered.
    """

    def __init__(self, writer: Writer, settings: Settings, name: str) -> None:
        self.path = settings.path
        self.key_of = partial(key_of, settings.key)
        self.known = 0
        self.remaining = 0
        self.keys: dict[int, str] = {}
        self.queue: deque[Outcome[Any, Any]] = deque()
        self._writer = writer
        self._settings = settings
        self._name = name
        self._results: KnownResults | None = None
        # Whether the writer was asked to open the file.
        self._is_attached = False
        self._is_broken = False
        # The number of queued outcomes that are in the writer.
        self._in_writer = 0
        # The number of queued outcomes to be delivered.
        self._deliverable = 0
        # The number of queued rows that are not in the writer.
        self._new_rows = 0
        self._most_rows = _FIRST_ROWS
        self._refused: dict[int, TypeError] = {}
        self._is_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._user = User(self._loop)
        self._call = partial(writer.call, in_loop=works_in_loop(self._loop))

    def connect(
        self,
        *,
        deliver: Callable[[Outcome[Any, Any]], None],
        fail: Callable[[BaseException], None],
        wake: Callable[[], None],
    ) -> None:
        """Set the functions of the run to which outcomes and errors are passed.

        Args:
            deliver: receives each outcome.
            fail: receives an error after which nothing more can be stored, or the error of a value that cannot be
                stored.
            wake: called when the queue has become shorter.
        """
        self._deliver, self._fail, self._wake = deliver, fail, wake

    async def open(self) -> None:
        """Open the file, and count the results of the run's function.

        Raises:
            RuntimeError: if the file cannot be used.

        """
        self._is_attached = True
        self._results = results = await self._call(self._open)
        self.known = self.remaining = results.count
        if results.others:
            others = ", ".join(results.others)
            NAME_WITHOUT_RESULTS.log({"name": self._name, "journal": self.path, "others": others})

    def _open(self, store: Store) -> KnownResults:
        return store.open(self._user, self._name, self._settings.version)

    # Inputs.

    async def look_up(self, keys: Sequence[str]) -> list[Known | RuntimeError | None]:
        """Return, for each key, the stored result, an error if it cannot be decoded, or None if there is no result."""
        found = await self._call(partial(self._look_up, keys=keys))
        self.remaining -= len(found) - found.count(None)
        return found

    def _look_up(self, store: Store, *, keys: Sequence[str]) -> list[Known | RuntimeError | None]:
        assert self._results is not None  # noqa: S101 - for the type checkers
        codec = self._settings.codec
        found: list[Known | RuntimeError | None] = []
        for row in store.look_up(self._results, keys):
            try:
                found.append(row and (decode(codec, row[3]), row[4], row[5]))
            except Exception as error:
                found.append(undecodable(codec, self.path, error))
        return found

    # Outcomes.

    @property
    def is_full(self) -> bool:
        """True if no further job should start, because too many outcomes wait for their commit."""
        return len(self.queue) >= 2 * self._most_rows

    def add(self, outcome: Outcome[Any, Any]) -> None:
        """Add an outcome that has arrived; it is delivered once it is committed, after all earlier outcomes."""
        if outcome.index not in self.keys or self._is_broken or not isinstance(outcome, Success):
            self.keys.pop(outcome.index, None)
            if self.queue:
                self.queue.append(outcome)
            else:
                self._deliver(outcome)
            return
        self.queue.append(outcome)
        self._new_rows += 1
        if self._new_rows >= self._most_rows:
            self.flush()
        elif self._timer is None and not self._is_due:
            self._timer = self._loop.call_later(_INTERVAL, self.flush)

    def flush(self) -> None:
        """Send the waiting rows to the writer, immediately or as soon as it is free."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._is_due = bool(self._new_rows)
        if self._is_due and not self._in_writer:
            self._is_due = False
            self._new_rows = 0
            self._in_writer = len(self.queue)
            keys = [self.keys.pop(outcome.index, None) for outcome in self.queue]
            self._call(partial(self._save, outcomes=[*self.queue], keys=keys)).add_done_callback(self._on_saved)

    def _save(self, store: Store, *, outcomes: Sequence[Outcome[Any, Any]], keys: Sequence[str | None]) -> _Saved:
        """Store the values of the outcomes that have a key, in one commit, except for values that cannot be stored."""
        new: list[Success[Any, Any]] = []
        new_keys: list[str] = []
        values: list[str | bytes] = []
        refused: dict[int, TypeError] = {}
        for outcome, key in zip(outcomes, keys, strict=True):
            if key is not None and isinstance(outcome, Success):
                try:
                    values.append(encode(self._settings.codec, outcome.value, outcome.name))
                except TypeError as error:
                    # The other values of the group are stored.
                    refused[outcome.index] = error.with_traceback(None)
                else:
                    new.append(outcome)
                    new_keys.append(key)
        if new:
            store.save(self._rows(new, new_keys, values))
        return _Saved(len(new), sum(map(len, [*new_keys, *values])), refused)

    def _rows(
        self, new: Sequence[Success[Any, Any]], keys: Sequence[str], values: Sequence[str | bytes]
    ) -> Iterator[NewRow]:
        """Return the rows as an iterator, because a list of tuples would trigger more garbage collections."""
        assert self._results is not None  # noqa: S101 - for the type checkers
        attempts, seconds = [one.attempts for one in new], [one.elapsed for one in new]
        function, now = repeat(self._results.function), repeat(int(time.time()))
        return zip(function, hashes_of(keys), keys, values, attempts, seconds, now)  # noqa: B905 - two are endless

    def _on_saved(self, future: asyncio.Future[_Saved]) -> None:
        error = future.exception()
        if error is None:
            rows, size, self._refused = future.result()
            if rows:
                self._most_rows = min(_MOST_ROWS, max(1, _MOST_BYTES * rows // size))
            self._deliverable = self._in_writer
        else:
            self._break(error)
        self._deliver_committed()

    def _break(self, error: BaseException) -> None:
        """Report an error, after which no further outcomes are stored."""
        self._is_broken = True
        self._new_rows = 0
        self._deliverable = len(self.queue)
        self._fail(error)

    def _deliver_committed(self) -> None:
        """Deliver the committed outcomes, and the outcomes behind them that have no row to commit."""
        queue, deliver = self.queue, self._deliver
        try:
            while queue and (self._deliverable > 0 or queue[0].index not in self.keys):
                self._deliverable -= 1
                outcome = queue.popleft()
                if self._refused and (error := self._refused.pop(outcome.index, None)) is not None:
                    self._fail(error)
                deliver(outcome)
        except BaseException:
            # A listener may have raised it, for example a KeyboardInterrupt.
            self._loop.call_soon(self._deliver_committed)
            raise
        self._in_writer = self._deliverable = 0
        if self._is_due or self._new_rows >= self._most_rows:
            self.flush()
        self._wake()

    # The end.

    async def close(self) -> None:
        """Stop using the file; if no other run uses it, return only once it is closed."""
        self._is_attached = False
        await wait_until_done(self._call(self._close), _ignore)

    def abandon(self) -> None:
        """Have the writer close the file of a run that was discarded before it could close the file itself.

        At interpreter shutdown, no thread can be started, and the operating system closes the file.
        """
        if self._is_attached and not sys.is_finalizing():
            self._writer.post(self._close)

    def _close(self, store: Store) -> None:
        store.close(self._user)

    def detach(self) -> None:
        """Deliver the remaining outcomes, and drop the references to the run, because it has ended."""
        if self._timer is not None:
            self._timer.cancel()
        while self.queue:
            self._deliver(self.queue.popleft())
        self._deliver = self._fail = self._wake = _ignore


def _ignore(*_: object) -> None:
    """Do nothing, because the run has ended."""
