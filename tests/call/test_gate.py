"""The gate and layers: a call that would wait for itself is refused, and so is a gate that hides errors."""

import asyncio
import gc
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Any

import pytest

from aiosupervise import AttemptTimeout, DeadlineExceeded, Policy, Reason, map_all, verdict

from .endings import error_of, verdict_of
from .forms import Supervise, only_async, only_async_functions, only_functions

pytestmark = pytest.mark.looptime

GATES: list[Callable[[], Any]] = [
    asyncio.Lock,
    asyncio.Condition,
    lambda: asyncio.Semaphore(3),
    lambda: asyncio.BoundedSemaphore(3),
]
of_any_kind = pytest.mark.parametrize("make_gate", GATES, ids=["lock", "condition", "semaphore", "bounded"])


class Reentrant:
    """A rate limiter: it holds nothing, and may be entered twice."""

    def __init__(self, suppresses: object = None) -> None:
        self.entered = 0
        self.suppresses: Any = suppresses

    async def __aenter__(self) -> None:
        self.entered += 1

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        return self.suppresses  # type: ignore[no-any-return]


@only_functions
@of_any_kind
@pytest.mark.parametrize("retry_on", [ConnectionError, Exception, RuntimeError, lambda _: True])
async def test_a_call_that_would_wait_for_itself_is_refused(
    make_gate: Callable[[], Any], retry_on: Any, supervise: Supervise
) -> None:
    """The error is raised even if a slot is free, names both functions and the repair, and is never retried."""
    policy = Policy(retry_on=retry_on, gate=make_gate(), name="api")
    calls = Counter[str]()

    @supervise(policy)
    async def parse() -> None:
        calls["parse"] += 1

    @supervise(policy)
    async def fetch() -> None:
        calls["fetch"] += 1
        await parse()

    with pytest.raises(
        RuntimeError, match=r"^parse was called inside an attempt of fetch, .*gate=None.* fetch"
    ) as raised:
        await fetch()
    assert calls == {"fetch": 1}
    assert verdict(raised.value) is None


@only_async
async def test_layers_of_a_batch_that_share_a_gate_end_at_once(supervise: Supervise) -> None:
    """Twenty jobs in two layers with three slots would wait for each other; each gets an error instead."""
    policy = Policy(retry_on=ConnectionError, gate=asyncio.Semaphore(3))

    @supervise(policy)
    async def load(page: int) -> int:
        return page

    @supervise(policy)
    async def fetch(page: int) -> int:
        await asyncio.sleep(1)
        return await load(page)

    report = await map_all(fetch, range(20))
    assert Counter(type(failure.error).__mro__[1] for failure in report.failed) == {RuntimeError: 20}


@only_functions
@of_any_kind
async def test_layers_in_between_do_not_prevent_the_check(make_gate: Callable[[], Any], supervise: Supervise) -> None:
    """Neither a call of another policy between the two nor a time limit makes a difference."""
    gate = make_gate()

    @supervise(retry_on=Exception, gate=gate, deadline=5)
    async def inner() -> None: ...

    @supervise(retry_on=Exception, attempt_timeout=5)
    async def between() -> None:
        await inner()

    @supervise(retry_on=Exception, gate=gate, attempt_timeout=5)
    async def outer() -> None:
        await between()

    with pytest.raises(RuntimeError, match=r"^inner was called inside an attempt of outer"):
        await outer()


async def test_a_refused_call_among_the_tasks_of_a_group_is_not_retried(supervise: Supervise) -> None:
    """A group with such an error among its leaves is not retried either."""
    gate = asyncio.Semaphore(3)
    attempts: list[int] = []

    @supervise(retry_on=Exception, gate=gate)
    async def inner() -> None: ...

    @supervise(retry_on=Exception, gate=gate)
    async def outer() -> None:
        await inner()

    @supervise(retry_on=Exception)
    async def both() -> None:
        attempts.append(1)
        errors = [await error_of(outer()), ConnectionError()]
        raise ExceptionGroup("both", errors)

    assert verdict(await error_of(both())) is None
    assert attempts == [1]


@only_async
async def test_other_tasks_and_later_calls_may_enter(supervise: Supervise) -> None:
    """A child task, another task, and a later call of the same task have slots of their own."""
    gate = asyncio.Semaphore(3)
    policy = Policy(retry_on=ConnectionError, gate=gate, backoff=[1])
    failures = [ConnectionError(), ConnectionError()]

    @supervise(policy)
    async def leaf() -> str:
        if failures:
            raise failures.pop()
        return "done"

    @supervise(policy)
    async def parent() -> str:
        return await asyncio.create_task(leaf())

    assert [*await asyncio.gather(parent(), leaf())] == ["done", "done"]
    assert await leaf() == "done"
    assert not gate.locked()


