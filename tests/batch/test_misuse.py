"""Mistakes in the user's code raise an error or a warning that says what to write."""

import asyncio
import contextvars
import functools
import gc
import inspect
import math
import queue
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, cast

import pytest

from aiosupervise import Run, map_all, run_all
from aiosupervise._batch import misuse


async def job(value: int = 1) -> int:
    """A job."""
    return value


async def two_jobs() -> AsyncIterator[int]:
    """An async generator."""
    yield 1


@pytest.fixture(autouse=True)
def no_later_warning() -> Iterator[None]:
    """Let "never awaited" warnings come while the test still runs: they would fail it."""
    yield
    gc.collect()


@pytest.mark.parametrize(
    "make", [lambda: run_all([job(), job()]), lambda: map_all(job, [1, 2])], ids=["run_all", "map_all"]
)
async def test_a_run_that_is_never_awaited_warns(make: Callable[[], Run[int, Any]]) -> None:
    """A forgotten run warns, as a coroutine does."""
    with pytest.warns(RuntimeWarning) as caught:
        make()
    assert "was never awaited" in str(caught[0].message)
    assert "<Run " in str(caught[0].message)


async def test_the_warning_for_a_forgotten_run_points_at_the_line_that_dropped_it() -> None:
    """It does not point into the library."""
    with pytest.warns(RuntimeWarning) as caught:
        run_all([job])
    assert caught[0].filename == __file__


async def test_the_warning_for_a_forgotten_run_carries_it() -> None:
    """So where tracemalloc is on, Python says where the run was made."""
    with pytest.warns(RuntimeWarning) as caught:
        run_all([job])
    assert isinstance(caught[0].source, Run)


async def test_a_forgotten_run_closes_the_coroutines_of_its_list() -> None:
    """One warning for the run is enough: its coroutines are closed."""
    with pytest.warns(RuntimeWarning) as caught:
        run_all([job(), job()])
    assert len(caught) == 1


async def awaited(run: Run[int, Any]) -> None:
    """Use a run in the one way."""
    await run


async def entered(run: Run[int, Any]) -> None:
    """Use a run in the other way."""
    async with run:
        pass


@pytest.mark.parametrize("first", [awaited, entered])
@pytest.mark.parametrize("second", [awaited, entered])
async def test_a_run_is_used_once(first: Any, second: Any) -> None:
    """A second time is an error that says what to call."""
    run = run_all([job])
    await first(run)
    with pytest.raises(RuntimeError, match=r"used before, and a run is used once: call run_all or map_all again"):
        await second(run)


async def test_awaiting_inside_the_block_is_an_error() -> None:
    """A run that was entered is read, not awaited."""
    async with run_all([job]) as run:
        with pytest.raises(
            RuntimeError,
            match=r"^the run was entered, so it cannot be awaited: read it with `async for outcome in run`$",
        ):
            await run


async def bare_async_for(run: Run[int]) -> None:
    """Read a run that was not entered."""
    async for _ in run:
        pass


async def bare_anext(run: Run[int]) -> None:
    """The same, by hand."""
    await anext(run)


@pytest.mark.parametrize("read", [bare_async_for, bare_anext])
@pytest.mark.parametrize("before", [None, awaited, entered])
async def test_a_bare_async_for_shows_the_right_code(read: Any, before: Any) -> None:
    """A run is read only inside its block, not before, not after, not without."""
    run = run_all([job])
    if before is not None:
        await before(run)
    with pytest.raises(
        RuntimeError, match=r":\nasync with run_all\(...\) as run:\n    async for outcome in run: \.\.\.$"
    ):
        await read(run)
    if before is None:
        await run


async def test_leaving_what_was_not_entered_is_an_error() -> None:
    """__aexit__ without __aenter__ is an error as well."""
    run = run_all([job])
    with pytest.raises(RuntimeError, match="async with"):
        await run.__aexit__(None, None, None)
    await run


async def test_stop_needs_a_run_that_has_started() -> None:
    """There is nothing to stop in a run that has not started."""
    run = run_all([job])
    with pytest.raises(RuntimeError, match="nothing to stop: await it or enter it first"):
        run.stop()
    await run


