"""Every kind of job, and everything that is none."""

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable, Iterator
from contextvars import ContextVar
from typing import Any

import pytest

from aiosupervise import Event, Failure, JobFinished, Pending, Report, Success, map_all, run_all
from aiosupervise._batch import local

COLOUR: ContextVar[str] = ContextVar("COLOUR", default="none")


async def answer(value: int = 42) -> int:
    """A job."""
    await asyncio.sleep(0)
    return value


class Waitable:
    """An awaitable that is neither a coroutine nor a future."""

    def __await__(self) -> Generator[None, None, int]:
        yield
        return 42


class Callee:
    """An object with an async __call__, and a method."""

    async def __call__(self) -> int:
        return 42

    async def method(self) -> int:
        """A method that is a job."""
        return 42


async def done_future() -> "asyncio.Future[int]":
    """A future with a result."""
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    future.set_result(42)
    return future


async def as_async(items: Iterable[Any]) -> AsyncIterator[Any]:
    """The same items, from an async generator."""
    for item in items:
        await asyncio.sleep(0)
        yield item


@pytest.mark.parametrize(
    "make",
    [
        answer,
        lambda: answer,
        lambda: functools.partial(answer, 42),
        lambda: lambda: answer(42),
        lambda: Callee().method,
        Callee,
        Waitable,
        lambda: Waitable,
        lambda: asyncio.ensure_future(answer()),
        lambda: functools.partial(asyncio.ensure_future, Waitable()),
    ],
    ids=[
        "coroutine",
        "async function",
        "partial",
        "lambda",
        "method",
        "object with async call",
        "awaitable",
        "function that returns an awaitable",
        "task",
        "function that returns a task",
    ],
)
async def test_every_awaitable_and_every_function_that_returns_one_is_a_job(make: Callable[[], Any]) -> None:
    """A job is a coroutine, any other awaitable, or a callable without arguments that returns one."""
    assert (await run_all([make()])).values() == [42]


async def test_a_future_is_a_job() -> None:
    """A plain future counts as well as a coroutine."""
    assert (await run_all([await done_future()])).values() == [42]


@pytest.mark.parametrize(
    "collect",
    [list, tuple, iter, lambda jobs: (job for job in jobs), dict.fromkeys, as_async],
    ids=["list", "tuple", "iterator", "generator", "dict", "async generator"],
)
async def test_jobs_of_all_kinds_come_mixed_from_any_iterable(collect: Callable[[list[Any]], Any]) -> None:
    """Lists, tuples, iterators, generators and async generators feed a run, with kinds freely mixed."""
    jobs = [answer(0), functools.partial(answer, 1), asyncio.ensure_future(answer(2)), Waitable()]
    assert (await run_all(collect(jobs))).values() == [0, 1, 2, 42]


@pytest.mark.parametrize("strategy", ["gather", "as_completed", "wait"])
@pytest.mark.parametrize("collect", [list, as_async])
async def test_no_jobs_make_an_empty_report(strategy: Any, collect: Callable[[list[Any]], Any]) -> None:
    """An empty source is fine for every strategy, though asyncio.wait refuses it."""
    report = await run_all(collect([]), strategy=strategy)
    assert list(report) == report.values() == []


async def test_a_job_has_one_task_with_a_name() -> None:
    """Each job runs in a task of its own, named after its function and its index; `name` overrules the function."""

    async def me() -> str:
        task = asyncio.current_task()
        assert task is not None
        return task.get_name()

    jobs: list[Any] = [me, me()]
    report: Report[str] = await run_all(jobs)
    assert report.values() == [outcome.name for outcome in report] == ["me-0", "me-1"]
    assert (await run_all([me(), me()], name="fetch")).values() == ["fetch-0", "fetch-1"]
    assert [o.name for o in await map_all(answer, [1])] == ["answer-0"]
    named: Any = functools.partial(answer, 1)
    named.__name__ = "fetch"
    assert [o.name for o in await run_all([named])] == ["fetch-0"]
    nameless: list[Any] = [functools.partial(answer, 1), Callee().method, Callee(), Waitable()]
    assert [o.name for o in await run_all(nameless)] == ["answer-0", "method-1", "Callee-2", "Waitable-3"]


@pytest.mark.parametrize(("name", "expected"), [(None, "run_all pump"), ("fetch", "fetch pump")])
async def test_a_run_has_one_more_task_with_a_name(name: str | None, expected: str) -> None:
    """Beside the jobs' tasks a run has one of its own, which says whose it is where tasks are listed."""

    async def others() -> set[str]:
        mine = asyncio.current_task(), caller
        return {task.get_name() for task in asyncio.all_tasks() if task not in mine}

    caller = asyncio.current_task()
    assert (await run_all([others], name=name)).values() == [{expected}]


