"""What does `import aiosupervise` cost, beside the `import asyncio` that it needs anyway?"""

import os
import statistics
import subprocess
import sys
from importlib.util import find_spec

from .table import Table, Target, times

PROCESSES = 20
BASE = "asyncio"
OURS = "aiosupervise"
EVERYTHING = "aiosupervise, batches and supervisors included"
PEERS = ("stamina", "tenacity", "backoff", "aiometer", "anyio")
PROGRAM = "import time; begun = time.process_time(); import asyncio; {}; print(time.process_time() - begun)"


def ask() -> Table:
    """Measure each import in processes of its own, which take turns."""
    table = Table(
        "importing the library and its peers, including asyncio",
        f"CPU of `import`, excluding interpreter startup: median of {PROCESSES} fresh processes each, interleaved",
        ("ms", "x asyncio"),
    )
    found = measure([BASE, OURS, EVERYTHING, *filter(find_spec, PEERS)])
    for name, milliseconds in found.items():
        ratio = milliseconds / found[BASE]
        promised = Target("<= 1.5 x asyncio", ratio <= 1.5) if name == OURS else None
        table.add(name, f"{milliseconds:.1f}", times(ratio), target=promised)
    return table


def measure(names: list[str]) -> dict[str, float]:
    """Milliseconds of each import, and before that of asyncio, which the peers do not all import by themselves."""
    found: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(PROCESSES + 1):
        for name, seconds in found.items():
            taken = seconds_of(name)
            if turn:  # the first one compiled the modules
                seconds.append(taken)
    return {name: statistics.median(seconds) * 1e3 for name, seconds in found.items()}


def seconds_of(name: str) -> float:
    """CPU seconds of one import in a fresh process, which may write its bytecode."""
    statement = f"from {OURS} import *" if name == EVERYTHING else f"import {name}"
    command = [sys.executable, "-c", PROGRAM.format(statement)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return float(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)
