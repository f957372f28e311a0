"""`map_all(..., journal=...)`: known inputs are not called again, whatever has changed, and all others are."""

import asyncio
import functools
import itertools
import json
import logging
import pickle
import random
import re
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest

from aiosupervise import (
    Event,
    Failure,
    JobFinished,
    Journal,
    Outcome,
    Overload,
    Run,
    RunFinished,
    RunStarted,
    Stopped,
    Success,
    map_all,
    supervise,
)
from aiosupervise._batch._journal.store import Store
from aiosupervise.testing import no_waiting

STRATEGIES: list[Literal["gather", "as_completed", "wait"]] = ["gather", "as_completed", "wait"]


class Service:
    """Counts the calls that reach it."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.broken: set[object] = set()

    async def __call__(self, item: Any) -> Any:
        """A job."""
        self.calls.append(item)
        await asyncio.sleep(0)
        if item in self.broken:
            raise LookupError(item)
        return {"of": item}


async def collect(run: Run[Any, Any]) -> list[Outcome[Any, Any]]:
    """Read a streamed run to its end."""
    async with run:
        return [outcome async for outcome in run]


async def awaited(run: Run[Any, Any]) -> list[Outcome[Any, Any]]:
    """Await a run."""
    return [*await run]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A path with blanks."""
    return tmp_path / "my run.db"


@pytest.fixture
def service() -> Service:
    """A service."""
    return Service()


def values(outcomes: list[Outcome[Any, Any]]) -> list[Any]:
    """The values of outcomes, all of which succeeded."""
    return [outcome.value for outcome in outcomes if isinstance(outcome, Success)]


# In a real loop, with the thread, and in a virtual one, without it.


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("get", [awaited, collect])
@pytest.mark.parametrize("thread", [True, False])
def test_the_same_line_twice(
    path: Path, service: Service, strategy: Any, get: Callable[[Run[Any, Any]], Awaitable[Any]], *, thread: bool
) -> None:
    """Under every strategy, awaited and streamed: the second run calls nothing, and its outcomes are the same."""

    async def main() -> tuple[list[Outcome[Any, Any]], Run[Any, Any]]:
        run = map_all(service, range(450), strategy=strategy, limit=30, name="fetch", journal=str(path))
        with nullcontext() if thread else no_waiting():
            return await get(run), run

    (first, one), (second, two) = asyncio.run(main()), asyncio.run(main())
    assert len(service.calls) == 450
    assert sorted(outcome.index for outcome in first) == [*range(450)]
    assert {o.index: o.value for o in first} == {o.index: o.value for o in second}  # type: ignore[union-attr]
    assert [o.replayed for o in first] == [False] * 450  # type: ignore[union-attr]
    assert [o.replayed for o in second] == [True] * 450  # type: ignore[union-attr]
    assert [o.name for o in second[:2]] == ["fetch-0", "fetch-1"]
    assert (one.tally.succeeded, one.tally.replayed) == (450, 0)
    assert (two.tally.succeeded, two.tally.replayed, two.tally.running, two.tally.total) == (450, 450, 0, 450)
    if strategy == "gather":
        assert [o.index for o in second] == [*range(450)]


@pytest.mark.looptime
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("get", [awaited, collect])
async def test_half_of_the_inputs_are_known(path: Path, service: Service, strategy: Any, get: Any) -> None:
    """The others are called, wherever they stand; failures are called again."""
    service.broken = {3, 50}
    await map_all(service, range(0, 60, 2), journal=path, name="fetch")
    assert len(service.calls) == 30
    service.calls.clear()
    service.broken = {3}
    outcomes = await get(map_all(service, range(60), journal=path, name="fetch", strategy=strategy, limit=7))
    assert sorted(service.calls) == sorted([*range(1, 60, 2), 50])
    assert sorted(outcome.index for outcome in outcomes) == [*range(60)]
    assert [outcome.index for outcome in outcomes if isinstance(outcome, Failure)] == [3]
    assert {o.input: o.value for o in outcomes if isinstance(o, Success)} == {n: {"of": n} for n in range(60) if n != 3}
    assert sum(isinstance(outcome, Success) and outcome.replayed for outcome in outcomes) == 29


