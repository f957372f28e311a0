"""What Dask calls in a worker: the task of a chunk, and the driver's visits, through `Client.run`.

Laws, each with a test:
- When the driver has ended a run, no coroutine of it is left in the worker.
- Late chunks of a run that has been stopped or ended do nothing.
"""

from __future__ import annotations

import logging
import time
from functools import partial
from weakref import WeakKeyDictionary

from distributed import Worker, get_worker
from distributed.worker_state_machine import SecedeEvent

from aiosupervise.integrations._remote.messages import Done, News, Phase
from aiosupervise.integrations._remote.serialization import unfinished, unpack
from aiosupervise.integrations._remote.worker_run import Part

_REMEMBERED = 1000  # ended runs, whose late chunks do nothing


class _Office:
    """The runs that one worker has a part in."""

    def __init__(self) -> None:
        self.parts: dict[str, Part] = {}
        self.ended: dict[str, str] = {}  # the last ones, each with the reason; "" if the driver has ended it

    def part(self, run: str, spec: bytes) -> Part:
        """Return the worker's part of a run, which begins with its first chunk."""
        part = self.parts.get(run)
        if part is None:
            part = self.parts[run] = Part(unpack(spec), partial(self.end, run))
        return part

    def end(self, run: str, why: str = "") -> Part | None:
        """Forget a run."""
        self.ended.setdefault(run, why)
        if len(self.ended) > _REMEMBERED:
            del self.ended[next(iter(self.ended))]
        return self.parts.pop(run, None)


_offices: WeakKeyDictionary[Worker, _Office] = WeakKeyDictionary()


def _office(worker: Worker) -> _Office:
    office = _offices.get(worker)
    if office is None:
        office = _offices[worker] = _Office()
        logging.getLogger("distributed.worker").addFilter(_is_no_visit)
    return office


def _is_no_visit(record: logging.LogRecord) -> bool:
    """Keep visits out of the worker's log: Dask tells of every function that is run, and there are ten a second."""
    return not (isinstance(record.args, tuple) and record.args[:1] == (visit_part.__name__,))


async def do_chunk(key: str, run: str, spec: bytes, packed: bytes) -> Done:
    """Do the jobs of a chunk: the function of the Dask task."""
    items: list[bytes] = unpack(packed)
    worker = get_worker()
    office = _office(worker)
    if run in office.ended:
        return Done(worker.address, [unfinished(position) for position in range(len(items))], "", office.ended[run])
    part = office.part(run, spec)
    records = await part.do(key, items, partial(_secede, worker, key, time.time()))
    return Done(worker.address, records, part.stopped, part.lost)


def _secede(worker: Worker, key: str, began: float) -> None:
    """Let Dask begin another task beside this one.

    `distributed.secede` takes the thread that calls it out of the worker's pool, and then does what is done here. A
    coroutine has no such thread, and for it there is no public way.
    """
    now = time.time()
    worker.handle_stimulus(SecedeEvent(key=key, compute_duration=now - began, stimulus_id=f"secede-{now}"))


def visit_part(run: str, phase: int, dask_worker: Worker) -> News | None:
    """Take the driver's word for a run, and tell what is new; None if the worker has no part in it."""
    office = _office(dask_worker)
    part = office.parts.get(run)
    if part is not None:
        return part.visit(Phase(phase))
    if phase != Phase.RUNNING:
        office.end(run)
    return None


async def end_part(run: str, dask_worker: Worker) -> None:
    """End a run, and forget it when nothing of it is left."""
    part = _office(dask_worker).end(run)
    if part is not None:
        await part.end()


def check_spec(spec: bytes) -> str:
    """Unpickle what the chunks will need, and tell why the worker cannot; nothing if it can."""
    try:
        unpack(spec)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""
