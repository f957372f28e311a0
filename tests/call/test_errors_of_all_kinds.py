"""Errors of all kinds: overruling ones in groups, classes whose attributes raise, and huge errors."""

import asyncio
import pickle
from collections.abc import Callable, Coroutine, Iterator
from datetime import timedelta
from typing import Any, Self

import pytest

from aiosupervise import (
    GiveUp,
    Policy,
    Reason,
    RestartsExceeded,
    RetryAfter,
    Supervisor,
    attempt,
    listen,
    map_all,
    verdict,
)

from .endings import error_of, verdict_of
from .forms import Supervise, now, only_async, two_forms

BASE = Policy(retry_on=ConnectionError, backoff=[0], max_retries=1)


def raising(*errors: Exception) -> Callable[[], Coroutine[object, None, None]]:
    """A function that raises these errors, one in each attempt; the last one repeats."""
    left = list(errors)

    async def func() -> None:
        raise left.pop(0) if len(left) > 1 else left[0]

    return func


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


def group(*errors: Exception) -> ExceptionGroup[Exception]:
    return ExceptionGroup("several", errors)


# Earlier errors


async def test_an_unlisted_error_lists_the_failures_before_it(supervise: Supervise) -> None:
    """A closed file in attempt 2 does not hide the lost connection of attempt 1."""
    error = ValueError("I/O operation on closed file")
    policy = BASE.replace(name="upload")
    assert await error_of(supervise(policy)(raising(ConnectionError("dropped"), error))()) is error
    assert verdict(error) is None
    assert error.__notes__ == [
        "upload: passed on from attempt 2, after retries of other errors\n  attempt 1: ConnectionError: dropped"
    ]


async def test_the_note_about_earlier_failures_is_pickled_as_text(supervise: Supervise) -> None:
    """In another process it is an ordinary note."""
    error = ValueError()
    await error_of(supervise(BASE)(raising(ConnectionError(), error))())
    there = pickle.loads(pickle.dumps(error.__notes__))  # noqa: S301
    assert there == error.__notes__
    assert type(there[0]) is str


async def test_the_note_of_a_former_call_is_replaced(supervise: Supervise) -> None:
    """An error object that many calls raise does not collect their notes; the user's own note stays."""
    error = ValueError()
    error.add_note("by hand")
    for n in range(5):
        await error_of(supervise(BASE)(raising(ConnectionError(n), error))())
    assert [note[-18:] for note in error.__notes__] == ["by hand", "ConnectionError: 4"]


async def test_each_layer_lists_its_own_failures(supervise: Supervise) -> None:
    """An error that passes through two layers lists the failures of both, each of them once."""
    error = ValueError()
    inner = supervise(BASE)(raising(ConnectionError("inner"), error))
    outer_fails = [ConnectionError("outer")]

    @supervise(BASE)
    async def outer() -> None:
        if outer_fails:
            raise outer_fails.pop()
        await inner()

    assert await error_of(outer()) is error
    assert [note.splitlines()[1:] for note in error.__notes__] == [
        ["  attempt 1: ConnectionError: inner"],
        ["  attempt 1: ConnectionError: outer"],
    ]


async def test_a_layer_that_does_not_retry_lists_its_failures(supervise: Supervise) -> None:
    """If an inner call has given up on the error, the outer layer adds its own earlier failures."""
    inner = supervise(BASE.replace(max_retries=0))(raising(ConnectionError("inner")))
    outer_fails = [ConnectionError("outer")]

    @supervise(BASE.replace(max_retries=5))
    async def outer() -> None:
        if outer_fails:
            raise outer_fails.pop()
        await inner()

    error = await error_of(outer())
    assert verdict_of(error).attempts == 1
    assert error.__notes__[1].endswith("  attempt 1: ConnectionError: outer")


async def test_a_line_names_the_leaves_of_a_group(supervise: Supervise) -> None:
    """The note names the errors of a task group, not only their number; lines are joined."""
    first = group(ConnectionError("a"), group(ConnectionError("b\n  c")))
    error = await error_of(supervise(BASE)(raising(first, ConnectionError()))())
    assert verdict_of(error).splitlines()[1:] == [
        "  attempt 1: ExceptionGroup: several (2 sub-exceptions): ConnectionError: a; ConnectionError: b c"
    ]