@pytest.mark.looptime
async def test_another_order_and_other_sources(path: Path, service: Service) -> None:
    """Neither the order of the inputs nor what they come from is part of the key; the index is that of this run."""
    await map_all(service, range(100), journal=path, name="fetch")
    mixed = [*range(100)]
    random.Random(1).shuffle(mixed)

    async def later() -> AsyncIterator[int]:
        for number in mixed:
            yield number

    for source in (mixed, (number for number in mixed), later()):
        report = await map_all(service, source, journal=path, name="fetch")
        assert [outcome.input for outcome in report] == mixed
        assert report.values() == [{"of": number} for number in mixed]
        assert report.tally.replayed == 100
    assert len(service.calls) == 100


@pytest.mark.looptime
async def test_equal_inputs(path: Path) -> None:
    """Each has a row of its own: three results were stored, so the fourth input is called."""
    count = iter(range(10))

    async def roll(_: str) -> int:
        await asyncio.sleep(0)
        return next(count)

    first = await map_all(roll, ["die"] * 3, journal=path)
    again = await map_all(roll, ["die"] * 4, journal=path)
    assert sorted(first.values()) == [0, 1, 2]
    assert sorted(again.values()) == [0, 1, 2, 3]
    assert again.tally.replayed == 3
    assert sorted((await map_all(roll, ["die"] * 4, journal=path)).values()) == [0, 1, 2, 3]


@pytest.mark.looptime
async def test_inputs_of_different_types(path: Path, service: Service) -> None:
    """Python takes them for equal, a run does not."""
    items: list[Any] = [1, "1", 1.0, True, 0.0, -0.0]
    await map_all(service, items[:1], journal=path, name="fetch")
    report = await map_all(service, items, journal=path, name="fetch")
    assert report.tally.replayed == 1
    assert len(service.calls) == 6


@dataclass
class Document:
    """An input without a key of its own."""

    id: str
    text: str = ""


class Client:
    """What functions close over."""

    async def fetch(self, item: Any) -> str:
        """A job that is a method."""
        return f"{id(self)} {item}"


async def fetch(item: Any) -> str:
    """A job."""
    return f"old {item}"


@pytest.mark.looptime
async def test_another_function_of_that_name(path: Path, service: Service) -> None:
    """The code is not part of the key: a changed function, a method, a closure, a partial and a lambda replay alike."""
    old = (await map_all(fetch, ["a", "b"], journal=path)).values()

    async def new(item: Any) -> str:
        return await service(item)  # type: ignore[no-any-return]

    new.__name__ = "fetch"
    decorated = supervise(retry_on=OSError)(new)
    functions: list[Any] = [new, decorated, Client().fetch, Client().fetch, functools.partial(new)]
    for function in functions:
        assert (await map_all(function, ["a", "b"], journal=path)).values() == old
    others: list[Any] = [service, lambda item: service(item)]  # noqa: PLW0108 - it is about the lambda
    for function in others:
        assert (await map_all(_as_async(function), ["a", "b"], journal=path, name="fetch")).values() == old
    assert service.calls == []


def _as_async(function: Callable[[Any], Awaitable[Any]]) -> Callable[[Any], Awaitable[Any]]:
    async def call(item: Any) -> Any:
        return await function(item)

    return call


@pytest.mark.looptime
async def test_another_name_or_version(path: Path, service: Service) -> None:
    """Nothing replays, and nothing is deleted: with the previous ones everything is known again."""
    await map_all(service, ["a"], journal=path, name="fetch")
    for name, version in (("fetch", "2"), ("parse", "")):
        assert not (await map_all(service, ["a"], journal=Journal(path, version=version), name=name)).tally.replayed
    assert len(service.calls) == 3
    for name, version in (("fetch", "2"), ("parse", ""), ("fetch", "")):
        assert (await map_all(service, ["a"], journal=Journal(path, version=version), name=name)).tally.replayed == 1


