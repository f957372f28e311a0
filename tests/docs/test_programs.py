"""The programs in docs/programs do what the page about them says, and are short enough to be read at once.

tests/faults/test_bulk_insert.py has the one that needs a database.
"""

import ast
import asyncio
import importlib.util
import inspect
import itertools
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import FunctionType
from typing import Any

import httpx
import looptime
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from aiosupervise.testing import no_waiting

ROOT = Path(__file__).parents[2]
PROGRAMS = ROOT / "docs" / "programs"
FILES = sorted(PROGRAMS.glob("*.py"))
LINES = 40


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_program_is_short_and_on_its_page(file: Path) -> None:
    """Nobody has to scroll a program, and the page on the programs, or the landing page, shows it."""
    assert len(file.read_text("utf-8").splitlines()) <= LINES
    page = "docs/index.md" if file.name == "first.py" else "docs/programs.md"
    assert file.name in (ROOT / page).read_text("utf-8")


def test_the_readme_shows_the_first_program() -> None:
    """The program of the landing page, of the README and of the picture below it is one and the same."""
    assert f"```python\n{(PROGRAMS / 'first.py').read_text('utf-8')}```\n" in (ROOT / "README.md").read_text("utf-8")


class Program:
    """A program that runs in a process of its own, in a directory of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def end(self) -> tuple[int, str, str]:
        """Wait for its end, and return its exit code and what it printed to stdout and stderr."""
        out, err = await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode, out.decode(), err.decode()


async def start(directory: Path, *arguments: str, **environment: str) -> Program:
    """Start a program, by the name of its file."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "NO_PROXY": "*", **environment}
    pipe = asyncio.subprocess.PIPE
    file, *rest = arguments
    command = [sys.executable, str(PROGRAMS / file), *rest]
    return Program(
        await asyncio.create_subprocess_exec(*command, cwd=directory, env=environment, stdout=pipe, stderr=pipe)
    )


@asynccontextmanager
async def site(pages: dict[str, str], failures: dict[str, list[int]] | None = None) -> AsyncIterator[str]:
    """Serve pages, after the failures of each, and yield the URL of the site, with its final slash."""
    left = {path: list(statuses) for path, statuses in (failures or {}).items()}

    async def answer(request: web.Request) -> web.Response:
        if left.get(request.path):
            return web.Response(status=left[request.path].pop(0), headers={"Retry-After": "0"})
        if request.path not in pages:
            return web.Response(status=404)
        return web.Response(text=pages[request.path], content_type="text/html")

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    async with TestServer(app) as server:
        yield str(server.make_url("/"))


def load(name: str) -> Any:
    """Import a program as a module."""
    spec = importlib.util.spec_from_file_location(name, PROGRAMS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
async def test_the_first_program(tmp_path: Path) -> None:
    """The program of the landing page runs as it stands, and lists the pages that it could not fetch."""
    code, out, err = await (await start(tmp_path, "first.py")).end()
    assert code == 0, err
    assert "99 succeeded" in out
    assert "/page/28: Server disconnected" in out
    assert "the server asked to wait" in err


@pytest.mark.slow
@pytest.mark.parametrize("file", ["bulk_insert.py", "crawler.py", "llm_batch.py", "metrics.py"])
async def test_a_program_says_how_to_start_it(tmp_path: Path, file: str) -> None:
    """Started without its arguments, it prints the command to type instead of a traceback."""
    code, out, err = await (await start(tmp_path, file, OPENAI_API_KEY="-")).end()
    assert (code, out) == (1, "")
    assert f"python {file}" in err
    assert "Traceback" not in err


@pytest.mark.slow
async def test_the_crawler(tmp_path: Path) -> None:
    """It fetches each page below the URL once, again after a 503, and names a missing page, which it does not count."""
    pages = {
        "/": '<a href="/a">',
        "/a": '<a href="/b#top"><a href="https://elsewhere.example/">',
        "/b": '<a href="/c">',
    }
    async with site(pages, {"/a": [503]}) as url:
        code, out, err = await (await start(tmp_path, "crawler.py", url)).end()
    assert code == 0, err
    first, last = out.splitlines()
    assert first.startswith(f"{url}c: HTTPStatusError(")
    assert last == "3 pages"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="sends signals")
async def test_the_batch_of_a_language_model(tmp_path: Path) -> None:
    """Killed once and stopped by Ctrl-C once, it asks nearly every question once, and has all answers in the end."""
    asked: Counter[str] = Counter()
    answered = itertools.count(1)
    enough = {10: asyncio.Event(), 30: asyncio.Event()}

    async def complete(request: web.Request) -> web.Response:
        question = (await request.json())["messages"][0]["content"]
        asked[question] += 1
        await asyncio.sleep(0.05)
        if event := enough.get(next(answered)):
            event.set()
        message = {"role": "assistant", "content": question.upper()}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        return web.json_response(
            {"id": "-", "object": "chat.completion", "created": 0, "model": "some-model", "choices": [choice]}
        )

    questions = [f"question {number}" for number in range(100)]
    (tmp_path / "questions.txt").write_text("\n\n".join(questions))  # an empty line is no question
    app = web.Application()
    app.router.add_post("/chat/completions", complete)
    async with TestServer(app) as server:
        run = partial(start, tmp_path, "llm_batch.py", "questions.txt", OPENAI_API_KEY="-")
        run = partial(run, OPENAI_BASE_URL=str(server.make_url("")))
        killed = await run()
        await enough[10].wait()
        killed.process.kill()
        assert (await killed.end())[0] == -signal.SIGKILL
        stopped = await run()
        await enough[30].wait()
        stopped.process.send_signal(signal.SIGINT)
        assert (await stopped.end())[0] == 128 + signal.SIGINT
        code, out, err = await (await run()).end()
    assert code == 0, err
    assert out.splitlines() == [f"{question}\t{question.upper()}" for question in questions]
    assert asked.total() <= 100 + 20 + 20  # the process that was killed had 20 calls running, and some uncommitted


