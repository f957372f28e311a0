"""Ask a model each line of a file, and resume after Ctrl-C or a crash: `python llm_batch.py questions.txt`."""

import asyncio
import sys
from pathlib import Path
from signal import SIGINT, SIGTERM

import openai

from aiosupervise import Journal, map_all, supervise
from aiosupervise.integrations.http import is_transient

MODEL = "some-model"
client = openai.AsyncOpenAI(max_retries=0)  # takes OPENAI_API_KEY and OPENAI_BASE_URL from the environment


@supervise(retry_on=is_transient, max_retries=5, attempt_timeout=120.0)
async def ask(question):
    message = {"role": "user", "content": question}
    answer = await client.chat.completions.create(model=MODEL, messages=[message])
    return answer.choices[0].message.content


async def main(path):
    run = map_all(
        ask,
        [line for line in Path(path).read_text("utf-8").splitlines() if line],
        limit=20,
        journal=Journal(f"{path}.db", version=MODEL),
        stop_on=(SIGINT, SIGTERM),
        progress=True,
    )
    report = await run
    for success in report.succeeded:
        print(success.input, success.value, sep="\t")
    print(report.summary(), file=sys.stderr)
    return 128 + run.stopped_by if run.stopped_by else 1 - report.ok


sys.exit(asyncio.run(main(sys.argv[1])) if len(sys.argv) == 2 else __doc__)
