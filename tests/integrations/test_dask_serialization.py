"""Serialization of errors, notes and functions, whatever they are made of."""

import asyncio
import functools
import pickle
import sys
import traceback
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import cloudpickle  # type: ignore[import-untyped]  # it has no types
import pytest

from aiosupervise import Failure, Pending, Policy, Reason, Success, map_all, supervise, verdict
from aiosupervise._call.frames import WRAPPERS
from aiosupervise.integrations._remote import serialization
from aiosupervise.integrations.dask import DaskEngine, RemoteError

from . import dask_jobs as jobs

MADE_BY_HAND = SyntaxError("x", ("file", 1, "a", "text"))  # type: ignore[arg-type]  # it should be a number
POLICY = Policy(retry_on=ConnectionError)


class Tied(str):
    """A text that cannot be pickled."""

    __slots__ = ()

    def __reduce__(self) -> Any:
        raise TypeError("tied to its process")


class UnreadableError(Exception):
    """An error whose notes cannot be read."""

    @property
    def __notes__(self) -> list[str]:  # type: ignore[override]  # that is the point
        raise OSError("unreadable")


def failure(error: Exception) -> Failure[object]:
    """A job that raised this."""
    return Failure(0, error, 1, 0.0, None, "job-0", None)


def with_notes(error: Exception, notes: object) -> Exception:
    """Return an error whose notes are this object."""
    error.__notes__ = notes  # type: ignore[assignment]  # somebody may
    return error


def with_note(error: Exception, note: str) -> Exception:
    """An error with a note."""
    error.add_note(note)
    return error


@pytest.mark.parametrize(
    "error",
    [
        MADE_BY_HAND,
        with_note(ValueError("x"), Tied("a note")),
        ValueError(Tied("a message")),
        UnreadableError("x"),
        with_notes(ValueError("x"), 5),
    ],
    ids=["traceback that cannot be printed", "note", "message", "notes that cannot be read", "notes that are no list"],
)
def test_an_error_affects_no_other_job_whatever_is_wrong_with_it(error: Exception) -> None:
    """Its payload can always be made, and is serialized by plain pickle, as those of the other jobs are."""
    _, data, description, *_ = serialization.deserialize(pickle.dumps(serialization.outcome_payload(0, failure(error))))
    arrived = serialization.load_error(data, description, "tcp://worker")
    assert type(error).__name__ in f"{type(arrived).__name__} {getattr(arrived, 'type_name', '')}"
    assert "raised on the worker tcp://worker" in arrived.__notes__[-1]


def test_a_decorator_above_supervise_is_part_of_the_function() -> None:
    """Although functools.wraps gives it the attributes of the supervised function."""

    @supervise(POLICY)
    async def inner() -> None: ...

    @functools.wraps(inner)
    async def outer() -> str:
        await inner()
        return "outer"

    with pytest.raises(StopIteration) as returned:
        serialization.deserialize(serialization.serialize(outer))().send(None)
    assert returned.value.value == "outer"
    assert serialization.deserialize(serialization.serialize(inner)).policy == POLICY


