"""The file of a journal: an SQLite database with one row for each result.

    function  id, name, version                                                 one for each function that has results
    result    id, function, hash, key, value, attempts, elapsed, saved_at       one for each success
    journal   name, version, key, value, attempts, elapsed, saved_at            a view of both, for users

`hash` is a 64-bit hash of the key; its index is smaller and faster than an index of long keys. It is not unique,
because each of several equal inputs has its own row. The index is created only when a file that already has rows is
opened: updating it at random positions would make each row of a first run 50% more expensive. Rows are written by
multi-row statements: with `executemany`, the writer thread would have to reacquire the GIL after each row, in
competition with the running jobs.

With `synchronous=NORMAL`, committed rows survive a crash of the process, but not a power failure. The database is
locked while it is open.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain

from aiosupervise._policy.checks import error_text

from .keys import hashes_of
from .lock import FileLock
from .rows import KnownResults, KnownRow, NewRow

SCHEMA_VERSION = 1
_APPLICATION_ID = 0x61696F73
_COLUMNS = 7
_PLACEHOLDERS = f"({', '.join('?' * _COLUMNS)})"
# Older versions of SQLite accept at most 999 values per statement.
_ROWS_PER_STATEMENT = 100
# In bytes. For rows of a few hundred bytes, this is faster than SQLite's default.
_PAGE = 8192
# The smallest page size in bytes, and therefore the smallest size of a database.
_SMALLEST = 512
# In kB, for the index, whose pages are used in random order. SQLite's default is enough to append rows.
_CACHE = -16_000
# Seconds to wait for another program that reads the file.
_BUSY = 1.0

_SCHEMA = """
CREATE TABLE function (id INTEGER PRIMARY KEY, name TEXT NOT NULL, version TEXT NOT NULL, UNIQUE (name, version));
CREATE TABLE result (
    id INTEGER PRIMARY KEY, function INTEGER NOT NULL REFERENCES function, hash INTEGER NOT NULL, key TEXT NOT NULL,
    value NOT NULL, attempts INTEGER NOT NULL, elapsed REAL NOT NULL, saved_at INTEGER NOT NULL
);
CREATE VIEW journal AS
    SELECT name, version, key, value, attempts, elapsed, datetime(saved_at, 'unixepoch') AS saved_at
    FROM result JOIN function ON function.id = result.function;
"""
_INDEX = "CREATE INDEX IF NOT EXISTS result_by_hash ON result (function, hash)"
_INSERT = "INSERT INTO result (function, hash, key, value, attempts, elapsed, saved_at) VALUES "
# Selects the rows of distinct hashes. A join with VALUES is faster than IN, for which SQLite builds a temporary index.
# The limit is one more than the number of hashes: if it is reached, at least one hash has several rows, perhaps very
# many.
_ROWS = """
WITH wanted(hash) AS (VALUES {}) SELECT result.hash, id, key, value, attempts, elapsed
FROM wanted CROSS JOIN result ON function = ? AND result.hash = wanted.hash AND id <= ? LIMIT ?
"""
# Selects the hashes that have several rows, with the first row of each; this query reads only the index.
_SEVERAL = """
SELECT hash, min(id) FROM result WHERE function = ? AND id <= ? AND hash IN ({}) GROUP BY hash HAVING count(*) > 1
"""
_NEXT = """
SELECT hash, id, key, value, attempts, elapsed FROM result
WHERE function = ? AND id <= ? AND hash = ? AND id > ? ORDER BY id LIMIT 1
"""


class User:
    """Represents a run that has the file open.

    It has no reference to the run itself: otherwise the thread that uses the file would keep a discarded run alive.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = weakref.ref(loop)

    def is_gone(self) -> bool:
        """Return whether the event loop was closed during the run, which therefore will never close the file."""
        loop = self._loop()
        return loop is None or loop.is_closed()