@pytest.mark.looptime
async def test_a_renamed_function(path: Path, service: Service, caplog: pytest.LogCaptureFixture) -> None:
    """The file has rows under other names only: a line of the log names them, once."""
    for name in ("parse", "fetch"):
        await map_all(service, ["a"], journal=Journal(path), name=name)
    caplog.clear()
    for _ in range(2):
        await map_all(service, ["a"], journal=path, name="fetch_page")
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    found = f"run fetch_page has no results in the journal {path}, which has results of fetch, parse"
    repair = "if the function was renamed, pass its previous name as name="
    assert [record.getMessage() for record in warnings] == [f"{found}: {repair}"]
    assert warnings[0].__dict__["aiosupervise_others"] == "fetch, parse"


@pytest.mark.looptime
async def test_a_key_function_and_a_codec(path: Path) -> None:
    """Objects as inputs and as values; the text of a document may change, its id is the key."""
    calls = []

    async def ask(document: Document) -> Document:
        calls.append(document)
        return Document(document.id, "answer")

    journal = Journal(path, key=lambda document: document.id, version="prompt-3", codec=pickle)
    await map_all(ask, [Document("a"), Document("b")], journal=journal)
    report = await map_all(ask, [Document("b", "changed"), Document("c")], journal=journal)
    assert report.values() == [Document("b", "answer"), Document("c", "answer")]
    assert [call.id for call in calls] == ["a", "b", "c"]
    assert report[0].input == Document("b", "changed")


@pytest.mark.looptime
async def test_an_input_that_its_job_changes(path: Path) -> None:
    """The key is that of the input as it was when the job started."""

    async def use_up(item: dict[str, int]) -> int:
        item["n"] += 1
        return item["n"]

    await map_all(use_up, [{"n": 1}], journal=path)
    report = await map_all(use_up, iter([{"n": 1}, {"n": 2}]), journal=path)
    assert [outcome.replayed for outcome in report.succeeded] == [True, False]
    assert [row["replayed"] for row in report.to_dicts()] == [True, False]


@pytest.mark.looptime
async def test_attempts_and_seconds_are_those_of_the_job(path: Path) -> None:
    """A replayed outcome has the attempts and seconds of the job when it ran."""
    failures = iter([ConnectionError()])

    @supervise(retry_on=ConnectionError, backoff=[3.0])
    async def flaky(_: int) -> int:
        for failure in failures:
            raise failure
        await asyncio.sleep(2)
        return 7

    [before] = await map_all(flaky, [1], journal=path)
    [after] = await map_all(flaky, [1], journal=path)
    assert isinstance(before, Success)
    assert isinstance(after, Success)
    assert (before.attempts, before.elapsed) == (after.attempts, after.elapsed) == (2, 5.0)