async def test_a_limiter_that_holds_nothing_may_be_entered_twice(supervise: Supervise) -> None:
    """A rate limiter as the gate of two layers counts the attempts of both."""
    gate = Reentrant()

    @supervise(retry_on=ConnectionError, gate=gate)
    async def leaf() -> str:
        return "done"

    @supervise(retry_on=ConnectionError, gate=gate)
    async def parent() -> str:
        return await leaf()

    assert await parent() == "done"
    assert gate.entered == 2


@only_async
async def test_a_cancelled_call_releases_its_gate(supervise: Supervise) -> None:
    """After a cancel, a failure and a closed coroutine, the task may enter the gate again."""
    gate = asyncio.Lock()

    @supervise(retry_on=ConnectionError, gate=gate, max_retries=0)
    async def hang(seconds: float) -> None:
        await asyncio.sleep(seconds)
        raise ConnectionError

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await hang(5)
    for _ in range(2):
        await error_of(hang(0))
    thrown = hang(5)
    thrown.send(None)
    thrown.close()
    assert isinstance(await error_of(hang(0)), ConnectionError)


# A gate that suppresses errors


class SuppressingLock(asyncio.Lock):
    async def __aexit__(self, *error: object) -> None:
        self.release()
        return True  # type: ignore[return-value]  # the case in question


@pytest.mark.parametrize("retry_on", [ConnectionError, Exception])
@pytest.mark.parametrize("make_gate", [lambda: Reentrant(suppresses=True), SuppressingLock])
async def test_a_gate_that_suppresses_errors_is_refused(
    make_gate: Callable[[], Any], retry_on: Any, supervise: Supervise
) -> None:
    """A failed call does not become one that returns None: the gate is named, and the error is the cause."""
    gate, error = make_gate(), ConnectionError("dropped")
    calls: list[int] = []

    @supervise(retry_on=retry_on, gate=gate)
    async def fetch() -> None:
        calls.append(1)
        raise error

    with pytest.raises(
        RuntimeError,
        match=rf"gate {type(gate).__name__} suppressed an error.*: let its __a?exit__ return None or False$",
    ) as raised:
        await fetch()
    assert raised.value.__cause__ is error
    assert calls == [1]


@pytest.mark.parametrize("kind", [asyncio.CancelledError, KeyboardInterrupt, SystemExit])
async def test_a_gate_cannot_suppress_cancellation_and_exit(kind: type[BaseException], supervise: Supervise) -> None:
    """They go on, though the gate says that they do not."""

    @supervise(retry_on=ConnectionError, gate=Reentrant(suppresses=True))
    async def fetch() -> None:
        raise kind

    with pytest.raises(kind):
        await fetch()


class ObservedGate(Reentrant):
    """A gate that records the arguments of its exit, and whether the traceback is that of the error."""

    def __init__(self) -> None:
        super().__init__()
        self.exits: list[tuple[type[BaseException] | None, BaseException | None, bool]] = []

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self.exits.append((kind, error, trace is not None and error is not None and trace is error.__traceback__))
        return False


@pytest.mark.parametrize("deadline", [None, 60.0])
async def test_the_exit_of_a_gate_receives_the_error_of_the_attempt(
    deadline: float | None, supervise: Supervise
) -> None:
    """The exit receives the class, the error and the traceback, as in a `with` statement, and None after a success."""
    gate, error = ObservedGate(), ConnectionError()

    @supervise(retry_on=ConnectionError, gate=gate, deadline=deadline, backoff=[1])
    async def fetch() -> None:
        if not gate.exits:
            raise error

    await fetch()
    assert gate.exits == [(ConnectionError, error, True), (None, None, False)]


class ChainingGate(Reentrant):
    """Its exit fails while it handles an error of its own."""

    async def __aexit__(self, *error: object) -> bool:
        try:
            return bool(int("no number"))
        except ValueError:
            raise OSError("not released")  # noqa: B904 - the context is what is looked at


@pytest.mark.parametrize("deadline", [None, 60.0])
async def test_an_error_of_the_gate_keeps_its_context(deadline: float | None, supervise: Supervise) -> None:
    """The error that was being handled when it was raised, and not the one of the attempt in its place."""

    @supervise(retry_on=ConnectionError, gate=ChainingGate(), deadline=deadline, max_retries=0)
    async def fetch() -> None:
        raise LookupError("of the attempt")

    error = await error_of(fetch())
    assert isinstance(error, OSError)
    assert isinstance(error.__context__, ValueError)
    assert isinstance(error.__context__.__context__, LookupError)