# GiveUp and RetryAfter in groups


@only_async
async def test_a_give_up_in_a_task_group_is_replaced_by_its_error(supervise: Supervise) -> None:
    """The caller gets the group with the error that the GiveUp stands for, and a verdict on it."""
    original = ConnectionError("no such page")

    async def child() -> None:
        try:
            raise original
        except ConnectionError as error:
            raise GiveUp from error

    @supervise(BASE)
    async def both() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(child())

    error = await error_of(both())
    assert isinstance(error, ExceptionGroup)
    assert error.exceptions == (original,)
    assert error.message == "unhandled errors in a TaskGroup"
    assert verdict_of(error).reason is Reason.IRRECOVERABLE


async def test_groups_are_unwrapped_leaf_by_leaf(supervise: Supervise) -> None:
    """Leaves are unwrapped at any depth, also behind an overruling error; a group without one stays the same object."""
    one, two, three = (ConnectionError(n) for n in range(3))
    untouched = group(one)
    mixed = group(untouched, caused(RetryAfter(0), two), caused(GiveUp(), group(caused(GiveUp(), three), GiveUp())))
    mixed.add_note("by hand")
    mixed.__cause__ = cause = KeyError()
    error: Any = await error_of(supervise(BASE)(raising(mixed))())
    assert error.exceptions[0] is untouched
    assert error.exceptions[1] is two
    assert error.exceptions[2].exceptions[0] is three
    assert type(error.exceptions[2].exceptions[1]) is GiveUp
    assert error.__cause__ is cause
    assert error.__notes__ == ["by hand", verdict(error)]
    assert not hasattr(mixed.exceptions[2], "__notes__")
    assert await error_of(supervise(BASE)(raising(untouched))()) is untouched


class OwnGroup(ExceptionGroup[Exception]):
    """A group class of the user's own."""

    def derive(self, excs: Any) -> "OwnGroup":  # type: ignore[override]
        """Return a group of the same class."""
        return OwnGroup(self.message, excs)


class BrokenGroup(ExceptionGroup[Exception]):
    """A group that cannot be copied."""

    def derive(self, _: Any) -> Self:  # type: ignore[override]
        """Fail."""
        raise RuntimeError


class SameGroup(ExceptionGroup[Exception]):
    """A group that returns itself as its copy."""

    def derive(self, _: Any) -> Self:  # type: ignore[override]
        """Return the same group."""
        return self


class NoGroup(ExceptionGroup[Exception]):
    """A group that returns an error other than a group as its copy."""

    def derive(self, _: Any) -> Any:
        """Return an error that is not a group."""
        return KeyError()


@pytest.mark.parametrize(
    ("kind", "copied"),
    [(OwnGroup, OwnGroup), (BrokenGroup, ExceptionGroup), (SameGroup, ExceptionGroup), (NoGroup, ExceptionGroup)],
)
async def test_a_group_keeps_its_class_if_possible(
    kind: type[ExceptionGroup[Exception]], copied: type, supervise: Supervise
) -> None:
    """A group that cannot be copied becomes a plain one, with the same message."""
    error: Any = await error_of(supervise(BASE)(raising(kind("own", [caused(GiveUp(), KeyError(1))])))())
    assert (type(error), error.message, error.exceptions[0].args) == (copied, "own", (1,))


async def test_a_retry_after_in_a_group_is_unwrapped_for_attempts_and_listeners(supervise: Supervise) -> None:
    """The next attempt and the listeners get the errors that the leaves stand for."""
    previous: list[Any] = []
    received: list[Any] = []
    original = ConnectionError()

    @supervise(BASE)
    async def func() -> None:
        previous.append(attempt().previous_error)
        if len(previous) == 1:
            raise group(caused(RetryAfter(0), original))

    with listen(lambda event: received.append(getattr(event, "error", None))):
        await func()
    assert previous[1].exceptions == (original,)
    assert previous[1] in received


# Errors whose attributes raise


def refuse(*_: object) -> Any:
    """Raise, like a lazy proxy without its backend."""
    raise RuntimeError("not here")


