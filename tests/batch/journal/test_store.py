"""The file of a journal: what is in it, who may have it open, and what is said about a file that cannot be used."""

import asyncio
import contextlib
import gc
import os
import sqlite3
import stat
import subprocess
import sys
import threading
import tracemalloc
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aiosupervise._batch._journal.keys import hashes_of
from aiosupervise._batch._journal.lock import FileLock
from aiosupervise._batch._journal.rows import KnownRow, NewRow
from aiosupervise._batch._journal.store import Store, User

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="modes of files, users and limits are those of POSIX")

NOBODY = 65534


LOOP = asyncio.new_event_loop()
LOOP.close()


class Runs(User):
    """Somebody who has the file open, until he is gone."""

    def __init__(self) -> None:
        super().__init__(LOOP)
        self.gone = False

    def is_gone(self) -> bool:
        return self.gone


USER = Runs()


def hash_of(text: str) -> int:
    """The hash of one key."""
    [number] = hashes_of([text])
    return number


def row(key: str, value: str | bytes = "1") -> NewRow:
    """A result."""
    return 1, hash_of(key), key, value, 1, 0.5, 1_800_000_000


@contextlib.contextmanager
def opened(path: Path) -> Iterator[tuple[Store, list[KnownRow | None]]]:
    """An open store, and nothing yet."""
    store = Store(str(path))
    store.open(USER, "fetch", "")
    try:
        yield store, []
    finally:
        store.close(USER)


def save(path: Path, *rows: NewRow, name: str = "fetch", version: str = "") -> None:
    """Open a file, store rows of a function, and close it."""
    store = Store(str(path))
    function = store.open(USER, name, version).function
    store.save([(function, *row[1:]) for row in rows])
    store.close(USER)


def look_up(path: Path, *keys: str, name: str = "fetch", version: str = "") -> list[str | bytes | None]:
    """Open a file, and look up values in one batch."""
    store = Store(str(path))
    found = store.look_up(store.open(USER, name, version), keys)
    store.close(USER)
    return [known and known[3] for known in found]


def test_what_was_stored_is_found(tmp_path: Path) -> None:
    """As text or bytes, in any order, whatever is in it."""
    path = tmp_path / "a run.db"
    values: list[str | bytes] = ["text", b"\0\xff", "with\0nul", "", "é"]
    save(path, *(row(str(number), value) for number, value in enumerate(values)))
    assert look_up(path, "4", "x", "2", "1", "0", "3") == ["é", None, "with\0nul", b"\0\xff", "text", ""]


def test_many_rows_are_one_commit(tmp_path: Path) -> None:
    """Also more of them than one statement of an older SQLite can take."""
    path = tmp_path / "run.db"
    with opened(path) as (store, _):
        assert store._connection is not None
        store._connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 999)
        store.save([row(str(number), str(number)) for number in range(450)])
        known = store.open(USER, "fetch", "")
        for start in range(0, 450, 150):
            some = [str(number) for number in range(start, start + 150)]
            assert [found and found[3] for found in store.look_up(known, some)] == some


def test_a_row_that_is_refused_takes_its_group_with_it(tmp_path: Path) -> None:
    """And nothing else: the next group is stored."""
    path = tmp_path / "run.db"
    bad: Any = (*row("b")[:3], None, *row("b")[4:])
    with opened(path) as (store, _):
        with pytest.raises(RuntimeError, match="cannot be written: IntegrityError: NOT NULL"):
            store.save([*(row(f"{number}") for number in range(100)), bad])
        store.save([row("c")])
    assert look_up(path, "0", "b", "c") == [None, None, "1"]


def test_a_key_with_many_rows_is_read_row_by_row(tmp_path: Path) -> None:
    """However many inputs are equal, a look-up reads no more rows than it has keys, and one."""
    path = tmp_path / "run.db"
    save(path, *(row("same", "x" * 100_000) for _ in range(60)))
    with opened(path) as (store, _):
        known = store.open(USER, "fetch", "")
        tracemalloc.start()
        try:
            assert None not in store.look_up(known, ["same", "same"])
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 2_000_000


def test_each_of_several_equal_keys_has_a_row(tmp_path: Path) -> None:
    """In one batch and in several, they are taken in their order; a row is taken once."""
    path = tmp_path / "run.db"
    save(path, *(row("same", str(number)) for number in range(3)), row("once", "once"))
    with opened(path) as (store, found):
        known = store.open(USER, "fetch", "")
        for batch in (["same", "once"], ["same", "same", "same"], ["same", "once"]):
            found.extend(store.look_up(known, batch))
    values = [one and one[3] for one in found]
    assert values == ["0", "once", "1", "2", None, None, None]