async def test_a_suppressed_error_leaves_no_cycle(supervise: Supervise) -> None:
    """An error that a gate does not suppress leaves none either."""
    gates: list[Any] = [Reentrant(suppresses=True), Reentrant(), asyncio.Lock()]

    async def fetch() -> None:
        raise ConnectionError

    gc.collect()
    for gate in gates:
        await error_of(supervise(retry_on=ConnectionError, gate=gate, max_retries=1, backoff=[1])(fetch)())
    assert gc.collect() == 0


# A function as gate


@only_functions
async def test_a_function_as_gate_gets_the_arguments(supervise: Supervise) -> None:
    """Each host has a limit of its own; arguments come by position and by name, and a method's instance too."""
    per_host = {"a": Reentrant(), "b": Reentrant()}
    failures = [ConnectionError()]

    @supervise(retry_on=ConnectionError, gate=lambda _, host: per_host[host], backoff=[1])
    async def fetch(_: object, host: str) -> str:
        if failures:
            raise failures.pop()
        return host

    assert await fetch(None, "a") == "a"
    assert await fetch(None, host="b") == "b"
    assert (per_host["a"].entered, per_host["b"].entered) == (2, 1)


@only_functions
async def test_a_method_finds_its_gate_on_the_instance(supervise: Supervise) -> None:
    """The function gets what the supervised method gets, so the instance comes first."""

    class Client:
        def __init__(self) -> None:
            self.gate = Reentrant()

        @supervise(retry_on=ConnectionError, gate=lambda self, _: self.gate)
        async def fetch(self, page: int) -> int:
            return page

    client = Client()
    assert await client.fetch(7) == 7
    assert client.gate.entered == 1


@only_async_functions
async def test_a_function_whose_return_value_is_not_a_gate_is_named(supervise: Supervise) -> None:
    """The error is raised by the call, before any attempt, and is not retried."""

    def gate_of(_: int) -> Any:
        return asyncio.Semaphore

    @supervise(retry_on=Exception, gate=gate_of)
    async def fetch(_: int) -> None: ...

    with pytest.raises(TypeError, match=r"gate gate_of must return an async context manager .* got <class 'type'>"):
        await fetch(1)


@only_functions
async def test_gates_that_a_function_returns_are_distinguished(supervise: Supervise) -> None:
    """Layers may share the function, as long as it returns different gates."""
    per_host = {"a": asyncio.Lock(), "b": asyncio.Lock()}
    policy = Policy(retry_on=ConnectionError, gate=lambda host: per_host[host])

    @supervise(policy)
    async def leaf(host: str) -> str:
        return host

    @supervise(policy)
    async def parent(host: str) -> str:
        return await leaf("b") if host == "a" else await leaf(host)

    assert await parent("a") == "b"
    with pytest.raises(RuntimeError, match=r"^leaf was called inside an attempt of parent"):
        await parent("b")


# Limits without retries


async def test_a_gate_without_retries(supervise: Supervise) -> None:
    """`retry_on=()` with a gate means no retries: errors pass, and the gate is entered once."""
    gate = Reentrant()
    policy = Policy(retry_on=(), gate=gate)

    @supervise(policy)
    async def fetch() -> None:
        raise ConnectionError

    assert policy.max_retries == 0
    error = await error_of(fetch())
    assert verdict(error) is None
    assert gate.entered == 1


@only_async
@pytest.mark.parametrize(
    ("limits", "kind", "reason"),
    [
        ({"attempt_timeout": 5}, AttemptTimeout, Reason.EXHAUSTED),
        ({"deadline": 5}, DeadlineExceeded, Reason.DEADLINE),
    ],
)
async def test_a_time_limit_without_retries(
    limits: Any, kind: type[Exception], reason: Reason, supervise: Supervise
) -> None:
    """`retry_on=()` with a time limit: the limit ends the call, after one attempt."""

    @supervise(retry_on=(), **limits)
    async def fetch() -> None:
        await asyncio.sleep(100)

    error = await error_of(fetch())
    assert type(error) is kind
    assert (verdict_of(error).attempts, verdict_of(error).reason) == (1, reason)


def test_a_policy_without_retries_can_get_some() -> None:
    """A copy that lists errors has the default number of retries; one that lists none has none."""
    policy = Policy(retry_on=(), deadline=5, max_retries=9)
    assert policy.replace(deadline=7).max_retries == 0
    assert policy.replace(retry_on=OSError).max_retries == 3
    assert policy.replace(retry_on=OSError, max_retries=8).max_retries == 8
    with pytest.raises(ValueError, match=r"retry_on is empty.* or pass the gate, attempt_timeout or deadline"):
        policy.replace(deadline=None)