class GetattrError(ConnectionError):
    def __getattr__(self, name: str) -> object:
        raise RuntimeError(name)


class GetattributeError(ConnectionError):
    def __getattribute__(self, name: str) -> object:
        raise RuntimeError(name)


class SetattrError(ConnectionError):
    __setattr__ = refuse
    __delattr__ = refuse


class TextError(ConnectionError):
    __str__ = refuse
    __repr__ = refuse


class WithTracebackError(ConnectionError):
    def with_traceback(self, _: object) -> Any:
        """Return nothing, like a method with a forgotten return statement."""


class UnequalError(ConnectionError):
    __eq__ = refuse
    __hash__ = None  # type: ignore[assignment]
    __bool__ = refuse
    __len__ = refuse


class Meta(type):
    """A metaclass whose attributes and operators raise."""

    __name__ = property(refuse)
    __eq__ = refuse
    __hash__ = type.__hash__
    __instancecheck__ = refuse


class OddClassError(ConnectionError, metaclass=Meta):
    pass


def with_property(name: str) -> type[ConnectionError]:
    """A class in which one attribute is a property that raises."""
    return type(f"Odd{name}", (ConnectionError,), {name: property(refuse, refuse)})


NAME_OF = type.__dict__["__name__"].__get__
NAMES = ["__notes__", "__class__", "__cause__", "__context__", "__traceback__", "__suppress_context__", "__dict__"]
NAMES += ["args", "retry_after", "with_traceback", "add_note", "exceptions", "__reduce__", "seconds"]
ODD: list[type[ConnectionError]] = [GetattrError, GetattributeError, SetattrError, TextError, WithTracebackError]
ODD += [UnequalError, OddClassError]
ODD += [with_property(name) for name in NAMES]


class OddGroup(ExceptionGroup[Exception]):
    """A group whose every attribute raises."""

    def __getattribute__(self, name: str) -> object:
        raise RuntimeError(name)


@pytest.fixture(params=["alone", "listened to", "limited"])
def policy(request: pytest.FixtureRequest) -> Iterator[Policy]:
    """A policy: used alone, with a listener, and with limits."""
    if request.param == "listened to":
        with listen(lambda _: None):
            yield BASE
    else:
        yield BASE if request.param == "alone" else BASE.replace(attempt_timeout=60, deadline=60, gate=asyncio.Lock())


@two_forms
@pytest.mark.parametrize("kind", ODD, ids=NAME_OF)
@pytest.mark.parametrize("before", [0, 1])
async def test_no_error_is_replaced(
    kind: type[ConnectionError], before: int, policy: Policy, supervise: Supervise
) -> None:
    """The last error is the caller's own, with a verdict, whatever its class does on access to an attribute."""
    errors = [kind() for _ in range(2 - before)]
    error = await error_of(supervise(policy)(raising(*[ConnectionError()] * before, *errors))())
    assert error is errors[-1]
    assert (verdict_of(error).attempts, verdict_of(error).reason) == (2, Reason.EXHAUSTED)


@only_async
@pytest.mark.looptime
@pytest.mark.parametrize("kind", ODD, ids=NAME_OF)
async def test_no_error_of_an_interrupted_attempt_is_replaced(
    kind: type[ConnectionError], supervise: Supervise
) -> None:
    """An attempt that a time limit cancels may raise an error of its own, which is the caller's."""
    error = kind()

    async def func() -> None:
        try:
            await asyncio.sleep(2)
        finally:
            raise error

    for limits in ({"attempt_timeout": 1}, {"deadline": 1}):
        assert await error_of(supervise(BASE.replace(**limits, max_retries=0))(func)()) is error  # type: ignore[arg-type]


@two_forms
@pytest.mark.parametrize("kind", ODD, ids=NAME_OF)
async def test_no_error_of_a_gate_is_replaced(kind: type[ConnectionError], supervise: Supervise) -> None:
    """Neither on entering the gate, inside the limits around it, nor on leaving it."""
    for at in ("__aenter__", "__aexit__"):
        error = kind()

        async def fail(*_: object, error: Exception = error) -> None:
            raise error

        async def pass_by(*_: object) -> None: ...

        gate = type("Gate", (), {"__aenter__": pass_by, "__aexit__": pass_by, at: fail})()
        policy = BASE.replace(gate=gate, deadline=60, max_retries=0)
        assert await error_of(supervise(policy)(raising())()) is error