async def test_jobs_are_in_the_call_graph_where_asyncio_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Since Python 3.14: while a job runs, its task is awaited by that of the run."""
    awaited: dict[str, str] = {}

    def add(task: asyncio.Task[Any], awaiter: asyncio.Task[Any]) -> None:
        awaited[task.get_name()] = awaiter.get_name()

    def discard(task: asyncio.Task[Any], awaiter: asyncio.Task[Any]) -> None:
        assert awaited.pop(task.get_name()) == awaiter.get_name()

    monkeypatch.setattr(local, "_add_awaiter", add)
    monkeypatch.setattr(local, "_discard_awaiter", discard)
    async with map_all(answer, [1, 2, 3], limit=2) as run:
        await asyncio.sleep(0)
        assert awaited == {"answer-0": "answer pump", "answer-1": "answer pump"}
        assert [outcome.index async for outcome in run] == [0, 1, 2]
    assert awaited == {}


async def test_a_job_has_one_context() -> None:
    """What a job sets in its context no other job sees; what the caller has set all see."""
    COLOUR.set("blue")

    async def paint(colour: str) -> str:
        before = COLOUR.get()
        COLOUR.set(colour)
        await asyncio.sleep(0)
        return f"{before} {COLOUR.get()}"

    assert (await map_all(paint, ["red", "green"], limit=1)).values() == ["blue red", "blue green"]
    assert COLOUR.get() == "blue"


async def test_the_context_of_a_source_is_its_own() -> None:
    """Context variables set by the source are invisible to jobs and listeners; those set by a job, to listeners."""
    seen: list[str] = []

    def inputs() -> Iterator[int]:
        for number in range(3):
            COLOUR.set(f"source {number}")
            yield number

    def on_event(event: Event) -> None:
        if isinstance(event, JobFinished):
            seen.append(COLOUR.get())

    async def paint(number: int) -> str:
        before = COLOUR.get()
        COLOUR.set(f"job {number}")
        return before

    COLOUR.set("blue")
    assert (await map_all(paint, inputs(), limit=1, listen=on_event)).values() == ["blue"] * 3
    assert seen == ["blue"] * 3


async def test_map_all_calls_with_each_input_and_keeps_it() -> None:
    """Under map_all every outcome carries its input, and one to run again calls with it."""

    async def half(number: int) -> float:
        if number % 2:
            raise ValueError(number)
        if number == 4:
            await asyncio.Event().wait()
        return number / 2

    report = await map_all(half, [2, 3, 4, 6], limit=3, strategy="wait", return_when="FIRST_EXCEPTION")
    assert [outcome.input for outcome in report] == [2, 3, 4, 6]
    by_input = {outcome.input: outcome for outcome in report}
    assert isinstance(by_input[2], Success)
    assert isinstance(by_input[3], Failure)
    never_run = by_input[6]
    assert isinstance(never_run, Pending)
    assert not never_run.started
    assert never_run.job is not None
    assert await never_run.job() == 3


@pytest.mark.parametrize("collect", [iter, as_async])
async def test_map_all_takes_coroutines_for_plain_inputs(collect: Callable[[list[Any]], Any]) -> None:
    """An input is passed on as it is, awaitable or not."""

    async def run(job: Awaitable[int]) -> int:
        return await job

    assert (await map_all(run, collect([answer(1), answer(2)]))).values() == [1, 2]


async def test_map_all_accepts_a_plain_function_that_is_marked_as_async() -> None:
    """Such a function may return any awaitable, like a job of `run_all`."""

    def start(number: int) -> "asyncio.Future[int]":
        return asyncio.ensure_future(answer(number))

    start._is_coroutine = object()  # type: ignore[attr-defined]  # the mark of asyncio before Python 3.12
    assert (await map_all(start, [1, 2])).values() == [1, 2]


def needs_argument(value: int) -> Awaitable[int]:
    """A callable that is no job, for it needs an argument."""
    return answer(value)


def returns_none() -> Any:
    """A callable that is no job, for it returns nothing."""


def returns_number() -> Any:
    """A callable that cannot be a job, because it returns a number."""
    return 7


def raises() -> Awaitable[int]:
    """A callable that raises instead of returning a job."""
    raise KeyError("config")


def raises_type_error() -> Awaitable[int]:
    """A callable whose own TypeError is not about its call."""
    raise TypeError("of its own")


@pytest.mark.parametrize(
    ("job", "kind", "words"),
    [
        (needs_argument, TypeError, ["job 1", "without arguments", "functools.partial(needs_argument, ...)"]),
        (returns_none, TypeError, ["job 1", "returns_none", "returned None"]),
        (returns_number, TypeError, ["job 1", "returns_number", "returned 7"]),
        (raises, KeyError, ["job 1", "raises", "config"]),
        (raises_type_error, TypeError, ["job 1", "raises_type_error", "of its own"]),
    ],
)
async def test_a_job_that_cannot_be_made_is_its_own_failure(job: Any, kind: type[Exception], words: list[str]) -> None:
    """A callable that raises, needs arguments or returns no awaitable fails alone, with an error that says why."""
    report = await run_all([answer(0), job, answer(2)])
    (failure,) = report.failed
    assert failure.index == 1
    assert isinstance(failure.error, kind)
    text = " ".join([str(failure.error), *getattr(failure.error, "__notes__", ())])
    for word in [*words, "a job must be a coroutine"]:
        assert word in text
    assert len(report.succeeded) == 2


@pytest.mark.parametrize(
    ("job", "text"),
    [(raises_type_error, "of its own"), (functools.partial(int, "x"), "invalid literal for int() with base 10: 'x'")],
)
async def test_an_error_of_the_callables_own_keeps_its_text(job: Any, text: str) -> None:
    """Unless the call itself does not fit, the error is the callable's, and what was expected is a note on it."""
    (failure,) = (await run_all([job])).failed
    assert str(failure.error) == text
    (note,) = failure.error.__notes__
    assert note.startswith("raised by calling job 0, ")


