"""Runs with a journal whose process is killed, again and again: nothing is lost, and little is called twice.

Each call is known from both sides: the process writes it to a file before it makes it, the journal has its result.
"""

import json
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

if sys.platform == "win32":
    pytest.skip("it has neither SIGKILL nor limits of a process", allow_module_level=True)

from .journal_process import LIMIT, NUMBER, value_of

pytestmark = pytest.mark.slow

# Results that wait for their commit: one group in the writer, and one that is as large. Then no job starts.
GROUP = 200
MOST_REPEATED = 2 * (GROUP + LIMIT)
SMALL_FILES = 64 * 1024  # bytes; SQLite's shared memory and the file of calls are smaller


class Killed:
    """A run of some inputs, in one process after another."""

    def __init__(self, folder: Path, inputs: int, script: str = "journal_process.py", *, calls: str = "calls") -> None:
        folder.mkdir(exist_ok=True)
        self.inputs = inputs
        self._folder = folder
        self._script = Path(__file__).with_name(script)
        self._calls = calls

    @contextmanager
    def process(self, *options: str) -> Iterator[subprocess.Popen[bytes]]:
        """Start a process, and return when the run is about to begin."""
        command = [sys.executable, str(self._script), str(self._folder), str(self.inputs), *options]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == b"begins\n"
                yield process
            finally:
                process.kill()

    def finish(self) -> dict[str, Any]:
        """Let a process run to its end, and return its report."""
        with self.process() as process:
            assert process.wait() == 0
        report: dict[str, Any] = json.loads((self._folder / "report.json").read_text())
        return report

    def calls(self, name: str | None = None) -> Counter[int]:
        """How often each input was called, by all processes."""
        return Counter(self._numbers(name or self._calls))

    def outcomes(self) -> set[int]:
        """The inputs whose outcomes the last process has handed over."""
        return set(self._numbers("outcomes"))

    def wait_for_calls(self, number: int, process: subprocess.Popen[bytes]) -> None:
        """Return when this process has made this many more calls."""
        before = self._size(self._calls)
        while self._size(self._calls) < before + number * NUMBER:
            assert process.poll() is None, "it has ended before it was killed"
            time.sleep(0.0005)

    def rows(self) -> list[tuple[str, str]]:
        """The keys and values that the journal has, read from a copy: SQLite would repair the files themselves."""
        with tempfile.TemporaryDirectory() as folder:
            for name in ("run.db", "run.db-wal"):
                if self._file(name).exists():
                    shutil.copy(self._file(name), folder)
            with closing(sqlite3.connect(Path(folder, "run.db"))) as connection:
                if connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,):
                    return []  # the process died before it had made the tables
                found: list[tuple[str, str]] = connection.execute("SELECT key, value FROM journal").fetchall()
        return found

    def largest_file(self) -> int:
        """The size of the database, or of the file into which SQLite commits."""
        return max(self._size("run.db"), self._size("run.db-wal"))

    def _numbers(self, name: str) -> list[int]:
        text = self._file(name).read_bytes()
        return [int.from_bytes(text[place : place + NUMBER], "little") for place in range(0, len(text), NUMBER)]

    def _file(self, name: str) -> Path:
        return self._folder / name

    def _size(self, name: str) -> int:
        file = self._file(name)
        return file.stat().st_size if file.exists() else 0


Kill = Callable[[Killed, random.Random, int], int]


def at_a_random_moment(run: Killed, moments: random.Random, most: int) -> int:
    """Kill a process when it has made some calls; every fourth one while it opens the file, or looks inputs up."""
    with run.process() as process:
        run.wait_for_calls(moments.randrange(most) if moments.randrange(4) else 0, process)
        process.kill()
        return process.wait()


def in_a_write(run: Killed, moments: random.Random, most: int) -> int:
    """Let a process be killed by the kernel, in the middle of a write of a commit."""
    size = max(run.largest_file(), SMALL_FILES) + moments.randrange(1, most * 100)
    with run.process("--die-after-bytes", str(size)) as process:
        return process.wait()


def in_the_codec(run: Killed, moments: random.Random, most: int) -> int:
    """Let a process kill itself in the thread of the writer, while it encodes a group of results."""
    with run.process("--die-after-values", str(moments.randrange(most))) as process:
        return process.wait()


@pytest.mark.parametrize(
    ("kill", "signal_number"),
    [
        pytest.param(at_a_random_moment, signal.SIGKILL, id="at a random moment"),
        pytest.param(in_a_write, signal.SIGXFSZ, id="in a write of a commit"),
        pytest.param(in_the_codec, signal.SIGKILL, id="in the codec"),
    ],
)
def test_kills(
    kill: Kill, signal_number: signal.Signals, tmp_path: Path, *, thorough: bool, counts: Counter[str]
) -> None:
    """No input is without its outcome, no value is wrong, and what was handed over is never called again.

    No more is called twice than was running or waited for its commit.
    """
    runs, inputs, kills = (10, 20_000, 20) if thorough else (1, 2_000, 3)
    moments = random.Random(kill.__name__)
    undisturbed = Killed(tmp_path / "undisturbed", inputs).finish()
    for number in range(runs):
        run = Killed(tmp_path / f"killed {number}", inputs)
        repeated = kill_again_and_again(run, kill, signal_number, moments, kills)
        check(run, undisturbed, repeated)
        counts[f"journal: kills {kill.__name__}"] += kills
        counts[f"journal: calls made twice after kills {kill.__name__}"] += sum(repeated)
        most = f"journal: most of them after one kill {kill.__name__}"
        counts[most] = max(counts[most], *repeated)


def kill_again_and_again(
    run: Killed, kill: Kill, signal_number: signal.Signals, moments: random.Random, kills: int
) -> list[int]:
    """Kill one process after another; return how many of its calls each of them made in vain."""
    repeated: list[int] = []
    for _ in range(kills):
        assert kill(run, moments, run.inputs // (kills + 2)) == -signal_number
        rows = run.rows()
        assert run.outcomes() <= {int(key) for key, _ in rows}
        repeated.append(run.calls().total() - len(rows) - sum(repeated))
    return repeated


def check(run: Killed, undisturbed: dict[str, Any], repeated: list[int]) -> None:
    """Let the last process finish, compare its report with that of a run that nobody killed, and run it once more."""
    inputs = run.inputs
    report = run.finish()
    assert report["ok"]
    assert report["outcomes"] == undisturbed["outcomes"]
    assert [value for _, _, value, *_ in report["outcomes"]] == [value_of(number) for number in range(inputs)]
    assert sorted(run.rows()) == sorted((str(number), json.dumps(value_of(number))) for number in range(inputs))
    calls = run.calls()
    assert set(calls) == set(range(inputs))
    assert calls.total() == inputs + sum(repeated)
    assert max(repeated) <= MOST_REPEATED

    assert run.finish()["replayed"] == inputs
    assert run.calls() == calls
