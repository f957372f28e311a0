"""A run with a journal in a process of its own, which a test kills: `python journal_process.py FOLDER INPUTS`."""

import argparse
import asyncio
import json
import os
import resource
import signal
from pathlib import Path
from typing import Any

from aiosupervise import Event, JobFinished, Journal, map_all

LIMIT = 10
SECONDS = 0.002  # of a job
NUMBER = 4  # bytes in the files of calls and of outcomes


class DeadlyCodec:
    """JSON, until this many values were encoded: then the process is killed, in the thread of the writer."""

    def __init__(self, values: int) -> None:
        self._left = values

    def dumps(self, value: Any) -> str:
        """Encode a value, or die."""
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self._left -= 1
        return json.dumps(value)

    def loads(self, text: str) -> Any:
        """Decode a value."""
        return json.loads(text)


def value_of(number: int) -> dict[str, Any]:
    """What a call returns: of different lengths, so that rows end anywhere in a page."""
    return {"number": number, "text": "ü" * (number % 97)}


async def run(folder: Path, inputs: int, codec: Any) -> None:
    """Write down each call before it is made, each outcome when it is handed over, and the report at the end."""
    calls = os.open(folder / "calls", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    outcomes = os.open(folder / "outcomes", os.O_WRONLY | os.O_TRUNC | os.O_CREAT)

    async def work(number: int) -> dict[str, Any]:
        os.write(calls, number.to_bytes(NUMBER, "little"))
        await asyncio.sleep(SECONDS)
        return value_of(number)

    def note(event: Event) -> None:
        if isinstance(event, JobFinished):
            os.write(outcomes, event.outcome.index.to_bytes(NUMBER, "little"))

    print("begins", flush=True)  # noqa: T201
    journal = Journal(folder / "run.db", codec=codec)
    report = await map_all(work, range(inputs), limit=LIMIT, listen=note, journal=journal)
    succeeded = [[one.index, one.input, one.value, one.name, one.attempts] for one in report.succeeded]
    text = json.dumps({"outcomes": succeeded, "replayed": report.tally.replayed, "ok": report.ok})
    (folder / "report.json").write_text(text)


def main() -> None:
    """Run, unless the process is killed meanwhile."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("inputs", type=int)
    parser.add_argument("--die-after-values", type=int, help="in the codec")
    parser.add_argument("--die-after-bytes", type=int, help="in the write that would make a file larger than this")
    options = parser.parse_args()
    if options.die_after_bytes is not None:
        # The kernel writes up to the limit, and kills the process when it writes on: a page is torn anywhere.
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (options.die_after_bytes, options.die_after_bytes))
    codec = json if options.die_after_values is None else DeadlyCodec(options.die_after_values)
    asyncio.run(run(options.folder, options.inputs, codec))


if __name__ == "__main__":
    main()