def test_a_single_row_is_taken_once_in_a_batch(tmp_path: Path) -> None:
    """The second of two equal inputs is new."""
    save(tmp_path / "run.db", row("same"))
    assert look_up(tmp_path / "run.db", "same", "same") == ["1", None]


def test_rows_of_this_run_are_not_known(tmp_path: Path) -> None:
    """Only those that were there when it began: each input has a row of its own."""
    with opened(tmp_path / "run.db") as (store, _):
        known = store.open(USER, "fetch", "")
        store.save([row("a")])
        assert store.look_up(known, ["a"]) == [None]
        later = store.open(USER, "fetch", "")
        assert later.count == 1
        assert store.look_up(later, ["a"]) != [None]
        store.save([row("a")])
        later = store.open(USER, "fetch", "")
        store.save([row("a")])
        found = [store.look_up(later, ["a"])[0] for _ in range(3)]
        assert [one and one[1] for one in found] == [1, 2, None]


def test_a_known_row_takes_a_bit_of_memory(tmp_path: Path) -> None:
    """However many of them there are, and all are taken; the cache of SQLite has a limit of its own."""
    path, count = tmp_path / "run.db", 8_000
    save(path, *(row(str(number)) for number in range(count)))
    with opened(path) as (store, _):
        tracemalloc.start()
        try:
            known = store.open(USER, "fetch", "")
            store.look_up(known, [str(number) for number in range(100)])
            before = tracemalloc.get_traced_memory()[0]
            for start in range(100, count, 100):
                found = store.look_up(known, [str(number) for number in range(start, start + 100)])
                assert None not in found
            del found
            grown = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
    assert grown < 8 * count
    assert known.last_taken == {}
    assert len(known._taken) == count // 8 + 1


def test_functions_and_versions_are_apart(tmp_path: Path) -> None:
    """One file serves several functions; a new version knows nothing, and deletes nothing."""
    path = tmp_path / "run.db"
    save(path, row("a", "first"))
    save(path, row("a", "second"), version="2")
    save(path, row("a", "parsed"), name="parse")
    assert look_up(path, "a") == ["first"]
    assert look_up(path, "a", version="2") == ["second"]
    assert look_up(path, "a", name="parse") == ["parsed"]
    assert look_up(path, "a", version="3") == [None]
    for value in ("of both", "of all"):
        save(path, row("a", value), name="parse")
        save(path, row("a", value))
    assert look_up(path, "a", "a", "a", "a") == ["first", "of both", "of all", None]
    assert look_up(path, "a", "a", "a", "a", name="parse") == ["parsed", "of both", "of all", None]