@pytest.mark.parametrize("what", [42, None, "coroutine"])
@pytest.mark.parametrize("collect", [list, iter, as_async])
async def test_what_is_no_job_ends_the_run_with_an_error(what: object, collect: Callable[[Any], Any]) -> None:
    """An item that is neither awaitable nor callable is a source's error: running jobs finish, the rest is closed."""
    rest = answer(2)
    run = run_all(collect([answer(0), what, *([rest] if collect is list else [])]))
    with pytest.raises(TypeError, match=r"a job must be a coroutine.*job 1 is"):
        await run
    assert run.report.succeeded[0].value == 0
    rest.close()


@pytest.mark.parametrize("limit", [1, 2])
async def test_the_same_coroutine_twice_is_an_error(limit: int) -> None:
    """A coroutine object runs once: the second time it ends the run, while it runs and after it has run."""
    job = answer()
    run = run_all([job, job], limit=limit)
    with pytest.raises(TypeError, match=r"job 1 is a coroutine of answer that was given before.*call answer again"):
        await run
    assert run.report.succeeded[0].value == 42


@pytest.mark.parametrize("limit", [1, 3])
async def test_what_is_refused_has_a_place_all_the_same(limit: int) -> None:
    """The index of a job is its position in the input, also behind one that was refused."""
    job = answer(0)
    run = run_all([job, job, answer(1)], limit=limit)
    with pytest.raises(TypeError, match="given before"):
        await run
    assert [outcome.index for outcome in run.report] == [0, 2]


async def test_start_order_is_input_order() -> None:
    """Jobs start in the order of the source, whatever the strategy."""
    started: list[int] = []

    async def job(number: int) -> None:
        started.append(number)
        await asyncio.sleep(0)

    await map_all(job, range(50), strategy="as_completed", limit=7)
    assert started == list(range(50))


@pytest.mark.parametrize("collect", [iter, as_async])
async def test_a_job_is_pulled_only_when_a_place_is_free(collect: Callable[[Any], Any]) -> None:
    """The source is never more than `limit` ahead of what has ended."""
    pulled = 0
    ended = 0
    most = 0

    async def job() -> None:
        nonlocal ended
        await asyncio.sleep(0)
        ended += 1

    def source() -> Iterator[Callable[[], Awaitable[None]]]:
        nonlocal pulled, most
        for _ in range(20):
            pulled += 1
            most = max(most, pulled - ended)
            yield job

    await run_all(collect(source()), limit=3)
    assert (pulled, ended, most) == (20, 20, 3)


@pytest.mark.looptime
async def test_no_time_to_pull_starves_the_loop() -> None:
    """Thousands of jobs that never wait still let the loop's other tasks run, also while they are being started."""
    turns = 0
    turns_when_pulled: list[int] = []

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def job(number: int) -> int:
        return number

    def source() -> Iterator[int]:
        for number in range(3000):
            turns_when_pulled.append(turns)
            yield number

    task = asyncio.create_task(other())
    report = await map_all(job, source(), limit=None)
    task.cancel()
    assert report.values() == list(range(3000))
    assert turns_when_pulled[0] < turns_when_pulled[-1] < turns
    assert report.elapsed == 0


async def test_a_mapped_function_whose_parameters_do_not_fit_fails_in_its_job() -> None:
    """An async function that takes no input is called in the job, which fails with an explanation."""

    async def without_parameters() -> int:
        return 1

    func: Any = without_parameters
    (failure,) = (await map_all(func, [1])).failed
    assert isinstance(failure.error, TypeError)
    assert "job 0 cannot be called as it is" in str(failure.error)
    assert "map_all with one input" in str(failure.error)