@pytest.mark.parametrize("registered", ["homely", "homely.kitchen"])
def test_a_module_registered_by_value_need_not_be_installed(registered: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its functions are sent with their code, supervised functions too."""
    home, kitchen = ModuleType("homely"), ModuleType("homely.kitchen")
    monkeypatch.setitem(sys.modules, "homely", home)
    monkeypatch.setitem(sys.modules, "homely.kitchen", kitchen)
    kitchen.__dict__.update(supervise=supervise, policy=POLICY)
    source = "async def bare(): return 'served'\n@supervise(policy)\nasync def cook(): return 'served'"
    exec(source, kitchen.__dict__)  # noqa: S102 - a module that is nowhere else
    cloudpickle.register_pickle_by_value(sys.modules[registered])
    try:
        packed = serialization.serialize(kitchen.bare), serialization.serialize(kitchen.cook)
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[registered])
    monkeypatch.delitem(sys.modules, "homely.kitchen")
    monkeypatch.delitem(sys.modules, "homely")
    bare, cook = map(serialization.deserialize, packed)
    assert cook.policy == POLICY
    for function in bare, cook:
        with pytest.raises(StopIteration) as returned:
            function().send(None)
        assert returned.value.value == "served"


def odd(depth: int) -> None:
    """Raise an error at this depth. Python cannot shorten its traceback, because two functions take turns."""
    if depth == 0:
        raise LookupError("at the bottom")
    even(depth - 1)


def even(depth: int) -> None:
    """Call the other one."""
    odd(depth)


def test_a_traceback_has_a_bound() -> None:
    """The last characters are sent, which show the line that raised; a short traceback is sent whole."""
    with pytest.raises(LookupError) as raised:
        odd(300)
    _, _, description, *_ = serialization.outcome_payload(0, failure(raised.value))
    assert description is not None
    assert len(description.traceback_text) == serialization.MAX_TRACEBACK == 20_000
    assert description.traceback_text.endswith("LookupError: at the bottom\n")
    with pytest.raises(LookupError) as raised:
        odd(0)
    text = serialization.remote_error(raised.value, "why").traceback_text
    assert text == "".join(traceback.format_exception(raised.value))


def test_a_traceback_that_cannot_be_printed_is_replaced_by_the_reason() -> None:
    """The text contains the error that printing it has raised."""
    text = serialization.remote_error(MADE_BY_HAND, "why").traceback_text
    assert text.startswith("its traceback cannot be printed: TypeError: ")


def test_an_error_is_described_in_full() -> None:
    """The class with its module, unless it is a builtin; the text; and why it is missing."""
    mine, builtin = serialization.remote_error(jobs.BusyError("x"), "why"), serialization.remote_error(KeyError(1), "")
    assert (mine.type_name, mine.message, mine.why) == (f"{jobs.__name__}.BusyError", "x", "why")
    assert str(mine) == f"{jobs.__name__}.BusyError: x (why)"
    assert (builtin.type_name, builtin.message) == ("KeyError", "1")
    sent = pickle.loads(pickle.dumps(mine))  # noqa: S301 - made here
    assert str(sent) == str(mine)
    assert sent.args == (mine.type_name, mine.message, mine.traceback_text, mine.why)


def test_an_error_keeps_its_notes_and_gets_one_of_its_worker() -> None:
    """A verdict keeps its class, other notes become plain text, and a note that is not text is dropped."""
    error = with_note(with_note(ValueError("x"), Tied("tied")), "plain")
    error.__notes__.append(5)  # type: ignore[arg-type]  # somebody may
    _, data, description, *_ = serialization.outcome_payload(0, failure(error))
    assert description is not None
    assert description.notes == ("tied", "plain")
    assert [type(note) for note in description.notes] == [str, str]
    arrived = serialization.load_error(data, description, "tcp://worker")
    assert arrived.__notes__[:2] == ["tied", "plain"]
    assert arrived.__notes__[2].startswith("raised on the worker tcp://worker:\n")
    assert len(arrived.__notes__) == 3


def test_a_verdict_arrives_as_a_verdict() -> None:
    """With its fields, by which `verdict` finds it."""

    @supervise(retry_on=jobs.BusyError, max_retries=0)
    async def busy() -> None:
        raise jobs.BusyError

    with pytest.raises(jobs.BusyError) as raised:
        asyncio.run(busy())
    _, data, description, *_ = pickle.loads(pickle.dumps(serialization.outcome_payload(0, failure(raised.value))))  # noqa: S301 - made here
    sent, arrived = verdict(raised.value), verdict(serialization.load_error(data, description, "tcp://worker"))
    assert sent is not None
    assert arrived is not None
    assert (arrived.attempts, arrived.reason, str(arrived)) == (sent.attempts, sent.reason, str(sent))


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (jobs.UnprintableError(), "it cannot be pickled: TypeError: no pickle"),
        (jobs.StubbornError(1, 2), "it cannot be unpickled here: TypeError: "),
        (jobs.FickleError(), "unpickled, it is str"),
    ],
)
def test_an_error_that_does_not_arrive_is_stood_for(error: Exception, why: str) -> None:
    """By one that has its class and text, and says what happened to it."""
    _, data, description, *_ = serialization.outcome_payload(0, failure(error))
    assert description is not None
    arrived = serialization.load_error(data, description, "tcp://worker")
    assert isinstance(arrived, RemoteError)
    assert arrived.type_name == f"{jobs.__name__}.{type(error).__name__}"
    assert why in arrived.why
    assert arrived.__notes__ == [f"raised on the worker tcp://worker:\n{description.traceback_text}"]


def test_an_error_that_cannot_be_printed_is_sent() -> None:
    """Its text says so."""
    _, _, description, *_ = serialization.outcome_payload(0, failure(jobs.UnprintableError()))
    assert description is not None
    assert description.message == "an error that cannot be printed"


@pytest.mark.parametrize(("value", "why"), [(jobs.Changeling(None), "here"), (sys.stdout, "cannot be pickled")])
def test_a_result_that_does_not_arrive_is_stood_for(value: object, why: str) -> None:
    """By an error that says whether it left its worker."""
    _, data, description, *_ = serialization.outcome_payload(0, Success(0, value, 1, 0.0, "job"))
    if data is None:
        assert description is not None
        error: object = serialization.load_error(data, description, "tcp://worker")
        assert f"the result, of type {type(value).__name__}, cannot be pickled" in str(error)
    else:
        _, error = serialization.load_value(data)
    assert isinstance(error, RemoteError)
    assert why in error.why


def test_an_error_that_takes_no_notes_is_stood_for() -> None:
    """The error that stands for it has the notes."""

    class NoNotesError(Exception):
        pass

    notes: Any = property(lambda _: ["one", 1])
    NoNotesError.__notes__ = notes
    _, data, description, *_ = serialization.outcome_payload(0, failure(NoNotesError("x")))
    assert description is not None
    assert description.notes == ("one",)
    error = serialization.load_error(data, description, "somewhere")
    assert isinstance(error, RemoteError)
    assert error.why == "it takes no notes"
    assert error.__notes__[0] == "one"


def test_objects_of_the_main_program_are_sent_by_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """The main program of a worker is another one; what can be imported there is sent by its name."""
    main = ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)
    main.__dict__.update(supervise=supervise, policy=POLICY)
    source = "class Mine(int): pass\ndef double(n): return 2 * n\n@supervise(policy)\nasync def cook(): ..."
    exec(source, main.__dict__)  # noqa: S102 - a program
    data = [serialization.serialize(value) for value in (main.Mine, main.double, [main.Mine(3)], main.cook)]
    monkeypatch.setitem(sys.modules, "__main__", ModuleType("__main__"))
    mine, double, (three,), cook = map(serialization.deserialize, data)
    assert (mine(1), double(2), three) == (1, 4, 3)
    assert id(cook.__code__) in WRAPPERS
    assert serialization.deserialize(serialization.serialize(jobs.double)) is jobs.double
    assert serialization.deserialize(serialization.serialize_by_value(jobs.always_busy)) is jobs.always_busy


def test_an_input_that_can_neither_be_pickled_nor_printed() -> None:
    """The error has its number all the same."""

    class Dumb:
        def __repr__(self) -> str:
            raise ValueError("no words")

        def __reduce__(self) -> tuple[object, ...]:
            raise TypeError("no pickle")

    with pytest.raises(TypeError, match=r"input 1 cannot be pickled.*no pickle.*of type Dumb"):
        map_all(jobs.hard_to_send, ["fine", Dumb()], engine=DaskEngine("tcp://127.0.0.1:1"))  # type: ignore[arg-type]


def test_inputs_that_can_be_pickled_one_by_one_are_accepted() -> None:
    """Each is sent by itself."""

    class Shy:
        tries = 0

        def __reduce__(self) -> tuple[object, ...]:
            Shy.tries += 1
            if Shy.tries <= 2:
                raise TypeError("not now")
            return int, ()

    DaskEngine("tcp://127.0.0.1:1").check(jobs.double, [Shy()])
    assert Shy.tries == 3


def test_inputs_are_checked_in_batches() -> None:
    """The number in the error counts the inputs of all batches; only those of the last batch are pickled one by one."""
    pickled: list[int] = []

    class Counted:
        def __reduce__(self) -> tuple[object, ...]:
            pickled.append(1)
            return int, ()

    engine = DaskEngine("tcp://127.0.0.1:1", chunk=2)
    with pytest.raises(TypeError, match="input 5 cannot be pickled"):
        engine.check(jobs.double, [*(Counted() for _ in range(4)), 1, sys.stdout])
    assert len(pickled) == 4
    engine.check(jobs.double, range(0))


def test_everything_is_pickled_with_the_highest_protocol() -> None:
    """It copies large buffers, such as those of arrays, fewer times."""
    protocols: list[object] = []

    class Curious:
        def __reduce_ex__(self, protocol: object) -> tuple[object, ...]:
            protocols.append(protocol)
            return int, ()

    serialization.serialize(Curious())
    serialization.serialize_by_value(Curious())
    assert protocols == [pickle.HIGHEST_PROTOCOL] * 2


def test_attempts_seconds_and_reason_are_sent() -> None:
    """With a failure as with a success."""
    success = serialization.outcome_payload(4, Success(0, "value", 5, 6.0, "job"))
    assert success == (4, serialization.serialize("value"), None, 5, 6.0, None, True)
    lost = Failure(0, LookupError("x"), 5, 6.0, Reason.EXHAUSTED, "job", None)
    position, _, description, *rest = serialization.outcome_payload(4, lost)
    assert description is not None
    assert (position, description.why, rest) == (4, "", [5, 6.0, Reason.EXHAUSTED, True])
    _, _, _, *rest = serialization.outcome_payload(4, Success(0, sys.stdout, 5, 6.0, "job"))
    assert rest == [5, 6.0, None, True]
    assert serialization.outcome_payload(4, Pending(0, None, started=True)) == (4, None, None, 0, 0.0, None, True)


def test_a_supervised_function_behind_another_name_arrives_supervised(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its module has a decorated function of its name: it cannot be imported, and is supervised again on the worker."""

    async def cook() -> None: ...

    kitchen = ModuleType("kitchen")
    monkeypatch.setitem(sys.modules, "kitchen", kitchen)
    cook.__module__, cook.__qualname__ = "kitchen", "cook"
    supervised = supervise(POLICY)(cook)
    kitchen.__dict__["cook"] = functools.wraps(supervised)(lambda: None)
    arrived = serialization.deserialize(serialization.serialize(supervised))
    assert arrived.policy == POLICY
    assert id(arrived.__code__) in WRAPPERS


def test_a_supervised_function_of_a_class_is_sent_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker imports it, and therefore obtains the same function."""
    kitchen = ModuleType("kitchen")
    monkeypatch.setitem(sys.modules, "kitchen", kitchen)
    kitchen.__dict__.update(supervise=supervise, policy=POLICY)
    source = "class Oven:\n    @staticmethod\n    @supervise(policy)\n    async def bake(): ..."
    exec(source, kitchen.__dict__)  # noqa: S102 - a module that is nowhere else
    packed = serialization.serialize_by_value(kitchen.Oven.bake)
    assert serialization.deserialize(packed) is kitchen.Oven.bake


@dataclass(frozen=True)
class FrozenError(Exception):
    """An error of a frozen dataclass, which has to say how it is pickled."""

    number: int

    def __reduce__(self) -> tuple[Any, ...]:
        return FrozenError, (self.number,)


def test_a_frozen_error_gets_its_notes() -> None:
    """Although it accepts no attribute."""
    _, data, description, *_ = serialization.outcome_payload(0, failure(FrozenError(1)))
    assert description is not None
    arrived = serialization.load_error(data, description, "tcp://worker")
    assert isinstance(arrived, FrozenError)
    assert "raised on the worker tcp://worker" in arrived.__notes__[-1]