BAD: list[tuple[dict[str, Any], type[Exception], list[str]]] = [
    ({"strategy": "race"}, ValueError, ["strategy", "'gather'", "'as_completed'", "'wait'", "'race'"]),
    ({"limit": 0}, ValueError, ["limit must be an integer of at least 1, or None for no limit; got 0"]),
    ({"limit": -1}, ValueError, ["limit", "-1"]),
    ({"limit": True}, TypeError, ["limit", "True"]),
    ({"limit": 2.5}, TypeError, ["limit", "2.5"]),
    (
        {"timeout": -1},
        ValueError,
        ["timeout must be a finite number of seconds, 0 or more, or None for no limit; got -1"],
    ),
    ({"timeout": math.nan}, ValueError, ["timeout", "nan"]),
    ({"timeout": math.inf}, ValueError, ["timeout", "inf"]),
    ({"timeout": "1"}, TypeError, ["timeout", "'1'"]),
    ({"return_when": "FIRST_COMPLETED"}, ValueError, ["return_when", "strategy='wait' only", "'gather'"]),
    (
        {"return_when": "FIRST_EXCEPTION", "strategy": "as_completed"},
        ValueError,
        ["return_when", "strategy='wait' only", "'as_completed'"],
    ),
    (
        {"return_when": "SOME", "strategy": "wait"},
        ValueError,
        ["return_when must be 'ALL_COMPLETED', 'FIRST_COMPLETED' or 'FIRST_EXCEPTION'; got 'SOME'"],
    ),
    ({"name": 3}, TypeError, ["name", "3"]),
    ({"listen": 3}, TypeError, ["listen must be a function of one argument, the event; got 3"]),
    ({"total": -1}, ValueError, ["total must be an integer of at least 0, or None for an unknown number; got -1"]),
    ({"max_failures": -1}, ValueError, ["max_failures must be an integer of at least 0, or None for no limit; got -1"]),
]


@pytest.mark.parametrize(("options", "kind", "words"), BAD, ids=[str(options) for options, _, _ in BAD])
@pytest.mark.parametrize("collect", [list, tuple])
def test_a_bad_argument_is_refused_at_once(
    options: dict[str, Any], kind: type[Exception], words: list[str], collect: Callable[[Any], Any]
) -> None:
    """A bad argument names itself, the rule and what was given; the coroutines of a list are closed."""
    with pytest.raises(kind) as caught:
        run_all(collect([job(), job, job()]), **options)
    for word in words:
        assert word in str(caught.value)
    with pytest.raises(kind):
        map_all(job, [1], **options)


@pytest.mark.parametrize(
    "make", [lambda: 3, lambda: None, lambda: job, job], ids=["int", "None", "function", "coroutine"]
)
def test_jobs_must_be_iterable(make: Callable[[], Any]) -> None:
    """One job alone is no source: put it into a list. A coroutine is closed."""
    with pytest.raises(TypeError, match=r"jobs must be an iterable or an async iterable.*put it into a list"):
        run_all(make())


async def test_a_future_is_no_source() -> None:
    """A future can be iterated over, but is not a source of jobs."""
    task = asyncio.create_task(job())
    with pytest.raises(TypeError, match="jobs must be an iterable"):
        run_all(task)  # type: ignore[arg-type]
    await task


@pytest.mark.parametrize("text", ["https://example.com", b"https://example.com"], ids=["str", "bytes"])
def test_a_text_is_no_list_of_inputs(text: Any) -> None:
    """A single URL would make a job of each letter: the error says so."""
    with pytest.raises(TypeError) as caught:
        map_all(job, text)
    assert str(caught.value) == (
        f"inputs must be an iterable of inputs, not of letters; got a value of type {type(text).__name__}: put it into "
        f"a list"
    )


def test_inputs_must_be_iterable() -> None:
    """So must the inputs of map_all."""
    with pytest.raises(TypeError, match="inputs must be an iterable or an async iterable; got 3"):
        map_all(job, 3)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("func", "name"),
    [(len, "len"), (functools.partial(print, 1), "print"), (3, "3"), (two_jobs, "two_jobs"), (dict, "dict")],
)
def test_map_all_needs_an_async_function(func: Any, name: str) -> None:
    """A plain function, a class or an async generator is refused by name."""
    with pytest.raises(
        TypeError, match=f"func must be an async function of one argument, or a functools.partial of one; {name} is not"
    ):
        map_all(func, [1])


# What people try first

