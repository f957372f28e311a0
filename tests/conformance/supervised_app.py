"""A FastAPI application as the page on services writes one: `uvicorn supervised_app:app`.

One child swallows its cancellations until the file named by RELEASED exists; without that variable it fails before it
is ready. Another one fails for good, as soon as the application has been asked for the first time.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from fastapi import FastAPI, Response

from aiosupervise import Supervisor, ready

is_asked = asyncio.Event()


async def stubborn() -> None:
    """Run until released, whatever happens."""
    released = Path(os.environ["RELEASED"])
    ready()
    while not released.exists():  # noqa: ASYNC240 - looked at after each cancellation
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()


async def refresh() -> None:
    """Fail at each start, once it has something to do."""
    await is_asked.wait()
    raise KeyError("rate")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Keep the children running while the application serves."""
    async with Supervisor(name="background", max_restarts=2, backoff=[0.01], grace=0.0) as sup:
        app.state.sup = sup
        await sup.start(stubborn, name="stubborn", ready=10.0).wait_ready()
        sup.start(refresh, name="refresh")
        yield
        sup.stop()


app = FastAPI(lifespan=lifespan)


@app.get("/health")
async def health(response: Response) -> dict[str, str]:
    """Return the states of the children, with status 503 unless all are well."""
    sup: Supervisor = app.state.sup
    response.status_code = 200 if sup.is_healthy else 503
    is_asked.set()
    return {child.name: child.state for child in sup.children()}
