"""The thread that writes: when there is one, and what becomes of it."""

import asyncio
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from aiosupervise import Journal, Run, map_all
from aiosupervise._batch._journal.store import Store
from aiosupervise._batch._journal.writer import Writer
from aiosupervise.testing import no_waiting


async def work(item: int) -> int:
    """A job."""
    await asyncio.sleep(0)
    return item


async def finish(run: Run[int, int]) -> list[int]:
    """Await a run."""
    return (await run).values()


@pytest.fixture
def saving(monkeypatch: pytest.MonkeyPatch) -> list[threading.Thread]:
    """The threads that commit."""
    threads = []
    save = Store.save

    def watched(store: Store, rows: object) -> None:
        threads.append(threading.current_thread())
        save(store, rows)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "save", watched)
    return threads


def test_a_thread_writes(tmp_path: Path, saving: list[threading.Thread]) -> None:
    """It is a daemon with the name of the file, and ends with the run."""
    asyncio.run(finish(map_all(work, range(500), journal=tmp_path / "run.db")))
    [thread] = {*saving}
    assert (thread.name, thread.daemon) == ("journal run.db", True)
    thread.join(10)
    assert not thread.is_alive()


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the threads that were started."""
    names = []
    start = threading.Thread.start

    def watched(thread: threading.Thread) -> None:
        names.append(thread.name)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", watched)
    return names


def test_no_waiting_needs_no_thread(tmp_path: Path, saving: list[threading.Thread], started: list[str]) -> None:
    """In a test, the file is opened, written and closed in the loop."""
    with no_waiting():
        asyncio.run(finish(map_all(work, range(500), journal=tmp_path / "run.db")))
    assert {*saving} == {threading.current_thread()}
    assert "journal run.db" not in started


@pytest.mark.looptime
async def test_a_virtual_clock_needs_no_thread(
    tmp_path: Path, saving: list[threading.Thread], started: list[str]
) -> None:
    """A loop that has a clock of its own cannot wait for a thread."""
    await map_all(work, range(500), journal=tmp_path / "run.db")
    assert {*saving} == {threading.current_thread()}
    assert "journal run.db" not in started


def test_a_loop_that_is_not_built_upon_asyncios(tmp_path: Path, saving: list[threading.Thread]) -> None:
    """uvloop's clock is a real one."""
    uvloop = pytest.importorskip("uvloop")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for _ in range(2):
            assert runner.run(finish(map_all(work, range(500), journal=tmp_path / "run.db"))) == [*range(500)]
    assert threading.current_thread() not in saving


def test_a_system_without_another_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run fails and says why; the next one of the journal starts the thread."""
    journal = Journal(tmp_path / "run.db")

    def fail(_: object) -> None:
        raise RuntimeError("can't start new thread")

    async def run() -> bool:
        return (await asyncio.wait_for(map_all(work, [1, 2], journal=journal), 10)).ok

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            asyncio.run(run())
    assert asyncio.run(run())


def test_a_loop_that_is_closed_before_the_answer(tmp_path: Path) -> None:
    """The thread goes on, and serves the next loop."""
    writer, free = Writer(str(tmp_path / "run.db")), threading.Event()

    async def submit() -> None:
        writer.call(lambda _: free.wait(20), in_loop=False)

    async def ask() -> str:
        return await writer.call(lambda _: "answer", in_loop=False)

    asyncio.run(submit())
    free.set()
    assert asyncio.run(ask()) == "answer"


@pytest.mark.parametrize("in_loop", [True, False])
def test_one_thread_at_a_time_uses_the_file(tmp_path: Path, *, in_loop: bool) -> None:
    """Loops with virtual clocks in several threads, and the thread that writes, wait for each other."""
    writer, done = Writer(str(tmp_path / "run.db")), threading.Event()

    async def ask() -> None:
        await writer.call(lambda _: done.set(), in_loop=in_loop)

    thread = threading.Thread(target=lambda: asyncio.run(ask()))
    with writer._store.mutex:
        thread.start()
        assert not done.wait(0.05)
    thread.join(10)
    assert done.is_set()


def test_an_error_does_not_hold_the_run(tmp_path: Path) -> None:
    """The frames of the writer would, for as long as somebody keeps the error; its cause shows where it came from."""
    writer = Writer(str(tmp_path / "run.db"))

    def fail(_: Store) -> None:
        raise RuntimeError("no") from LookupError()

    async def ask() -> None:
        await writer.call(fail, in_loop=False)

    with pytest.raises(RuntimeError, match="no") as caught:
        asyncio.run(ask())
    assert "fail" not in {frame.name for frame in caught.traceback}
    assert isinstance(caught.value.__cause__, LookupError)


def test_new_jobs_wait_for_a_slow_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a commit takes long, at most two groups of outcomes and the running jobs are in memory."""
    saving, free = threading.Event(), threading.Event()
    save = Store.save
    calls: list[int] = []

    def slow(store: Store, rows: object) -> None:
        saving.set()
        free.wait(20)
        save(store, rows)  # type: ignore[arg-type]

    async def job(item: int) -> int:
        calls.append(item)
        return item

    async def main() -> list[int]:
        run = asyncio.create_task(finish(map_all(job, range(2000), limit=10, journal=tmp_path / "run.db")))
        await asyncio.to_thread(saving.wait, 20)
        for _ in range(1000):
            await asyncio.sleep(0)
        assert len(calls) <= 2 * 20 + 10
        free.set()
        return await run

    monkeypatch.setattr(Store, "save", slow)
    assert asyncio.run(main()) == [*range(2000)]