# Calls that no type checker lets pass.
any_run: Any = run_all
any_map: Any = map_all


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: any_run(job(), job()), ["run_all takes one iterable of jobs; got 2 arguments", "run_all([fetch(1),"]),
        (lambda: any_run([job()], [job()]), ["run_all takes one iterable of jobs; got 2 arguments"]),
        (lambda: any_run([job()], 10), ["name all other arguments, as in run_all(jobs, limit=10)"]),
        (
            lambda: any_map(job, [1], [2]),
            ["map_all takes a function", "got 3 arguments", "itertools.starmap(func, zip("],
        ),
        (lambda: any_map(job, [1], 10), ["as in map_all(func, inputs, limit=10)"]),
        (
            lambda: any_run([job()], return_exceptions=True),
            ["run_all has no return_exceptions", "report.failed", "report.values() raises"],
        ),
        (lambda: any_run(jobs=[job()], return_exceptions=False), ["run_all has no return_exceptions"]),
        (lambda: any_map(job, [1], return_exceptions=True), ["map_all has no return_exceptions", "report.failed"]),
        (
            lambda: any_run([job()], journal="run.db"),
            ["run_all has no journal", "write map_all(func, inputs, journal=...)"],
        ),
        (lambda: any_run([job()], engine=None), ["run_all has no engine", "write map_all(func, inputs, engine=...)"]),
        (lambda: any_run([job()], progress=print), ["pass an event listener as listen="]),
        (lambda: any_map(job(), [1]), ["func must be an async function"]),
        (lambda: any_map(job, job()), ["inputs must be an iterable"]),
    ],
)
def test_what_people_try_first_gets_an_error_that_says_what_to_write(make: Callable[[], Any], words: list[str]) -> None:
    """And its coroutines are closed: nothing was "never awaited"."""
    with pytest.raises(TypeError) as caught:
        make()
    for word in words:
        assert word in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_the_messages_in_full() -> None:
    """A call that does not fit the signature of a guarded function gets a message that depends on its name."""

    def run_all(jobs: object, *, limit: int = 1) -> None:
        raise AssertionError(jobs, limit)

    def map_all(func: object, inputs: object, *, limit: int = 1) -> None:
        raise AssertionError(func, inputs, limit)

    def refusal(func: Callable[..., None], *args: object, **keywords: object) -> str:
        with pytest.raises(TypeError) as caught:
            misuse.guarded(func)(*args, **keywords)
        assert caught.value.__suppress_context__
        return str(caught.value)

    no_return_exceptions = (
        "{} has no return_exceptions, since a failed job does not raise: its error is in report.failed; "
        "report.values() raises if anything failed, as gather does"
    )
    assert refusal(run_all, [], return_exceptions=True) == no_return_exceptions.format("run_all")
    assert refusal(map_all, job, [], return_exceptions=True) == no_return_exceptions.format("map_all")
    assert refusal(run_all, [], journal="run.db") == (
        "run_all has no journal, which needs the function and the input of each job: write "
        "map_all(func, inputs, journal=...)"
    )
    assert refusal(run_all, 1, 2) == (
        "run_all takes one iterable of jobs; got 2 arguments: put jobs into a list, "
        "run_all([fetch(1), fetch(2)]), and name all other arguments, as in run_all(jobs, limit=10)"
    )
    assert refusal(map_all, job, 1, 2) == (
        "map_all takes a function of one argument and one iterable of inputs; got 3 arguments: for a "
        "function of several write run_all(itertools.starmap(func, zip(first, second))), and name all other "
        "arguments, as in map_all(func, inputs, limit=10)"
    )


def test_other_errors_of_a_guarded_call_pass_through() -> None:
    """Python's message stays for all other calls that do not fit, and an error of the function itself is the same."""
    error = TypeError("of its own")

    def run_all(_: object, *, return_exceptions: bool = False) -> None:
        if return_exceptions:
            raise error

    def map_all(func: object, inputs: object) -> None:
        raise AssertionError(func, inputs)

    with pytest.raises(TypeError) as caught:
        misuse.guarded(run_all)(1, return_exceptions=True)
    assert caught.value is error
    for arguments in [(), (job,)]:
        with pytest.raises(TypeError, match=r"map_all\(\) missing"):
            cast("Callable[..., None]", misuse.guarded(map_all))(*arguments)
    with pytest.raises(TypeError, match=r"map_all\(\) got an unexpected keyword argument 'journal'"):
        cast("Callable[..., None]", misuse.guarded(map_all))(job, [], journal="run.db")
    with pytest.raises(TypeError, match=r"map_all\(\) got an unexpected keyword argument 'limits'"):
        cast("Callable[..., None]", misuse.guarded(map_all))(job, [], limits=2)
    with pytest.raises(TypeError, match=r"run_all\(\) got an unexpected keyword argument 'limits'"):
        cast("Callable[..., None]", misuse.guarded(run_all))(1, limits=2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: any_run([job()], limits=3), r"^run_all\(\) got an unexpected keyword argument 'limits'"),
        (lambda: any_map(job, [1], jobs=3), r"^map_all\(\) got an unexpected keyword argument 'jobs'"),
        (any_run, r"^run_all\(\) missing 1 required positional argument: 'jobs'$"),
        (lambda: any_map(job), r"^map_all\(\) missing 1 required positional argument: 'inputs'$"),
    ],
)
def test_other_calls_that_do_not_fit_get_pythons_message(make: Callable[[], Any], message: str) -> None:
    """Python knows the parameter best; coroutines are closed all the same."""
    with pytest.raises(TypeError, match=message):
        make()


