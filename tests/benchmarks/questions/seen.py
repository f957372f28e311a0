"""What does a call cost with a listener, and with spans of OpenTelemetry?"""

import asyncio
import contextlib
import functools
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from aiosupervise import Event, listen

from .call import answer
from .contenders import Func, Terms, decorate
from .interleaved import fastest
from .table import Table, Target, times

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import TracerProvider

ROUNDS = 150
BARE = "bare await"
BY_HAND = "a span by hand"
OURS = "aiosupervise"
SETTINGS = ("no SDK", "SDK without processor", "SDK with SimpleSpanProcessor")


def ask() -> Table:
    """Measure supervised calls without a listener, with an empty listener, and with tracing."""
    table = Table(
        "a call that succeeds on the first attempt: without a listener, with an empty listener, and with OpenTelemetry",
        f"CPU of `await call(1, key=2)`: the fastest of {ROUNDS} interleaved slices of 4 ms",
        ("ns per call", "x bare await", "x by hand"),
    )
    add(table, asyncio.run(measure({}, contextlib.nullcontext())), "no listener")
    add(table, asyncio.run(measure({}, listen(nothing))), "an empty listener")
    for setting in SETTINGS if find_spec("opentelemetry.sdk") else ():
        add(table, asyncio.run(traced(setting)), setting)
    return table


def add(table: Table, best: Mapping[str, float], setting: str) -> None:
    """Add the rows of one setting; the promise is about those in which somebody reads the spans."""
    for name, ns in best.items():
        ratio = ns / best.get(BY_HAND, ns)
        promised = Target("<= 2.0 x by hand", ratio <= 2.0) if name == OURS and setting in SETTINGS else None
        compared = times(ratio) if BY_HAND in best else ""
        table.add(f"{setting}: {name}", f"{ns:,.0f}", times(ns / best[BARE]), compared, target=promised)


async def measure(beside: Mapping[str, Func], listening: AbstractContextManager[None]) -> dict[str, float]:
    """CPU nanoseconds per call: the bare one, those beside it, and the supervised one."""
    with listening:
        return await fastest({BARE: answer, **beside, OURS: decorate(OURS, answer, Terms())}, ROUNDS)


async def traced(setting: str) -> dict[str, float]:
    """The same, with spans."""
    from aiosupervise.integrations.opentelemetry import Spans  # noqa: PLC0415 - it may be missing

    provider = provider_for(setting)
    return await measure({BY_HAND: by_hand(provider)}, listen(Spans(provider)))


def provider_for(setting: str) -> "TracerProvider":
    """Where the spans go: nowhere, or through the SDK, whose exporter drops them."""
    from opentelemetry.sdk import trace  # noqa: PLC0415 - it may be missing
    from opentelemetry.sdk.trace.export import (  # noqa: PLC0415
        SimpleSpanProcessor,
        SpanExporter,
        SpanExportResult,
    )
    from opentelemetry.trace import ProxyTracerProvider  # noqa: PLC0415

    class Drop(SpanExporter):
        def export(self, spans: "Sequence[ReadableSpan]") -> SpanExportResult:  # noqa: ARG002
            return SpanExportResult.SUCCESS

    if setting == SETTINGS[0]:
        return ProxyTracerProvider()
    provider = trace.TracerProvider()
    if setting == SETTINGS[2]:
        provider.add_span_processor(SimpleSpanProcessor(Drop()))
    return provider


def by_hand(provider: "TracerProvider") -> Func:
    """What people write around a call."""
    tracer = provider.get_tracer("benchmark")

    @functools.wraps(answer)
    async def call(*args: Any, **kwargs: Any) -> Any:
        with tracer.start_as_current_span("answer"):
            return await answer(*args, **kwargs)

    return call


def nothing(event: Event) -> None:
    """An empty listener."""
