"""Stages with a journal whose process is killed, again and again: nothing is lost, and little is called twice."""

import random
import signal
import sys
from collections import Counter
from pathlib import Path

import pytest

if sys.platform == "win32":
    pytest.skip("it has no SIGKILL", allow_module_level=True)

from .stages_process import LIMIT, STAGES, value_of
from .test_journal_kills import GROUP, Killed

pytestmark = pytest.mark.slow

# Of one stage, after one kill.
MOST_REPEATED = 2 * (GROUP + LIMIT)


def test_kills(tmp_path: Path, *, thorough: bool, counts: "Counter[str]") -> None:
    """Each input has one outcome, no stage has a wrong value, and what was handed over is never called again."""
    inputs, kills = (20_000, 30) if thorough else (1_500, 5)
    moments = random.Random("stages")
    run = Killed(tmp_path, inputs, "stages_process.py", calls="calls0")
    handed_over: set[int] = set()
    for _ in range(kills):
        with run.process() as process:
            run.wait_for_calls(moments.randrange(inputs // (kills + 2)), process)
            process.kill()
            assert process.wait() == -signal.SIGKILL
        outcomes = run.outcomes()
        stored = Counter(key for key, _ in run.rows())
        assert all(stored[str(number)] == len(STAGES) for number in outcomes)
        handed_over |= outcomes
    report = run.finish()
    assert report["ok"]
    last = len(STAGES) - 1
    assert report["outcomes"] == [[n, n, value_of(n, last), f"{STAGES[last]}-{n}", 1] for n in range(inputs)]
    for stage in range(len(STAGES)):
        calls = run.calls(f"calls{stage}")
        assert set(calls) == set(range(inputs))
        repeated = calls.total() - inputs
        assert repeated <= kills * MOST_REPEATED
        counts["journal: calls of stages made twice after kills"] += repeated
    counts["journal: kills of stages"] += kills
    before = [run.calls(f"calls{stage}") for stage in range(len(STAGES))]
    assert run.finish()["replayed"] == inputs
    assert [run.calls(f"calls{stage}") for stage in range(len(STAGES))] == before
    assert handed_over <= set(range(inputs))
