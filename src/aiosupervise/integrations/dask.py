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
from aiosupervise._events.outcomes import I
from aiosupervise._policy.checks import check_count, name_of

from ._dask.run import DaskRun
from ._remote.serialization import RemoteError, pack, unsendable

__all__ = ["DaskEngine", "RemoteError"]

RemoteError.__module__ = __name__  # users see it where they import it from

T = TypeVar("T")


@final
class DaskEngine:
    """Has the calls of a `map_all` made by the workers of a Dask cluster.

    `await map_all(func, inputs, limit=100, engine=DaskEngine(client))`. Inputs travel in chunks; on each worker our
    own runner makes the calls, in the worker's event loop; outcomes come back as the calls end. Everything else means
    what it means without an engine, except that `limit` and the budget of `overload` are for each worker process.
    Work is done at least once: a worker that is lost has its jobs done again by others.

    Args:
        cluster: an asynchronous client, made in the running loop, as in
            `async with Client(address, asynchronous=True) as client`; or the address of a scheduler, to which each
            run then connects for itself.
        chunk: how many inputs travel together at most.

    Raises:
        TypeError, ValueError: at once, for an argument that makes no sense.

    """

    def __init__(self, cluster: Client | str, *, chunk: int = 1000) -> None:
        if not isinstance(cluster, (Client, str)):
            raise TypeError(f"cluster must be a dask.distributed Client or the address of a scheduler; got {cluster!r}")
        check_count("chunk", chunk, least=1, none=None)
        self._cluster = cluster
        self._chunk = chunk

    def check(self, func: Callable[[Any], Awaitable[object]], inputs: Collection[object]) -> None:
        """Refuse a function or inputs that cannot be pickled.

        Raises:
            TypeError: which names the function, or the input.

        """
        try:
            pack(func)
        except Exception as error:
            rule = "the function, with all that it holds, cannot be pickled, and so not be sent to a worker"
            raise TypeError(f"{rule}: {name_of(func)}: {error}; make in it what belongs to a process") from error
        everything, index = iter(inputs), 0
        while some := list(islice(everything, self._chunk)):
            _check_inputs(some, index)
            index += len(some)

    def start(self, context: EngineContext[T, I]) -> EngineRun:
        """Begin a run, in the running loop.

        Raises:
            RuntimeError: for a client that is not asynchronous, or that belongs to another loop.

        """
        client = self._cluster
        if isinstance(client, Client) and not _is_of_this_loop(client):
            raise RuntimeError(
                "the client must be asynchronous and made in the loop that runs the batch: write "
                "`async with Client(address, asynchronous=True) as client`, or give DaskEngine the address"
            )
        return DaskRun(context, self, self._chunk)

    async def connect(self) -> Client:
        """Return the client, connected."""
        client = self._cluster
        if isinstance(client, Client):
            await client
            if client.status == "closed":
                raise RuntimeError(f"the client is closed: {client!r}")
            return client
        client = Client(client, asynchronous=True, set_as_default=False)
        try:
            await client
        except BaseException:
            await client.close()
            raise
        return client

    async def disconnect(self, client: Client) -> None:
        """Close a client that was made for one run."""
        if client is not self._cluster:
            await client.close()

    def __repr__(self) -> str:
        return f"DaskEngine({self._cluster!r}, chunk={self._chunk})"


def _check_inputs(some: list[object], index: int) -> None:
    try:
        pack(some)  # quicker than one after the other
    except Exception:
        for place, item in enumerate(some, start=index):
            try:
                pack(item)
            except Exception as error:
                raise unsendable(place, item, error) from error


def _is_of_this_loop(client: Client) -> bool:
    return getattr(client.loop, "asyncio_loop", None) is asyncio.get_running_loop()
