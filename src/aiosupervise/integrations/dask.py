"""Batches on a Dask cluster: `map_all(func, inputs, engine=DaskEngine(client))`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from itertools import islice
from typing import Any, TypeVar, final

try:
    from distributed import Client
except ImportError as _error:
    raise ImportError('aiosupervise.integrations.dask needs distributed: pip install "aiosupervise[dask]"') from _error

from aiosupervise._batch.protocol import EngineContext, EngineRun
from aiosupervise._call.tasks import wait_until_done
from aiosupervise._events.outcomes import I
from aiosupervise._policy.checks import check_count, name_of, safe_repr

from ._dask.run import DaskRun
from ._remote.serialization import RemoteError, serialize, text_of, unpicklable_input

__all__ = ["DaskEngine", "RemoteError"]

# Tracebacks and the reference then show the module from which users import the class.
RemoteError.__module__ = __name__

T = TypeVar("T")


@final
class DaskEngine:
    """Runs the jobs of `map_all` on the workers of a Dask cluster.

    `await map_all(func, inputs, limit=100, engine=DaskEngine(client))`. Inputs are sent in chunks. On each worker, an
    ordinary run of this library calls the function in the worker's event loop, and outcomes are sent back as the jobs
    end. All arguments have the same meaning as without an engine, except that `limit` and the budget of `overload`
    apply to each worker process. Jobs run at least once: if a worker is lost, its jobs run again on other workers.

    Args:
        cluster: an asynchronous client created in the running loop, as in `async with Client(address,
            asynchronous=True) as client`; or the address of a scheduler, to which each run then connects.
        chunk: the maximum number of inputs in a chunk.

    Raises:
        TypeError, ValueError: immediately, for an argument of the wrong type or out of range.
    """

    def __init__(self, cluster: Client | str, *, chunk: int = 1000) -> None:
        if not isinstance(cluster, (Client, str)):
            raise TypeError(
                f"cluster must be a dask.distributed Client or the address of a scheduler; got {safe_repr(cluster)}"
            )
        check_count("chunk", chunk, least=1, none=None)
        self._cluster = cluster
        self._chunk = chunk

    def check(self, func: Callable[[Any], Awaitable[object]], inputs: Collection[object]) -> None:
        """Check that the function and the inputs can be pickled.

        Raises:
            TypeError: if one of them cannot be pickled; the message names the function, or the index of the input.
        """
        try:
            serialize(func)
        except Exception as error:
            rule = f"the function {name_of(func)} cannot be pickled, so it cannot be sent to a worker"
            repair = "create sessions, locks and files inside it"
            raise TypeError(f"{rule}: {text_of(error)}; {repair}") from error
        iterator, index = iter(inputs), 0
        while batch := list(islice(iterator, self._chunk)):
            _check_inputs(batch, index)
            index += len(batch)

    def start(self, context: EngineContext[T, I]) -> EngineRun:
        """Begin a run, in the running loop.

        Raises:
            RuntimeError: if the client is not asynchronous, or belongs to another loop.

        """
        client = self._cluster
        if isinstance(client, Client) and not _is_of_this_loop(client):
            raise RuntimeError(
                "the client must be asynchronous and created in the loop that runs the batch: write "
                "`async with Client(address, asynchronous=True) as client`, or pass DaskEngine the address"
            )
        return DaskRun(context, self, self._chunk)

    async def connect(self) -> Client:
        """Return a connected client: the given one, or a new one for this run."""
        client = self._cluster
        if isinstance(client, Client):
            # The client may still be starting, and must continue to start if the run is cancelled in the meantime.
            await asyncio.shield(client)
            if client.status == "closed":
                raise RuntimeError(f"the client is closed: {client!r}")
            return client
        client = Client(client, asynchronous=True, set_as_default=False)
        try:
            await client
        except BaseException:
            await _close(client)
            raise
        return client

    async def disconnect(self, client: Client) -> None:
        """Close the client if it was created for one run."""
        if client is not self._cluster:
            await _close(client)

    def __repr__(self) -> str:
        return f"DaskEngine({self._cluster!r}, chunk={self._chunk})"


async def _close(client: Client) -> None:
    """Close a client, however often the caller is cancelled in the meantime."""
    closing = asyncio.ensure_future(client.close())
    try:
        await wait_until_done(closing, lambda: None)
        closing.result()
    finally:
        # The task refers to its error, whose traceback refers to this frame.
        del closing


def _check_inputs(batch: list[object], first: int) -> None:
    # Pickling all inputs together is faster, but may fail even if each input can be pickled separately, as is done when
    # the input is sent.
    try:
        serialize(batch)
    except Exception:
        for index, item in enumerate(batch, start=first):
            try:
                serialize(item)
            except Exception as error:
                raise unpicklable_input(index, item, error) from error


def _is_of_this_loop(client: Client) -> bool:
    return getattr(client.loop, "asyncio_loop", None) is asyncio.get_running_loop()