@pytest.mark.looptime
async def test_a_clock_that_jumps(path: Path, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of day is stored for people, and nothing goes by it."""
    for moment in (1_800_000_000.5, 0.0, 2_000_000_000.0):
        monkeypatch.setattr(time, "time", lambda moment=moment: moment)
        await map_all(service, ["a", moment], journal=path, name="fetch")
    assert service.calls == ["a", 1_800_000_000.5, 0.0, 2_000_000_000.0]
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT saved_at FROM journal").fetchall() == [
        ("2027-01-15 08:00:00",),
        ("2027-01-15 08:00:00",),
        ("1970-01-01 00:00:00",),
        ("2033-05-18 03:33:20",),
    ]
    connection.close()


# Slots.


@pytest.mark.looptime
async def test_known_inputs_take_no_slot(path: Path, service: Service) -> None:
    """They pass while every slot but one is taken, as fast as they come."""
    await map_all(service, range(100), journal=path, name="fetch")
    hold = asyncio.Event()

    async def slow(item: int) -> int:
        await hold.wait()
        return item

    run = map_all(slow, [1000, *range(100), 1001, 1002], limit=2, strategy="as_completed", journal=path, name="fetch")
    async with run:
        async for outcome in run:
            if run.tally.replayed == 100:
                hold.set()
            assert outcome is not None
    assert run.tally.succeeded == 103


@pytest.mark.looptime
async def test_nothing_is_looked_up_when_all_results_are_taken(
    path: Path, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest of the inputs cannot be known."""
    await map_all(service, [0], journal=path, name="fetch")
    keys: list[str] = []
    look_up = Store.look_up

    def counted(store: Store, results: Any, some: Any) -> Any:
        keys.extend(some)
        return look_up(store, results, some)

    monkeypatch.setattr(Store, "look_up", counted)
    report = await map_all(service, range(500), limit=10, journal=path, name="fetch")
    assert report.tally.replayed == 1
    assert keys == [str(item) for item in range(10)]


@pytest.mark.looptime
async def test_new_jobs_wait_for_slots_that_went_during_the_lookup(
    path: Path, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as by a limit that has shrunk: the inputs that were pulled start one by one."""
    await map_all(service, [1000], journal=path, name="fetch")
    look_up = Store.look_up
    running: list[int] = []

    def shrink(store: Store, results: Any, some: Any) -> Any:
        run.tally.limit = 1
        return look_up(store, results, some)

    async def work(item: int) -> int:
        running.append(run.tally.running)
        await asyncio.sleep(1)
        return item

    monkeypatch.setattr(Store, "look_up", shrink)
    run = map_all(work, range(6), limit=5, journal=path, name="fetch")
    assert (await run).values() == [*range(6)]
    assert running == [1] * 6


@pytest.mark.looptime
async def test_an_item_of_an_async_source_does_not_wait_for_the_next(path: Path, service: Service) -> None:
    """The item starts or is replayed at once, although more slots are free."""
    await map_all(service, ["a", "never comes"], journal=path)

    async def source() -> AsyncIterator[str]:
        for item in ("a", "b", "c"):
            yield item
            await asyncio.sleep(10)

    async with map_all(service, source(), strategy="as_completed", journal=path) as run:
        moments = [int(asyncio.get_running_loop().time()) async for _ in run]
    assert moments == [0, 10, 20]


@pytest.mark.looptime
async def test_an_outcome_that_waits_for_its_commit_takes_no_slot(path: Path) -> None:
    """One slot, and ten jobs at once within a commit interval; they are handed over together."""
    loop = asyncio.get_running_loop()

    async def work(item: int) -> int:
        await asyncio.sleep(0.001)
        return item

    async with map_all(work, range(10), limit=1, strategy="as_completed", journal=path) as run:
        moments = [(outcome.index, round(loop.time(), 3)) async for outcome in run]
    assert moments == [(index, 0.01) for index in range(10)]


@pytest.mark.looptime
async def test_a_group_that_turns_out_to_be_large_enough_goes_at_once(path: Path) -> None:
    """The first commit shows how large the rows are; those that wait are more than a group then."""
    loop = asyncio.get_running_loop()

    async def work(item: int) -> str:
        await asyncio.sleep(0.001 if item < 30 else 1)
        return "x" * 200_000

    async with map_all(work, range(31), limit=31, strategy="as_completed", journal=path) as run:
        moments = [round(loop.time(), 3) async for _ in run]
    assert moments == [0.001] * 30 + [1.0]


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("size", "waiting", "moment"), [(1000, 1, 0.021), (1000, 2, 0.001), (800, 2, 0.001), (3000, 1, 0.001)]
)
async def test_a_group_of_large_rows_is_smaller(
    path: Path, monkeypatch: pytest.MonkeyPatch, size: int, waiting: int, moment: float
) -> None:
    """A group has at most two megabytes, unless a single row is larger; fewer rows wait for others."""
    monkeypatch.setattr("aiosupervise._batch._journal.session._MOST_BYTES", 2000)
    loop = asyncio.get_running_loop()

    async def work(item: int) -> str:
        await asyncio.sleep(0.001 if item > 10 else 1)
        return "x" * (size - len('11""'))

    inputs = range(10, 10 + 1 + 20 + waiting)
    async with map_all(work, inputs, strategy="as_completed", journal=path) as run:
        moments = [round(loop.time(), 3) async for _ in run]
    assert moments == [0.001] * 20 + [moment] * waiting + [1.0]


@pytest.mark.looptime
@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_a_slow_reader_slows_the_run(path: Path, strategy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is pulled while `limit` outcomes are unread, but for those of one commit interval; known ones count."""
    monkeypatch.setattr("aiosupervise._batch._journal.session._MOST_ROWS", 10)
    monkeypatch.setattr("aiosupervise._batch._journal.session._FIRST_ROWS", 10)
    pulled = 0

    async def work(item: int) -> int:
        return item

    def source() -> Iterator[int]:
        nonlocal pulled
        for number in range(100):
            pulled += 1
            yield number

    for most in (5 + 1 + 20, 5 + 1):  # the second time, all are known
        pulled = 0
        async with map_all(work, source(), limit=5, strategy=strategy, journal=path) as run:
            count = 0
            async for _ in run:
                await asyncio.sleep(1)
                count += 1
                assert pulled <= count + most
        assert count == 100


@pytest.mark.looptime
async def test_failures_keep_their_place(path: Path) -> None:
    """An outcome that needs no commit waits for those before it that do."""

    async def work(item: int) -> int:
        if item % 2:
            raise LookupError
        return item

    async with map_all(work, range(20), limit=1, strategy="as_completed", journal=path) as run:
        assert [outcome.index async for outcome in run] == [*range(20)]


@pytest.mark.looptime
@pytest.mark.parametrize("large", ["keys", "values"])
async def test_new_jobs_wait_while_too_many_outcomes_do(
    path: Path, monkeypatch: pytest.MonkeyPatch, large: str
) -> None:
    """At most two groups of rows are in memory; they are committed in groups."""
    commits = []
    save = Store.save

    def counted(store: Store, rows: Any) -> None:
        held = [*rows]
        commits.append(len(held))
        save(store, held)

    monkeypatch.setattr(Store, "save", counted)

    async def work(item: str) -> str:
        return "x" if large == "keys" else item * 100_000

    await map_all(work, ["y" * 100_000 if large == "keys" else "y"] * 100, limit=30, journal=path)
    assert sum(commits) == 100
    assert max(commits[1:]) <= 2 * 20
    assert commits[0] <= 20 + 30


# What is seen.


@pytest.mark.looptime
async def test_events_and_the_log_tell_how_many_are_replayed(
    path: Path, service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    """The first event says how many are known, the last one how many were taken, and so does the log."""
    caplog.set_level(logging.INFO)
    events: list[Event] = []
    await map_all(service, range(6), journal=path, name="fetch", listen=events.append)
    await map_all(service, range(4, 9), journal=path, name="fetch", listen=events.append)
    await map_all(service, range(2), name="fetch", listen=events.append)
    assert [event.known for event in events if isinstance(event, RunStarted)] == [0, 6, None]
    assert [event.replayed for event in events if isinstance(event, RunFinished)] == [0, 2, None]
    assert sum(isinstance(event, JobFinished) for event in events) == 13
    texts = [record.getMessage() for record in caplog.records if record.levelno == logging.INFO]
    assert texts[1].endswith("5 succeeded, 0 failed, 0 pending, 0 retries; 2 of 5 from the journal")
    assert texts[2].endswith("2 succeeded, 0 failed, 0 pending, 0 retries")


@pytest.mark.looptime
async def test_overload_protection_knows_nothing_of_them(path: Path) -> None:
    """Replayed outcomes fund no budget and are no first attempts; a paused run probes a new job."""
    is_down = False

    @supervise(retry_on=ConnectionError, backoff=[0.01], max_retries=None)
    async def fetch(item: int) -> int:
        if is_down:
            raise ConnectionError
        return item

    overload = Overload(first_pause=1.0, longest_pause=1.0, probes=2)
    await map_all(fetch, range(200), journal=path)
    is_down = True
    report = await map_all(fetch, range(400), limit=20, journal=path, overload=overload, timeout=10)
    assert report.tally.replayed == 200
    assert report.tally.succeeded == 200
    assert report.stopped is Stopped.PROBES


# Arguments.


async def anything(item: Any) -> Any:
    """A job."""
    return item


@pytest.mark.parametrize("source", [[{1}], ({1},), [b""], [Document("a")], [object()]])
def test_held_inputs_without_a_key(path: Path, source: Any) -> None:
    """They are refused before there is a run or a file."""
    with pytest.raises(TypeError, match=r"input 0 is .*key=lambda item: item.id"):
        map_all(anything, source, journal=path)
    assert not path.exists()


@pytest.mark.parametrize(
    ("journal", "error", "words"),
    [
        (":memory:", ValueError, "names a file on disk; got ':memory:'"),
        ("", ValueError, "names a file on disk"),
        ("file:x?mode=memory", ValueError, "names a file on disk"),
        ("a\0b", ValueError, "names a file on disk"),
        (5, TypeError, r"journal must be a path, a Journal\(...\), or None for no journal; got 5"),
        (b"run.db", TypeError, "journal must be a path"),
        (True, TypeError, "journal must be a path"),
    ],
)
def test_journals_that_are_none(journal: Any, error: type[Exception], words: str) -> None:
    """At once, with what to write instead."""
    with pytest.raises(error, match=words):
        map_all(anything, [1], journal=journal)


class BytesPath:
    """A PathLike of the other kind."""

    def __fspath__(self) -> bytes:
        return b"run.db"


async def async_key(_: object) -> str:
    """Objects that are not key functions."""
    raise AssertionError


class AsyncCodec:
    """A codec of the other kind."""

    def dumps(self, _: object) -> str:
        """Encode a value."""
        raise AssertionError

    async def loads(self, _: object) -> object:
        """Decode a value."""
        raise AssertionError


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"path": BytesPath()}, "path of a journal must be a str or a PathLike of str; got a value of type BytesPath"),
        ({"path": 5}, "path of a journal must be a str or a PathLike of str; got 5"),
        (
            {"key": "id"},
            "^key must be a function of an input that returns a str, or None for inputs that are their own key; got a",
        ),
        ({"key": async_key}, "async_key is async: write a plain function"),
        ({"version": 3}, "version must be a str; got 3"),
        ({"codec": object()}, "codec must have the functions dumps and loads, as json has; got a value of type object"),
        ({"codec": SimpleNamespace(dumps=json.dumps)}, "codec must have the functions dumps and loads, as json has"),
        ({"codec": json.dumps}, "codec must have the functions dumps and loads, as json has; got a value of type func"),
        ({"codec": AsyncCodec()}, "its function loads is async: write a plain function"),
    ],
)
def test_arguments_of_a_journal(keywords: Any, words: str) -> None:
    """Each is checked when the journal is made."""
    with pytest.raises(TypeError, match=words):
        Journal(**{"path": "x.db", **keywords})


