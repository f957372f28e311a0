"""Runs the Erlang programs."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator

from .recorded import PROGRAMS, programs

_QUIET = ["-noinput", "-kernel", "logger_level", "none"]
_SECONDS = 30


def is_installed() -> bool:
    """Return whether Erlang is on the PATH."""
    return shutil.which("erl") is not None and shutil.which("erlc") is not None


def release() -> str:
    """Return the release of OTP that is installed, such as 25."""
    return _evaluate('io:format("~s", [erlang:system_info(otp_release)])')


def run_all_programs() -> Iterator[tuple[str, list[str]]]:
    """Yield each program and the lines that it prints."""
    with tempfile.TemporaryDirectory() as compiled:
        sources = sorted(map(str, PROGRAMS.glob("*.erl")))
        subprocess.run(["erlc", "-W", "-Werror", "-o", compiled, *sources], check=True)  # noqa: S607 - that of the PATH
        for program in programs():
            yield program, _evaluate(f"{program}:main()", "-pa", compiled).splitlines()


def _evaluate(expression: str, *options: str) -> str:
    command = ["erl", *_QUIET, *options, "-eval", f"{expression}, halt()."]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    return ended.stdout + ended.stderr
