"""Three stages with a journal in a process of its own, which a test kills: `python stages_process.py FOLDER INPUTS`."""

import argparse
import asyncio
import json
import os
from pathlib import Path
from typing import Any

from aiosupervise import Event, JobFinished, Journal, map_all

LIMIT = 10
SECONDS = 0.002  # of a job
NUMBER = 4  # bytes in the files of calls and of outcomes
STAGES = ("fetch", "parse", "store")


def value_of(number: int, stage: int) -> dict[str, Any]:
    """What a call of a stage returns."""
    return {"number": number, "stage": stage, "text": "ü" * (number % 97)}


async def run(folder: Path, inputs: int) -> None:
    """Write down each call before it is made, each outcome when it is handed over, and the report at the end."""
    files = [os.open(folder / f"calls{stage}", os.O_WRONLY | os.O_APPEND | os.O_CREAT) for stage in range(len(STAGES))]
    outcomes = os.open(folder / "outcomes", os.O_WRONLY | os.O_TRUNC | os.O_CREAT)

    def work(stage: int) -> Any:
        async def call(value: Any) -> Any:
            number = value if stage == 0 else value["number"]
            assert stage == 0 or value == value_of(number, stage - 1)
            os.write(files[stage], number.to_bytes(NUMBER, "little"))
            await asyncio.sleep(SECONDS)
            return value_of(number, stage)

        return call

    def note(event: Event) -> None:
        if isinstance(event, JobFinished) and event.name == STAGES[-1]:
            os.write(outcomes, event.outcome.index.to_bytes(NUMBER, "little"))

    print("begins", flush=True)  # noqa: T201
    journal = Journal(folder / "run.db")
    stages: Any = range(inputs)
    for stage, name in enumerate(STAGES):
        options: dict[str, Any] = {"listen": note} if name == STAGES[-1] else {}
        stages = map_all(work(stage), stages, limit=LIMIT, journal=journal, name=name, **options)
    report = await stages
    succeeded = [[one.index, one.input, one.value, one.name, one.attempts] for one in report.succeeded]
    text = json.dumps({"outcomes": succeeded, "replayed": report.tally.replayed, "ok": report.ok})
    (folder / "report.json").write_text(text)


def main() -> None:
    """Run, unless the process is killed meanwhile."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("inputs", type=int)
    options = parser.parse_args()
    asyncio.run(run(options.folder, options.inputs))


if __name__ == "__main__":
    main()