def test_two_keys_with_one_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The keys themselves are compared: a row of another input is never taken."""
    monkeypatch.setattr("aiosupervise._batch._journal.store.hashes_of", lambda keys: [hash_of("a")] * len(keys))
    save(tmp_path / "run.db", row("a", "of a"))
    assert look_up(tmp_path / "run.db", "b", "a") == [None, "of a"]


def test_a_name_that_has_no_rows_where_others_have(tmp_path: Path) -> None:
    """The others are named, unless this one has rows under another version."""
    path = tmp_path / "run.db"
    save(path, row("a"))
    save(path, row("a"), name="parse")
    save(path, name="empty")
    store = Store(str(path))
    assert store.open(USER, "fetch2", "").others == ["fetch", "parse"]
    assert store.open(USER, "fetch", "2").others == []
    assert store.open(USER, "fetch", "").others == []
    store.close(USER)


def test_people_can_read_it(tmp_path: Path) -> None:
    """While nobody has it open: one view has everything, in plain columns."""
    path = tmp_path / "run.db"
    save(path, (1, 0, '"a"', '{"x":1}', 2, 0.5, 1_800_000_000), version="v1")
    with contextlib.closing(sqlite3.connect(path)) as connection:
        [found] = connection.execute("SELECT name, version, key, value, attempts, elapsed FROM journal")
        [(saved_at,)] = connection.execute("SELECT saved_at FROM journal")
    assert found == ("fetch", "v1", '"a"', '{"x":1}', 2, 0.5)
    assert saved_at == "2027-01-15 08:00:00"


def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    """Values may be secret. An existing file keeps its mode."""
    path = tmp_path / "run.db"
    with opened(path) as (store, _):
        store.save([row("a")])
        assert {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()} == {0o600}
    path.chmod(0o640)
    save(path, row("b"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_nothing_but_the_lock_file_is_left_beside_it(tmp_path: Path) -> None:
    """The write-ahead log is gone when the file is closed."""
    save(tmp_path / "run.db", row("a"))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["run.db", "run.db.lock"]


def test_the_settings_of_the_database(tmp_path: Path) -> None:
    """Those that the measurements chose; the index and the large cache come with the first file that has rows."""

    def read(store: Store, *names: str) -> list[object]:
        assert store._connection is not None
        return [store._connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names]

    path, indexes = tmp_path / "run.db", "SELECT name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
    with opened(path) as (store, _):
        assert store._connection is not None
        names = ("journal_mode", "synchronous", "page_size", "user_version", "application_id")
        assert read(store, *names) == ["wal", 1, 8192, 1, 0x61696F73]
        assert read(store, "busy_timeout") == [1000]
        assert read(store, "cache_size") != [-16_000]
        store.save([row("a")])
        assert store._connection.execute(indexes).fetchall() == []
    with opened(path) as (store, _):
        assert store._connection is not None
        assert read(store, "journal_mode", "synchronous", "cache_size") == ["wal", 1, -16_000]
        assert store._connection.execute(indexes).fetchall() == [("result_by_hash",)]


def test_several_users_of_one_store(tmp_path: Path) -> None:
    """The last one closes the file; closing twice, or for somebody else, does nothing."""
    store = Store(str(tmp_path / "run.db"))
    other = Runs()
    store.open(USER, "fetch", "")
    store.open(other, "parse", "")
    for user in (USER, USER, Runs()):
        store.close(user)
        assert store.is_open
    store.save([row("a")])
    store.close(other)
    assert not store.is_open
    store.close(other)


# Who may have it open.


def test_a_second_journal_of_this_process(tmp_path: Path) -> None:
    """It gets an error that says what to do, by whatever name it calls the file; afterwards it can open it."""
    path = tmp_path / "run.db"
    link = tmp_path / "link.db"
    with opened(path):
        link.symlink_to(path)
        for name in (path, link):
            with pytest.raises(RuntimeError, match=f"{name} cannot be opened: another Journal of this process has it"):
                Store(str(name)).open(USER, "fetch", "")
    save(link, row("a"))


def test_nobody_else_reads_it_while_it_is_open(tmp_path: Path) -> None:
    """Another program that opens the database gets SQLite's error, and takes nothing away."""
    with opened(tmp_path / "run.db") as (store, _):
        store.save([row("a")])
        other = contextlib.closing(sqlite3.connect(tmp_path / "run.db", timeout=0))
        with other as connection, pytest.raises(sqlite3.OperationalError, match="locked"):
            connection.execute("SELECT * FROM journal")
        store.save([row("b")])
    assert look_up(tmp_path / "run.db", "a", "b") == ["1", "1"]


def test_users_that_are_gone(tmp_path: Path) -> None:
    """A second Journal takes the file over when the loops of all runs that use it were closed under them."""
    first, second, one, other = Store(str(tmp_path / "run.db")), Store(str(tmp_path / "run.db")), Runs(), Runs()
    first.open(one, "fetch", "")
    first.open(other, "fetch", "")
    first.save([row("a")])
    for user in (one, other):
        # At once, and not after a commit that the other user waits for.
        with first.mutex, pytest.raises(RuntimeError, match="another Journal of this process has it open"):
            second.open(USER, "fetch", "")
        user.gone = True
    assert second.open(USER, "fetch", "").count == 1
    assert not first.is_open
    with pytest.raises(RuntimeError, match="another Journal of this process has it open"):
        first.open(Runs(), "fetch", "")
    second.close(USER)


def test_a_user_that_is_gone_does_not_keep_the_file_open(tmp_path: Path) -> None:
    """The last one that is left closes it."""
    store, gone = Store(str(tmp_path / "run.db")), Runs()
    store.open(gone, "fetch", "")
    store.open(USER, "fetch", "")
    gone.gone = True
    assert store.is_open
    store.close(USER)
    assert not store.is_open
    save(tmp_path / "run.db", row("a"))