@two_forms
@pytest.mark.parametrize("kind", ODD, ids=NAME_OF)
async def test_no_unlisted_error_is_replaced(kind: type[ConnectionError], policy: Policy, supervise: Supervise) -> None:
    """An error that passes through, alone or in a group, stays the same and gets a note about the attempt before."""
    for error in (kind(), group(kind(), group(kind())), OddGroup("", [kind(), caused(RetryAfter(0), kind())])):
        unlisting = policy.replace(retry_on=TimeoutError)
        caught: Any = await error_of(supervise(unlisting)(raising(TimeoutError(), error))())
        assert issubclass(type(caught), (kind, ExceptionGroup))
        notes = BaseException.__dict__["__dict__"].__get__(caught)["__notes__"]
        assert notes[-1].endswith("attempt 1: TimeoutError")


@two_forms
@pytest.mark.parametrize("kind", ODD, ids=NAME_OF)
async def test_no_error_behind_another_is_replaced(
    kind: type[ConnectionError], policy: Policy, supervise: Supervise
) -> None:
    """An error behind a GiveUp or RetryAfter, of an inner layer, or with an odd error as its cause, stays the same."""
    for overruling in (GiveUp(), RetryAfter(0)):
        original = kind()
        assert await error_of(supervise(policy)(raising(caused(overruling, original)))()) is original
    inner = supervise(policy.replace(gate=None))(raising(kind()))
    assert type(await error_of(supervise(policy)(inner)())) is kind
    outer = caused(ConnectionError(), kind())
    assert await error_of(supervise(policy)(raising(outer))()) is outer


@pytest.mark.parametrize("kind", ODD, ids=NAME_OF)
async def test_no_error_is_replaced_in_a_batch(kind: type[ConnectionError], supervise: Supervise) -> None:
    """The failure of a job is its own error."""
    error = kind()

    @supervise(BASE)
    async def func(_: int) -> None:
        raise error

    report = await map_all(func, [1])
    assert report.failed[0].error is error


@pytest.mark.parametrize("kind", ODD, ids=NAME_OF)
async def test_no_error_is_replaced_where_jobs_come_from(kind: type[ConnectionError]) -> None:
    """The error of a source is raised, and that of the body of a streamed run leaves it."""
    error = kind()

    def source() -> Iterator[int]:
        yield 0
        raise error

    async def streamed() -> None:
        async with map_all(asyncio.sleep, [0]) as run:
            async for _ in run:
                raise error

    async def awaited() -> None:
        await map_all(asyncio.sleep, source())

    assert await error_of(awaited()) is error
    assert await error_of(streamed()) is error