def web_app(answer: Callable[[httpx.Request], httpx.Response]) -> tuple[Any, httpx.AsyncClient]:
    """Return the web application, with a source of prices that answers like this, and a client of it."""
    program = load("web_app")
    program.upstream = httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="https://prices.example")
    return program.app, httpx.AsyncClient(transport=httpx.ASGITransport(program.app), base_url="http://app")


@pytest.mark.slow
async def test_the_web_application() -> None:
    """It serves no request before it has prices, and its health is that of the task that fetches them."""
    statuses = [503]

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(statuses.pop() if statuses else 200, json={"price": len(request.url.path)})

    app, client = web_app(answer)
    with no_waiting():
        async with app.router.lifespan_context(app), client:
            assert (await client.get("/prices")).json() == {"gold": 5, "tin": 4}
            assert (await client.get("/health")).status_code == 200
    assert not app.state.sup.is_healthy


def test_the_web_application_is_healthy_only_with_fresh_prices() -> None:
    """It does not start without prices. When their source is down for minutes, it serves the last ones as unhealthy."""
    is_up = False

    def answer(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(200 if is_up else 500, json={"price": 1})

    async def scenario() -> None:
        nonlocal is_up
        app, client = web_app(answer)
        with pytest.raises(TimeoutError):
            async with app.router.lifespan_context(app):
                pytest.fail("it has started")
        is_up = True
        async with app.router.lifespan_context(app), client:
            for up, seconds, status in (False, 60, 200), (False, 240, 503), (True, 120, 200):
                is_up = up
                await asyncio.sleep(seconds)
                assert (await client.get("/health")).status_code == status
                assert (await client.get("/prices")).json() == {"gold": 1, "tin": 1}

    with asyncio.Runner(loop_factory=looptime.new_event_loop) as runner:
        runner.run(scenario())


@pytest.mark.slow
async def test_the_command(tmp_path: Path) -> None:
    """Its exit code says whether every URL answered, and argparse refuses wrong options."""
    async with site({"/a": "", "/b": ""}, {"/b": [429]}) as url:
        code, out, err = await (await start(tmp_path, "command.py", f"{url}a", f"{url}b")).end()
        assert (code, out) == (0, f"200 {url}a\n200 {url}b\n"), err
        code, out, err = await (await start(tmp_path, "command.py", f"{url}a", f"{url}c")).end()
        assert (code, out) == (1, f"200 {url}a\n")
        assert f"{url}c: Client error '404 Not Found'" in err
    code, out, err = await (await start(tmp_path, "command.py")).end()
    assert (code, out) == (2, "")
    assert "the following arguments are required: urls" in err


@pytest.mark.slow
async def test_the_tests(tmp_path: Path) -> None:
    """They pass, in a project that has nothing but them."""
    (tmp_path / "test_retries.py").write_text((PROGRAMS / "test_retries.py").read_text("utf-8"), "utf-8")
    pipe = asyncio.subprocess.PIPE
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, "test_retries.py"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = await asyncio.create_subprocess_exec(*command, cwd=tmp_path, env=environment, stdout=pipe, stderr=pipe)
    code, out, _ = await Program(process).end()
    assert code == 0, out
    assert "3 passed" in out


@pytest.mark.slow
async def test_metrics_and_traces(tmp_path: Path) -> None:
    """The calls are in the file for Prometheus and in the spans, those that were retried too."""
    async with site({"/a": "", "/b": ""}, {"/b": [503]}) as url:
        code, out, err = await (await start(tmp_path, "metrics.py", f"{url}a", f"{url}b")).end()
    assert code == 0, err
    assert "2 succeeded" in out
    assert 'aiosupervise_calls_total{call="fetch",outcome="recovered"} 1.0' in (tmp_path / "nightly.prom").read_text()
    assert '"name": "fetch"' in err


async def test_the_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its cells run one after another, as in Jupyter, and the last one runs again what failed before."""
    broken = {"/page/3", "/page/7"}

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(404 if request.url.path in broken else 200, text="a page")

    monkeypatch.setattr(httpx, "AsyncClient", partial(httpx.AsyncClient, transport=httpx.MockTransport(answer)))
    names: dict[str, object] = {}
    _, *cells = (PROGRAMS / "notebook.py").read_text("utf-8").split("# %%\n")
    for cell in cells:
        if "again" in cell:
            broken.clear()
        code = compile(cell, "notebook", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        result = FunctionType(code, names)()
        if inspect.isawaitable(result):
            await result
    assert repr(names["report"]).startswith("<Report: 18 succeeded, 2 failed")
    assert repr(names["again"]).startswith("<Report: 2 succeeded, 0 failed")
