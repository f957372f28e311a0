"""The web server of the examples: how it starts and how it ends."""

import asyncio
import gc
import warnings

import pytest
from aiohttp import ClientSession, web

from aiosupervise.examples._served import served


async def answer(_: web.Request) -> web.Response:
    """Respond with a word."""
    return web.Response(text="here")


async def serve_for_ever() -> None:
    """Serve until cancelled."""
    async with served([web.get("/", answer)]):
        await asyncio.Event().wait()


async def test_it_serves() -> None:
    """The routes are served at the URL that the block is given, on the port that was asked for."""
    async with served([web.get("/", answer)]) as url:
        pass
    port = int(url.rpartition(":")[2])
    async with served([web.get("/", answer)], port) as again, ClientSession() as session:
        assert again == url
        async with session.get(url) as response:
            assert await response.text() == "here"


@pytest.mark.parametrize("turns", range(8))
def test_a_cancel_leaves_no_socket(turns: int) -> None:
    """A server that is cancelled, at whichever step of its start, leaves no open socket."""

    async def cancel_after_turns() -> None:
        task = asyncio.create_task(serve_for_ever())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        asyncio.run(cancel_after_turns())
        gc.collect()
    assert [str(warning.message) for warning in caught] == []
