"""A web server that runs for the duration of a block."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import cast

from aiohttp import web


@asynccontextmanager
async def served(routes: Iterable[web.AbstractRouteDef], port: int = 0) -> AsyncIterator[str]:
    """Serve routes on 127.0.0.1, on a free port unless one is given, and yield the URL, without a trailing slash."""
    app = web.Application()
    app.router.add_routes(routes)
    # A stalled request ends when its client gives up, or when the server is shut down.
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.05)
    await runner.setup()
    handler = cast("web.Server", runner.server)
    try:
        # If `create_server` were cancelled while it starts to serve, as can happen in a TCPSite, its socket would stay
        # open.
        server = await asyncio.get_running_loop().create_server(handler, "127.0.0.1", port, start_serving=False)
        try:
            await server.start_serving()
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
    finally:
        await runner.cleanup()