def test_a_store_is_taken_over_between_two_works(tmp_path: Path) -> None:
    """Not while another thread commits: then it waits."""
    first, second, gone = Store(str(tmp_path / "run.db")), Store(str(tmp_path / "run.db")), Runs()
    first.open(gone, "fetch", "")
    gone.gone = True
    opened = threading.Event()

    def take_over() -> None:
        second.open(USER, "fetch", "")
        opened.set()

    thread = threading.Thread(target=take_over)
    with first.mutex:
        thread.start()
        assert not opened.wait(0.05)
        first.save([row("a")])
    thread.join(10)
    assert opened.is_set()
    second.close(USER)
    assert look_up(tmp_path / "run.db", "a") == ["1"]


def test_a_loop_is_gone_when_it_is_closed_or_collected() -> None:
    """Nothing else is known of a run that nobody waits for."""
    loop = asyncio.new_event_loop()
    user = User(loop)
    assert not user.is_gone()
    loop.close()
    assert user.is_gone()
    user = User(asyncio.new_event_loop())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    assert user.is_gone()


HOLD = """
import asyncio, sys
from aiosupervise._batch._journal.store import Store
from aiosupervise._batch._journal.store import User
store = Store(sys.argv[1])
try:
    store.open(User(asyncio.new_event_loop()), "fetch", "")
    print("open", flush=True)
    sys.stdin.read()
except RuntimeError as error:
    print(error)
"""


def hold(path: Path) -> "subprocess.Popen[str]":
    """A process that tries to open a journal, and says what came of it."""
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def test_a_second_process(tmp_path: Path) -> None:
    """It gets an error with the path at once, also after this one has read the file by itself; a kill frees it."""
    path = tmp_path / "run.db"
    words = f"the journal {path} cannot be opened: another process has it open; wait until that has ended"
    with opened(path):
        path.read_bytes()
        with hold(path) as second:
            assert words in second.communicate()[0]
    with hold(path) as second:
        assert second.stdout is not None
        assert second.stdout.readline() == "open\n"
        with pytest.raises(RuntimeError, match=words):
            Store(str(path)).open(USER, "fetch", "")
        second.kill()
    save(path, row("a"))


def test_somebody_looks_into_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that holds a lock of SQLite's gets a moment to end."""
    monkeypatch.setattr("aiosupervise._batch._journal.store._BUSY", 0.01)
    path = tmp_path / "run.db"
    save(path, row("a"))
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        with pytest.raises(RuntimeError, match=f"{path} cannot be opened: OperationalError: database is locked"):
            Store(str(path)).open(USER, "fetch", "")
    assert look_up(path, "a") == ["1"]


