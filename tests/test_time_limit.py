"""A test that hangs is named, and what it hangs in is shown, wherever it runs."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SPINS = """
    def test_it():
        while True:
            pass
"""
BLOCKED = """
    import threading

    def test_it():
        lock = threading.Lock()
        with lock:
            lock.acquire()
"""
SWALLOWS = """
    import asyncio

    async def test_it():
        while True:
            try:
                await asyncio.Event().wait()
            except BaseException:
                pass
"""

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("code", "workers"), [(SPINS, "1"), (BLOCKED, "0"), (SWALLOWS, "0")], ids=["spins", "blocked", "swallows"]
)
def test_a_test_that_hangs_is_named_with_all_stacks(code: str, workers: str, tmp_path: Path) -> None:
    """Whether it never leaves Python, waits for a lock or swallows every error, and in pytest-xdist's workers too."""
    file = tmp_path / "test_hangs.py"
    file.write_text(textwrap.dedent(code), "utf-8")
    project = ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(tmp_path), "-p", "tests.conftest"]
    options = ["-p", "no:cacheprovider", "-o", "timeout=2", "-o", "timeout_func_only=true", "-n", workers]
    command = [sys.executable, "-m", "pytest", *project, *options, str(file)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    assert ended.returncode == 1
    assert "test_hangs.py::test_it has taken more than 2 s." in ended.stderr
    assert 'test_hangs.py", line' in ended.stderr
    assert "in test_it" in ended.stderr