def test_a_journal_is_used_again_and_again(tmp_path: Path) -> None:
    """Each run opens the file and closes it, in loops and threads of their own."""
    journal = Journal(tmp_path / "run.db")
    for count in (10, 20):
        assert asyncio.run(finish(map_all(work, range(count), journal=journal))) == [*range(count)]
    results: list[list[int]] = []

    def main(name: str) -> None:
        results.append(asyncio.run(finish(map_all(work, range(300), journal=journal, name=name))))

    threads = [threading.Thread(target=main, args=(f"work {number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [[*range(300)]] * 4


FORK = """
import asyncio, os, selectors, sys
from aiosupervise import Journal, map_all

async def work(item):
    while item == 300 and not gate.is_set():
        await asyncio.sleep(0.001)
    return item

async def child():
    for journal_of_child in (journal, Journal(sys.argv[1])):
        try:
            await map_all(work, range(5), journal=journal_of_child)
        except RuntimeError as error:
            print(error, flush=True)

def fork(name, main):
    pid = os.fork()
    if pid == 0:
        print(name, asyncio.run(main), flush=True)
        sys.exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    main.close()

async def replayed(run):
    return (await run).tally.replayed

journal, gate = Journal(sys.argv[1]), asyncio.Event()
loop = asyncio.SelectorEventLoop(selectors.PollSelector())  # with epoll, the end of the child would deafen the parent
run = map_all(work, range(400), journal=journal)
task = loop.create_task(replayed(run))
while run.tally.succeeded < 300:
    loop.run_until_complete(asyncio.sleep(0.01))
fork("child of a run", child())
gate.set()
print("parent", loop.run_until_complete(task), flush=True)
print("again", asyncio.run(replayed(map_all(work, range(400), journal=journal))), flush=True)
fork("child", replayed(map_all(work, range(400), journal=journal)))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_fork(tmp_path: Path) -> None:
    """A child of a run gets an error, takes nothing away when it ends, and may use the file afterwards."""
    path = tmp_path / "run.db"
    made = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK, str(path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    repair = "wait until that has ended, or use another path"
    error = f"the journal {path} cannot be opened: another process has it open; {repair}"
    lines = made.stdout.splitlines()
    assert lines == [error, error, "child of a run None", "parent 0", "again 400", "child 400"], made.stderr


def test_the_end_of_a_program_does_not_wait(tmp_path: Path) -> None:
    """A loop that was stopped with a run in it leaves the thread behind."""
    program = """
import asyncio, sys
from aiosupervise import map_all
async def work(item):
    await asyncio.sleep(1000)
loop = asyncio.new_event_loop()
task = loop.create_task(map_all(work, [1], journal=sys.argv[1]))
loop.call_later(0.1, loop.stop)
loop.run_forever()
print("end", flush=True)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    made = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, str(tmp_path / "run.db")],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
        env=environment,
    )
    assert made.stdout == "end\n"