class Store:
    """The file of a journal; only the thread that holds the mutex may use it."""

    def __init__(self, path: str) -> None:
        self.mutex = threading.Lock()
        self._path = path
        self._lock = FileLock(path)
        self._users: set[User] = set()
        self._connection: sqlite3.Connection | None = None

    @property
    def is_open(self) -> bool:
        """True if any user has the file open."""
        return bool(self._users)

    def open(self, user: User, name: str, version: str) -> KnownResults:
        """Open the file for a user, and return the results of a function.

        Raises:
            RuntimeError: if the file is open elsewhere, is not a journal, or cannot be read or written.
        """
        with self._errors("opened", "is it a journal, and can this process write to it and to its folder?"):
            if self._connection is None:
                self._connection = self._connect()
            self._users.add(user)
            try:
                return self._known(self._connection, name, version)
            except BaseException:
                self.close(user)
                raise

    def close(self, user: User | None) -> None:
        """Remove a user, and all users whose event loops were closed; close the file when it has no more users."""
        self._users = {other for other in self._users if other is not user and not other.is_gone()}
        connection = self._connection
        if connection is not None and not self._users:
            self._connection = None
            connection.close()
            self._lock.release()

    def _close_if_unused(self) -> None:
        """Close the file if the event loops of all users were closed; called in any thread by another Store."""
        if all(user.is_gone() for user in [*self._users]):
            with self.mutex:
                self.close(None)

    def save(self, rows: Iterable[NewRow]) -> None:
        """Store results in one transaction, and return once they are committed.

        Raises:
            RuntimeError: if the results cannot be stored.
        """
        values = [*chain.from_iterable(rows)]
        with self._errors("written", "is there space left on its disk?"), self._transaction() as connection:
            for start in range(0, len(values), _COLUMNS * _ROWS_PER_STATEMENT):
                part = values[start : start + _COLUMNS * _ROWS_PER_STATEMENT]
                connection.execute(_INSERT + ", ".join([_PLACEHOLDERS] * (len(part) // _COLUMNS)), part)

    def look_up(self, known: KnownResults, keys: Sequence[str]) -> list[KnownRow | None]:
        """Return, for each key, a row that no other input has taken, or None.

        Raises:
            RuntimeError: if the file cannot be read.
        """
        with self._errors("read", "is it damaged?"):
            hashes = hashes_of(keys)
            first, take = self._first_rows(known, {*hashes} - known.last_taken.keys()), known.take
            found: list[KnownRow | None] = []
            for key, number in zip(keys, hashes, strict=True):
                row = first.get(number) or self._next_row(known, number)
                # Different keys with the same hash are practically impossible; if they occur, the job runs again.
                found.append(row if row is not None and row[2] == key and take(row[1]) else None)
            return found

    def _first_rows(self, known: KnownResults, hashes: set[int]) -> dict[int, KnownRow]:
        """Return the row of each hash that has only one row, and record the hashes that have several."""
        if not hashes:
            return {}
        placeholders = ", ".join(["(?)"] * len(hashes))
        rows = self._cursor(_ROWS.format(placeholders), *hashes, known.function, known.last, len(hashes) + 1).fetchall()
        first: dict[int, KnownRow] = {row[0]: row for row in rows}
        if len(first) == len(rows):
            return first
        placeholders = ", ".join("?" * len(hashes))
        for number, row in self._cursor(_SEVERAL.format(placeholders), known.function, known.last, *hashes):
            known.last_taken[number] = row - 1
        return self._first_rows(known, hashes - known.last_taken.keys())

    def _next_row(self, known: KnownResults, number: int) -> KnownRow | None:
        """Return the next row of a hash that has several."""
        after = known.last_taken.get(number)
        if after is None:
            return None
        row: KnownRow | None = self._cursor(_NEXT, known.function, known.last, number, after).fetchone()
        if row is not None:
            known.last_taken[number] = row[1]
        return row

    def _cursor(self, query: str, *values: object) -> sqlite3.Cursor:
        assert self._connection is not None  # noqa: S101 - for the type checkers
        return self._connection.execute(query, values)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        connection = self._connection
        assert connection is not None  # noqa: S101 - for the type checkers
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            # Some errors have already ended the transaction.
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise

    def _connect(self) -> sqlite3.Connection:
        self._lock.acquire(self._close_if_unused)
        try:
            self._create_file()
            connection = sqlite3.connect(
                self._path, timeout=_BUSY, isolation_level=None, check_same_thread=False, cached_statements=256
            )
            try:
                self._prepare(connection)
            except BaseException:
                connection.close()
                raise
        except BaseException:
            self._lock.release()
            raise
        return connection

    def _create_file(self) -> None:
        # No other user of the system may read the values that the functions returned. An existing file keeps its mode.
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        size = os.fstat(descriptor).st_size
        os.close(descriptor)
        # SQLite would treat such a file as an empty database, and overwrite it.
        if 0 < size < _SMALLEST:
            raise RuntimeError(f"it has only {size} bytes, and is not a journal: use another path")

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        if application == _APPLICATION_ID and version > SCHEMA_VERSION:
            rule = f"its schema is version {version}, and this release of aiosupervise knows {SCHEMA_VERSION}"
            raise RuntimeError(f"{rule}: install a newer release, or use another path")
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if tables and application != _APPLICATION_ID:
            raise RuntimeError("it is a database of another program: use another path")
        connection.execute(f"PRAGMA page_size = {_PAGE}")  # applies only to a new file
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        if not tables:
            numbers = f"PRAGMA application_id = {_APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION};"
            connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} {numbers} COMMIT;")

    def _known(self, connection: sqlite3.Connection, name: str, version: str) -> KnownResults:
        with self._transaction():
            connection.execute("INSERT OR IGNORE INTO function (name, version) VALUES (?, ?)", (name, version))
        select = "SELECT id FROM function WHERE name = ? AND version = ?"
        function = connection.execute(select, (name, version)).fetchone()[0]
        last = connection.execute("SELECT max(id) FROM result").fetchone()[0] or 0
        if last:
            connection.execute(f"PRAGMA cache_size = {_CACHE}")
            connection.execute(_INDEX)
        count = connection.execute("SELECT count(*) FROM result WHERE function = ?", (function,)).fetchone()[0]
        return KnownResults(function, last, count, self._others(connection, name))

    def _others(self, connection: sqlite3.Connection, name: str) -> list[str]:
        """Return the names of other functions that have rows; an empty list if the function `name` has rows."""
        query = (
            "SELECT DISTINCT name FROM function WHERE EXISTS (SELECT 1 FROM result WHERE result.function = function.id)"
        )
        names = sorted(row[0] for row in connection.execute(query))
        return [] if name in names else names

    @contextmanager
    def _errors(self, done: str, question: str) -> Iterator[None]:
        """Replace errors of SQLite and the operating system with an error that names the path."""
        what = f"the journal {self._path} cannot be {done}"
        try:
            yield
        except BlockingIOError:
            repair = "wait until that has ended, or use another path"
            raise RuntimeError(f"{what}: another process has it open; {repair}") from None
        except FileNotFoundError:
            raise RuntimeError(f"{what}: its folder does not exist: create the folder first") from None
        except RuntimeError as error:
            raise RuntimeError(f"{what}: {error}") from None
        except (sqlite3.Error, OSError, UnicodeError) as error:
            # A name or a version can cause a UnicodeError.
            raise RuntimeError(f"{what}: {error_text(error)}; {question}") from error