@pytest.mark.looptime
@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all"])
@pytest.mark.parametrize("kind", ODD, ids=NAME_OF)
async def test_no_error_keeps_a_child_from_its_restart(
    kind: type[ConnectionError], strategy: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A child is restarted whatever it raises, and its crash is logged, until its supervisor gives up."""
    errors: list[Exception] = []

    async def child() -> None:
        errors.append(kind())
        raise errors[-1]

    async def serve() -> None:
        async with Supervisor(strategy=strategy, max_restarts=2, backoff=[0]) as supervisor:
            supervisor.start(child)
            await asyncio.sleep(60)

    raised = await error_of(serve())
    assert isinstance(raised, ExceptionGroup)
    (exceeded,) = raised.exceptions
    assert isinstance(exceeded, RestartsExceeded)
    assert [id(error) for error in exceeded.errors] == [id(error) for error in errors]
    assert len(errors) == 3
    assert "child child-0 of supervisor has failed" in caplog.text


# Huge errors: with these, recursion fails, and a walk along every path takes forever.


def deep(leaf: Exception, depth: int = 5_000) -> Exception:
    for _ in range(depth):
        leaf = group(leaf)
    return leaf


def shared(leaf: Exception) -> Exception:
    """A group of few objects with 2**60 paths to its leaf."""
    for _ in range(60):
        leaf = group(leaf, leaf)
    return leaf


def chained(leaf: Exception) -> Exception:
    """A chain of RetryAfter, each raised from the one before."""
    for _ in range(5_000):
        leaf = caused(RetryAfter(0), leaf)
    return leaf


def chained_in_a_group(leaf: Exception) -> Exception:
    """The same chain, with each of its members as a leaf of a group."""
    links = [caused(RetryAfter(0), leaf)]
    while len(links) < 5_000:
        links.append(caused(RetryAfter(0), links[-1]))
    return group(*links)


def standing_for_the_same(leaf: Exception) -> Exception:
    """Many RetryAfter errors that all stand for one big group."""
    big = group(*[leaf] * 5_000)
    return group(*[caused(RetryAfter(0), big) for _ in range(5_000)])


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("make", [deep, shared, chained, chained_in_a_group, standing_for_the_same])
@pytest.mark.parametrize("leaf", [ConnectionError, GiveUp, KeyError])
async def test_huge_errors(make: Callable[[Exception], Exception], leaf: type[Exception], supervise: Supervise) -> None:
    """Each part of an error is visited a bounded number of times, without recursion."""
    error = make(leaf())
    policy = BASE.replace(irrecoverable=lambda error: type(error) is KeyError)
    inner = supervise(policy)(raising(error))
    caught = await error_of(supervise(policy)(inner)())
    reason = Reason.EXHAUSTED if leaf is ConnectionError else Reason.IRRECOVERABLE
    if leaf is GiveUp and make not in (deep, shared):
        reason = Reason.EXHAUSTED  # the RetryAfter was raised last
    assert verdict_of(caught).reason is reason


async def test_a_huge_error_after_an_inner_call_gave_up(supervise: Supervise) -> None:
    """The check whether an inner call gave up visits each part once, too."""
    error = shared(ConnectionError())
    inner = supervise(BASE.replace(max_retries=0))(raising(ConnectionError()))

    @supervise(BASE)
    async def outer() -> None:
        await error_of(inner())
        raise error

    assert await error_of(outer()) is error
    assert verdict_of(error).attempts == 2


async def test_a_shared_part_of_a_group_is_copied_once(supervise: Supervise) -> None:
    """Unwrapping a group keeps its shared parts shared."""
    error: Any = await error_of(supervise(BASE)(raising(shared(caused(GiveUp(), KeyError()))))())
    assert error.exceptions[0] is error.exceptions[1]


# Retry-after


@two_forms
@pytest.mark.looptime
@pytest.mark.parametrize(
    ("value", "waited"),
    [
        (-0.003, 0.0),
        (-(10**400), 0.0),
        (float("-inf"), 0.0),
        (float("nan"), 0.0),
        (2, 2.0),
        (0.503, 0.503),
        (timedelta(seconds=1.5), 1.5),
        (timedelta(days=-1), 0.0),
        (10**400, None),
        (float("inf"), None),
        (timedelta.max, None),
    ],
    ids=repr,
)
@pytest.mark.parametrize("way", ["return value", "raised", "attribute"])
async def test_no_retry_after_causes_another_error(
    value: Any, waited: float | None, way: str, supervise: Supervise
) -> None:
    """Any value leads to a wait, to no wait, or to giving up with the call's own error (`waited` is None)."""

    class ThrottledError(ConnectionError):
        retry_after = value if way == "attribute" else None

    errors = [ThrottledError()]

    @supervise(BASE.replace(retry_on=lambda _: value if way == "return value" else True))
    async def fetch() -> None:
        if errors:
            raise errors[0] if waited is None else errors.pop() from None

    @supervise(BASE)
    async def overruled() -> None:
        if errors:
            raise RetryAfter(value) from (errors[0] if waited is None else errors.pop())

    call, error = (overruled if way == "raised" else fetch), errors[0]
    started = now()
    if waited is None:
        assert await error_of(call()) is error
        assert verdict_of(error).reason is Reason.RETRY_AFTER_TOO_LONG
    else:
        await call()
        assert now() - started == pytest.approx(waited)
