"""Serve prices that a background task keeps fresh: `uvicorn web_app:app`."""

import asyncio
from contextlib import asynccontextmanager

import httpx
from fastapi import FastAPI, Response

from aiosupervise import Supervisor, alive, map_all, ready, supervise
from aiosupervise.integrations.http import is_transient

upstream = httpx.AsyncClient(base_url="https://prices.example")


@supervise(retry_on=is_transient, attempt_timeout=2.0, deadline=8.0)
async def fetch_price(item):
    return (await upstream.get(f"/{item}")).raise_for_status().json()["price"]


async def refresh():
    while True:
        report = await map_all(fetch_price, ["gold", "tin"], limit=10, timeout=10.0)
        if report.ok:  # otherwise /health answers 503 after two minutes
            app.state.prices = {success.input: success.value for success in report.succeeded}
            ready()
            alive()
        await asyncio.sleep(30)


@asynccontextmanager
async def lifespan(app):
    async with Supervisor(name="background") as app.state.sup:
        await app.state.sup.start(refresh, ready=30.0, heartbeat=120.0).wait_ready()
        yield
        app.state.sup.stop()


app = FastAPI(lifespan=lifespan)
app.get("/prices")(lambda: app.state.prices)
app.get("/health")(lambda: Response(status_code=200 if app.state.sup.is_healthy else 503))