def test_inputs_are_left_alone_by_a_call_that_is_refused() -> None:
    """They belong to the user, coroutines among them too."""
    coroutine = job()
    with pytest.raises(TypeError):
        any_map(job, [coroutine], [1])
    coroutine.close()
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED


@pytest.mark.parametrize("make", [lambda queue: map_all(job, queue), run_all], ids=["map_all", "run_all"])
async def test_a_queue_is_no_source_and_the_error_shows_one(make: Callable[[Any], Any]) -> None:
    """The lines that it shows read the queue to its end."""
    queue: asyncio.Queue[Any] = asyncio.Queue()
    with pytest.raises(TypeError, match="a queue is read like this:\n") as caught:
        make(queue)
    shown = str(caught.value).partition(":\n")[2]
    for item in (1, 2, None):
        queue.put_nowait(item)
    scope: dict[str, Any] = {"queue": queue, "map_all": map_all, "func": job}
    exec(f"{shown.replace('map_all', 'run = map_all')}", scope)  # noqa: S102 - our own lines
    assert (await scope["run"]).values() == [1, 2]
    assert len(shown.splitlines()) == 4


class AsyncQueue:
    """A queue of another library."""

    async def get(self) -> int:
        """Return an item."""
        return 1

    def put(self, item: int) -> None:
        """Add an item."""


@pytest.mark.parametrize(
    ("made", "get"),
    [
        (queue.Queue(), "await asyncio.to_thread(queue.get)"),
        (queue.SimpleQueue(), "await asyncio.to_thread(queue.get)"),
        (AsyncQueue(), "await queue.get()"),
    ],
    ids=["queue.Queue", "SimpleQueue", "another library's"],
)
def test_other_queues_are_read_in_their_own_way(made: Any, get: str) -> None:
    """A queue of threads would block the loop."""
    with pytest.raises(TypeError, match=r"a queue is read like this:\n") as caught:
        map_all(job, made)
    assert get in str(caught.value)


class PutOnly:
    """An object with a `put` method, but no `get`."""

    def put(self, item: int) -> None:
        """Add an item."""


@pytest.mark.parametrize("thing", [contextvars.ContextVar("variable"), PutOnly()], ids=["get", "put"])
def test_an_object_with_only_one_method_of_a_queue_is_not_a_queue(thing: Any) -> None:
    """The error shows the repair for any single object, not the way to read a queue."""
    with pytest.raises(TypeError, match=r"got a value of type \w+: put it into a list$"):
        map_all(job, thing)


def generate() -> Iterator[Any]:
    """A source."""
    yield job


async def generate_async() -> AsyncIterator[Any]:
    """An async source."""
    yield job


@pytest.mark.parametrize("source", [generate, generate_async])
def test_a_generator_function_is_to_be_called(source: Any) -> None:
    """A list with it in it would be one job."""
    with pytest.raises(
        TypeError, match=rf"got the generator function {source.__name__}: call it, {source.__name__}\(\)$"
    ):
        run_all(source)


def test_what_a_refused_call_raises_has_few_lines_of_ours() -> None:
    """The user's line comes first, then ours."""
    with pytest.raises(ValueError, match="limit") as caught:
        run_all([], limit=0)
    assert str(caught.traceback[0].path) == __file__


def test_run_all_and_map_all_keep_their_signatures() -> None:
    """For editors, and for the documentation."""
    assert list(inspect.signature(run_all).parameters)[:3] == ["jobs", "strategy", "limit"]
    assert list(inspect.signature(map_all).parameters)[:3] == ["func", "inputs", "strategy"]
    assert run_all.__name__ == "run_all"


@pytest.mark.parametrize("func", [len, functools.partial(print, 1)])
def test_a_plain_function_is_led_to_the_page_on_blocking_functions(func: Any) -> None:
    """Anything but a function is rejected."""
    with pytest.raises(TypeError, match=r"write `async def`; if it blocks, call it in a thread: https://.*/blocking-f"):
        map_all(func, [1])
    with pytest.raises(TypeError, match=r"write `async def`$"):
        map_all(3, [1])  # type: ignore[call-overload]


async def test_an_error_whose_notes_cannot_be_read_is_a_failure() -> None:
    """Whatever a job raises is its outcome."""

    class UnreadableError(Exception):
        @property
        def __notes__(self) -> list[str]:  # type: ignore[override]  # that is the point
            raise OSError("unreadable")

    async def fail() -> None:
        raise UnreadableError

    jobs: list[Any] = [fail, job]
    report = await run_all(jobs)
    assert [type(outcome).__name__ for outcome in report] == ["Failure", "Success"]
