"""What the Erlang programs have printed, as files; and the part of it that the tables show."""

from collections.abc import Iterable, Sequence
from pathlib import Path

HERE = Path(__file__).parent
PROGRAMS = HERE / "programs"
RECORDED = HERE / "recorded"
RELEASE = RECORDED / "release"
"""The release of OTP that printed it."""


def programs() -> list[str]:
    """Return the names of the programs."""
    return sorted(path.stem for path in PROGRAMS.glob("*.erl") if path.stem != "scene")


def recorded(program: str) -> list[str]:
    """Return the lines that a program has printed; none if it is new."""
    file = _file(program)
    return file.read_text("utf-8").splitlines() if file.exists() else []


def record(program: str, lines: Iterable[str]) -> None:
    """Write the lines that a program has printed."""
    _file(program).write_text("".join(f"{line}\n" for line in lines), "utf-8", newline="\n")


def forget_others(programs: Iterable[str]) -> None:
    """Remove what programs have printed that there are no more."""
    for stale in {path.stem for path in RECORDED.glob("*.txt")}.difference(programs):
        _file(stale).unlink()


def observed(lines: Sequence[str]) -> str:
    """Return what is printed after the scene is set, in a line."""
    return "; ".join(lines[lines.index("--") + 1 :])


def _file(program: str) -> Path:
    return RECORDED / f"{program}.txt"
