"""Measure in a fresh process, so that no contender inherits the heap of the one before."""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TypeVar

A = TypeVar("A")
T = TypeVar("T")

_STATUS = Path("/proc/self/status")
_RESET_PEAK = "5"


def in_fresh_process(measure: Callable[[A], T], argument: A) -> T:
    """`measure(argument)`, run by an interpreter that has done nothing before."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, argument).result()


def resident_mb() -> float:
    """Memory that this process holds now, in MB; NaN where the system has no /proc."""
    return _status_mb("VmRSS")


def peak_mb() -> float:
    """The most memory that this process has held since `forget_peak`, in MB; NaN without /proc."""
    return _status_mb("VmHWM")


def forget_peak() -> None:
    """Let `peak_mb` start from here: what importing needed is no contender's fault."""
    if _STATUS.exists():
        _STATUS.with_name("clear_refs").write_text(_RESET_PEAK)


def _status_mb(key: str) -> float:
    lines = _STATUS.read_text().splitlines() if _STATUS.exists() else []
    found = [line.split()[1] for line in lines if line.startswith(key)]
    return int(found[0]) / 1024 if found else float("nan")
