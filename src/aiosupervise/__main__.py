"""The output of `python -m aiosupervise`: a list of example programs."""

import sys

TEXT = """\
aiosupervise: supervise calls, batches and long-running tasks.

Two example programs, each with its own unreliable server.

Start here: a service whose tasks crash and are restarted while you watch
  python -m aiosupervise.examples.service

A batch of twenty fetches, five at a time: retries, progress bar, report
  python -m aiosupervise.examples.fetch

Ctrl-C stops them, and --help lists their options. They need the extras aiohttp,
tqdm and rich: pip install ".[all]" in a clone.

Documentation: https://aiosupervise.readthedocs.io
"""

if __name__ == "__main__":
    sys.stdout.write(TEXT)