def test_the_other_error_that_posix_allows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock that is taken may be refused with EACCES. The file that was opened for it is closed."""
    lock = FileLock(str(tmp_path / "run.db"))

    def refuse(*_: object) -> None:
        raise PermissionError(13, "denied")

    monkeypatch.setattr("fcntl.lockf", refuse)
    before = next_descriptor()
    for _ in range(2):
        with pytest.raises(BlockingIOError):
            lock.acquire(lambda: None)
    lock.release()
    assert next_descriptor() == before


def next_descriptor() -> int:
    """The lowest number of a file that could be opened now."""
    descriptor = os.open(os.devnull, os.O_RDONLY)
    os.close(descriptor)
    return descriptor


# Files that cannot be used.


def fails(path: Path, words: str) -> None:
    """Opening a file fails, with its path and the reason, and leaves it closed."""
    store = Store(str(path))
    with pytest.raises(RuntimeError, match=words) as caught:
        store.open(USER, "fetch", "")
    assert str(path) in str(caught.value)
    assert not store.is_open
    lock = FileLock(str(path))
    with contextlib.suppress(OSError):
        lock.acquire(lambda: None)
    lock.release()


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    """It stays as it is."""
    path = tmp_path / "notes.txt"
    path.write_text("my notes\n" * 1000)
    fails(path, "DatabaseError: file is not a database; is it a journal")
    assert path.read_text() == "my notes\n" * 1000


def test_a_database_of_another_program(tmp_path: Path) -> None:
    """It stays as it is, too."""
    path = tmp_path / "shop.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE article (id)")
    before = path.read_bytes()
    fails(path, "cannot be opened: it is a database of another program: use another path$")
    assert path.read_bytes() == before


def test_an_empty_database_is_accepted_as_a_new_journal(tmp_path: Path) -> None:
    """This includes the smallest database that SQLite can write."""
    path = tmp_path / "run.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA page_size = 512")
        connection.execute("PRAGMA user_version = 7")
    assert path.stat().st_size == 512
    save(path, row("a"))
    assert look_up(path, "a") == ["1"]


def test_a_file_that_was_truncated(tmp_path: Path) -> None:
    """A copy that was cut short, at any place."""
    path = tmp_path / "run.db"
    save(path, *(row(str(number), "x" * 500) for number in range(100)))
    whole = path.read_bytes()
    for size, words in [(1, "it has only 1 bytes"), (511, "it has only 511 bytes"), (5000, "DatabaseError")]:
        path.write_bytes(whole[:size])
        fails(path, f"cannot be opened: {words}")
    path.write_bytes(whole[:-8192])
    fails(path, "cannot be opened: DatabaseError: database disk image is malformed")
    path.write_bytes(b"")  # as if it had never been there
    save(path, row("a"))


def test_a_file_that_is_damaged_inside(tmp_path: Path) -> None:
    """SQLite checks the rows that are read."""
    path = tmp_path / "run.db"
    save(path, *(row(str(number), "x" * 500) for number in range(100)))
    with opened(path) as (store, _):
        known = store.open(USER, "fetch", "")
        store._connection.execute("DROP TABLE result")  # type: ignore[union-attr]
        words = rf"{path} cannot be read: OperationalError: no such table: \S*result; is it damaged\?$"
        with pytest.raises(RuntimeError, match=words):
            store.look_up(known, ["1"])


def test_a_file_of_which_a_part_is_gone(tmp_path: Path) -> None:
    """Whatever fails when a file is opened, it is not left open."""
    path = tmp_path / "run.db"
    save(path, row("a"))
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE function")
    fails(path, "OperationalError: no such table: .*function")


def test_a_newer_schema(tmp_path: Path) -> None:
    """A later release has written the file: this one does not touch it."""
    path = tmp_path / "run.db"
    save(path, row("a"))
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 2")
    fails(path, "its schema is version 2, and this release of aiosupervise knows 1: install a newer release")


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    """Nothing is made but the file, and the error says so."""
    fails(tmp_path / "none" / "run.db", "cannot be opened: its folder does not exist: create the folder first")
    assert not (tmp_path / "none").exists()


@contextlib.contextmanager
def somebody_else() -> Iterator[None]:
    """Act as a user without rights, where this one has all of them."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A folder that everybody can read, if its parents can be read."""
    folder = tmp_path
    folder.chmod(0o755)
    for parent in folder.parents:
        if not parent.stat().st_mode & stat.S_IXOTH:
            if parent.stat().st_uid != os.geteuid():
                pytest.skip("the folder of the tests is private")
            parent.chmod(0o711)
    return folder


def test_a_file_that_is_read_only(shared: Path) -> None:
    """It is refused at the beginning, and not when the first result comes."""
    path = shared / "run.db"
    save(path, row("a"))
    (shared / "run.db.lock").chmod(0o666)
    path.chmod(0o444)
    with somebody_else():
        fails(path, "PermissionError: .*can this process write to it")


def test_a_folder_that_is_read_only(shared: Path) -> None:
    """Likewise."""
    (shared / "closed").mkdir(mode=0o555)
    with somebody_else():
        fails(shared / "closed" / "run.db", "PermissionError: .*can this process write to it and to its folder")


def test_a_full_disk(tmp_path: Path) -> None:
    """Nothing of a group is stored that does not fit as a whole; what was there before stays."""
    path = tmp_path / "run.db"
    with opened(path) as (store, _):
        store.save([row("a")])
        store._connection.execute("PRAGMA max_page_count = 10")  # type: ignore[union-attr]
        words = f"{path} cannot be written: OperationalError: database or disk is full; is there space left"
        with pytest.raises(RuntimeError, match=words):
            store.save([row("b"), row("c", "x" * 100_000)])
    assert look_up(path, "a", "b", "c") == ["1", None, None]


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="mounting takes root")
def test_a_full_tmpfs(tmp_path: Path) -> None:
    """The same on a real disk, which is small."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["/bin/mount", "-t", "tmpfs", "-o", "size=256k", "none", disk], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("this container may not mount")
    try:
        with opened(disk / "run.db") as (store, _):
            store.save([row("a")])
            with pytest.raises(
                RuntimeError, match=r"cannot be written: OperationalError: (database or disk is full|disk)"
            ):
                store.save([row("c", "x" * 500_000)])
        assert look_up(disk / "run.db", "a", "c") == ["1", None]
    finally:
        subprocess.run(["/bin/umount", disk], check=True)
