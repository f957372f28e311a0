"""Count and trace the calls of a batch, for Prometheus and OpenTelemetry: `python metrics.py https://example.org/`."""

import asyncio
import sys

import httpx
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
from prometheus_client import REGISTRY, write_to_textfile

from aiosupervise import listen, map_all, supervise
from aiosupervise.integrations.http import is_transient
from aiosupervise.integrations.opentelemetry import Spans
from aiosupervise.integrations.prometheus import Metrics

trace.set_tracer_provider(TracerProvider())
trace.get_tracer_provider().add_span_processor(BatchSpanProcessor(ConsoleSpanExporter(out=sys.stderr)))
listen(Metrics())
listen(Spans())


async def main(urls):
    async with httpx.AsyncClient() as client:

        @supervise(retry_on=is_transient, attempt_timeout=10.0)
        async def fetch(url):
            return len((await client.get(url)).raise_for_status().content)

        report = await map_all(fetch, urls, limit=10, name="nightly")
    print(report.summary())


if len(sys.argv) < 2:
    sys.exit(__doc__)
asyncio.run(main(sys.argv[1:]))
write_to_textfile("nightly.prom", REGISTRY)  # for the textfile collector of node_exporter
