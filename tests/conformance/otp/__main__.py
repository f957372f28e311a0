"""Runs the Erlang programs and compares what they print with the record: `nox -s otp`."""

import argparse
import difflib
import logging
import sys

from . import erlang, page, recorded

WORDS = "{program} has printed something else than is recorded; `nox -s otp -- --record` records it anew:\n{lines}"


def main() -> int:
    """Return the exit status: 1 if a program has printed something else than is recorded."""
    parser = argparse.ArgumentParser(prog="nox -s otp --")
    parser.add_argument("--record", action="store_true", help="record what the programs print")
    parser.add_argument(
        "--write", action="store_true", help="write the tables of the page, from the record and the twins"
    )
    arguments = parser.parse_args()
    if arguments.write and not arguments.record:
        failures = []
    elif not erlang.is_installed():
        parser.error("needs erl and erlc, of Debian's erlang-base")
    elif arguments.record:
        failures = _record()
    else:
        failures = _compare()
    if arguments.write:
        logging.disable()  # children fail in the twins
        page.write()
    for failure in failures:
        print(failure, file=sys.stderr)  # noqa: T201
    return 1 if failures else 0


def _record() -> list[str]:
    recorded.RECORDED.mkdir(exist_ok=True)
    for program, lines in erlang.run_all_programs():
        recorded.record(program, lines)
    recorded.forget_others(recorded.programs())
    recorded.RELEASE.write_text(f"{erlang.release()}\n", "utf-8", newline="\n")
    return []


def _compare() -> list[str]:
    printed = dict(erlang.run_all_programs())
    failures = [
        _difference(program, lines) for program, lines in printed.items() if lines != recorded.recorded(program)
    ]
    print(f"{len(printed)} programs have run, {len(failures)} printed something else than is recorded")  # noqa: T201
    return failures


def _difference(program: str, lines: list[str]) -> str:
    difference = difflib.unified_diff(recorded.recorded(program), lines, "recorded", "printed", lineterm="")
    return WORDS.format(program=program, lines="\n".join(difference))


sys.exit(main())
