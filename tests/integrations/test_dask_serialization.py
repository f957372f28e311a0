"""How errors, notes and functions travel between driver and workers, whatever they are made of."""

import functools
import pickle
import sys
from types import ModuleType
from typing import Any

import cloudpickle  # type: ignore[import-untyped]  # it has no types
import pytest

from aiosupervise import Failure, Policy, supervise
from aiosupervise.integrations._remote import chunk_source, serialization

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
    ],
    ids=["traceback that cannot be printed", "note", "message", "notes that cannot be read"],
)
def test_an_error_harms_no_other_job_whatever_is_wrong_with_it(error: Exception) -> None:
    """A record of it can always be made, and travels by plain pickle, as those of its neighbours do."""
    _, packed, story, *_ = serialization.deserialize(pickle.dumps(serialization.outcome_payload(0, failure(error))))
    arrived = serialization.load_error(packed, story, "tcp://worker")
    assert type(error).__name__ in f"{type(arrived).__name__} {getattr(arrived, 'type_name', '')}"
    assert "raised on the worker tcp://worker" in arrived.__notes__[-1]


def test_what_wraps_a_supervised_function_travels_too() -> None:
    """A decorator above `supervise` is part of the function, although functools.wraps lends it the policy."""

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
def test_a_module_that_is_registered_by_value_travels(registered: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The workers need not have it: its functions go with their code, those that are supervised too."""
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


def test_jobs_that_were_pulled_have_an_outcome_when_the_workers_run_breaks_down() -> None:
    """Whatever ends it, no chunk waits for ever."""
    fed, chunk = chunk_source.ChunkSource(), chunk_source.WorkerChunk(2)
    fed.add(chunk, [serialization.serialize(1), serialization.serialize(2)])
    with pytest.raises(StopIteration):
        fed.__anext__().send(None)
    fed.record_pending()
    assert [record[-1] for record in chunk.payloads] == [True, False]
    assert chunk.all_done.is_set()
