"""Uses the integrations that have types of their own, and never runs: mypy --strict and pyright read it."""

from email.message import Message
from typing import assert_type

import httpx
from aiohttp import ClientResponse
from distributed import Client
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import REGISTRY, CollectorRegistry
from rich.progress import Progress

from aiosupervise import Event, Policy, Report, listen, map_all, run_all
from aiosupervise.integrations import aiohttp, http
from aiosupervise.integrations.dask import DaskEngine, RemoteError
from aiosupervise.integrations.opentelemetry import Spans
from aiosupervise.integrations.prometheus import Metrics
from aiosupervise.integrations.rich import Bars


async def work() -> int:
    return 1


async def listeners(event: Event) -> None:
    metrics = Metrics()
    spans = Spans()
    with listen(metrics), listen(spans):
        await run_all([work()], listen=Metrics(CollectorRegistry()))
        await run_all([work()], listen=Spans(TracerProvider()))
    assert_type(metrics(event), None)
    assert_type(spans(event), None)
    REGISTRY.unregister(metrics)


Metrics(registry=CollectorRegistry())
Spans(tracer_provider=None)
Metrics("registry")  # type: ignore[arg-type]
Spans("provider")  # type: ignore[arg-type]


async def bars(event: Event) -> None:
    with Progress() as progress, listen(Bars(progress)):
        await run_all([work()], listen=Bars())
    assert_type(Bars(progress=None)(event), None)


Bars("progress")  # type: ignore[arg-type]


async def half(number: int) -> float:
    return number / 2


async def cluster(client: Client, error: RemoteError) -> None:
    report = await map_all(half, [1], engine=DaskEngine(client, chunk=10))
    assert_type(report, Report[float, int])
    assert_type(await map_all(half, [1], engine=DaskEngine("tcp://scheduler:8786")), Report[float, int])
    assert_type(await map_all(half, [1], engine=None), Report[float, int])
    assert_type((error.type_name, error.message, error.traceback_text, error.why), tuple[str, str, str, str])
    map_all(half, [1], engine="dask")  # type: ignore[call-overload]
    DaskEngine(1)  # type: ignore[arg-type]


def wait(aiohttps: ClientResponse, httpxs: httpx.Response, urllibs: Message) -> None:
    assert_type(http.retry_after(aiohttps.headers), float | None)
    assert_type(http.retry_after(httpxs.headers), float | None)
    assert_type(http.retry_after({"Retry-After": "1"}), float | None)
    assert_type(http.retry_after({"Retry-After": b"1"}), float | None)
    assert_type(http.retry_after({b"Retry-After": b"1"}), float | None)
    assert_type(http.retry_after(None), float | None)
    assert_type(http.is_transient(ValueError()), bool | float)
    Policy(retry_on=http.is_transient)
    Policy(retry_on=aiohttp.is_transient)
    http.retry_after("Retry-After: 1")  # type: ignore[arg-type]
    http.retry_after(urllibs)  # type: ignore[arg-type]
    http.is_transient(None)  # type: ignore[arg-type]