def test_a_lambda_needs_a_name(path: Path) -> None:
    """All lambdas have the same one."""
    for function in (lambda item: anything(item), functools.partial(lambda _, item: anything(item), 1)):  # noqa: PLW0108
        with pytest.raises(TypeError, match=r"async function|a lambda has no name .*name='fetch'"):
            map_all(function, [1], journal=path)


def test_an_async_lambda_needs_a_name(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as an async function that is called so, or a lambda that is marked as one."""
    monkeypatch.setattr(anything, "__name__", "<lambda>")
    rule = "a journal finds results by the name of the function, and a lambda has none: "
    repair = "write map_all(func, inputs, journal=..., name='fetch')"
    with pytest.raises(TypeError, match=f"^{re.escape(rule + repair)}$"):
        map_all(anything, [1], journal=path)
    with pytest.raises(TypeError, match="and a lambda has none"):
        map_all(anything, [1], journal=path, name="")
    map_all(anything, [1], journal=path, name="fetch").close()


@pytest.mark.parametrize("keywords", [{"name": "\ud800"}, {"version": "\ud800"}])
async def test_a_name_that_no_file_can_hold(path: Path, service: Service, keywords: dict[str, str]) -> None:
    """Half of a surrogate pair is refused, by an error that names the file."""
    journal = Journal(path, version=keywords.get("version", ""))
    with pytest.raises(RuntimeError, match=r"run\.db cannot be opened: UnicodeEncodeError"):
        await map_all(service, [1], journal=journal, name=keywords.get("name"))


def test_a_journal_shows_its_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is absolute, so that it stays the same when the program goes elsewhere."""
    monkeypatch.chdir(path.parent)
    journal = Journal("x.db")
    assert journal.path == str(path.parent / "x.db")
    assert repr(journal) == f"<Journal {journal.path}>"


def test_the_file_is_read_by_others(path: Path, service: Service) -> None:
    """Keys and values are text, when no run uses it."""
    asyncio.run(awaited(map_all(service, ["a"], journal=path, name="fetch")))
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT key, value FROM journal").fetchall() == [('"a"', '{"of": "a"}')]
    connection.close()


# Several runs.


@pytest.mark.parametrize("thread", [True, False])
def test_one_journal_in_two_runs_at_once(path: Path, service: Service, *, thread: bool) -> None:
    """They share the file; a second Journal of the same file is refused while they run."""
    journal = Journal(path)

    async def main() -> list[int]:
        gate, started = asyncio.Event(), asyncio.Event()

        async def wait(item: int) -> int:
            started.set()
            await gate.wait()
            return item

        async def second() -> None:
            with pytest.raises(RuntimeError, match="another Journal of this process has it open"):
                await map_all(service, range(3), journal=str(path), name="other")
            await map_all(service, range(300), journal=journal, name="other")
            gate.set()

        with nullcontext() if thread else no_waiting():
            first = asyncio.ensure_future(map_all(wait, range(300), journal=journal))
            await started.wait()
            await second()
            report = await first
            again = await map_all(wait, range(300), journal=journal)
            other = await map_all(service, range(300), journal=str(path), name="other")
            return [report.tally.replayed, again.tally.replayed, other.tally.replayed]

    assert asyncio.run(main()) == [0, 300, 300]
    assert len(service.calls) == 300


def test_a_run_in_a_job_of_a_run(path: Path) -> None:
    """One file serves both, if they are given the same Journal."""
    journal = Journal(path)

    async def inner(item: int) -> int:
        return item

    async def outer(item: int) -> list[int]:
        return (await map_all(inner, [10 * item, 10 * item + 1], journal=journal)).values()

    for replayed in (0, 3):
        report = asyncio.run(_report(map_all(outer, range(3), journal=journal)))
        assert report.values() == [[0, 1], [10, 11], [20, 21]]
        assert report.tally.replayed == replayed


async def _report(run: Run[Any, Any]) -> Any:
    return await run


def test_many_inputs_that_are_known_leave_others_their_turn(path: Path) -> None:
    """A run without a limit yields to the event loop after replaying 200 inputs."""

    async def work(item: int) -> int:
        return item

    async def main() -> list[int]:
        seen: list[int] = []

        async def watch(run: Run[Any, Any]) -> None:
            while True:
                await asyncio.sleep(0)
                seen.append(run.tally.replayed)

        await map_all(work, range(2000), limit=None, journal=path)
        run = map_all(work, range(2000), limit=None, journal=path)
        watching = asyncio.create_task(watch(run))
        await run
        watching.cancel()
        return [*seen, 2000]

    for block in (nullcontext, no_waiting):
        with block():
            seen = asyncio.run(main())
        assert max(later - earlier for earlier, later in itertools.pairwise(seen)) == 200
