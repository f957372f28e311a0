"""Run the reference example from a command line.

python -m aiosupervise.examples.fetch         # a flaky site on loopback, started in this process
python -m aiosupervise.examples.fetch URL     # a real site
python -m aiosupervise.examples.fetch --engine dask     # on two worker processes of a local cluster
python -m aiosupervise.examples.fetch --journal run.db  # killed and started again, it resumes

This module is separate from fetch.py because Python loads the module of a command under the name __main__. The workers
of a cluster import fetch.py under its own name, so it would be loaded twice, with two different functions `fetch`.
"""

import asyncio
import sys
from collections.abc import Sequence
from signal import SIGINT, Signals

from aiosupervise import map_all

from ._terminal import PROGRAM, Options, read_options
from .fetch import demonstrate, fetch_all, journal_of


async def run(options: Options) -> Signals | None:
    """Run the example on the chosen engine, and return the signal that stopped it, if any."""
    if options.journal is not None:
        # This run has no inputs: if the journal cannot be used, the run raises an error before a progress bar is shown.
        await map_all(asyncio.sleep, [], name="fetch", journal=journal_of(options, options.strategies[0]))
    if options.engine == "local":
        return await demonstrate(options, fetch_all)
    # The module is imported only here, because Dask is an optional dependency.
    from ._cluster import start_cluster  # noqa: PLC0415

    async with start_cluster() as fetch_on_cluster:
        return await demonstrate(options, fetch_on_cluster)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example and return its exit code."""
    options = read_options(arguments)
    try:
        stopped_by = asyncio.run(run(options))
    except KeyboardInterrupt:
        stopped_by = SIGINT
    except (OSError, RuntimeError, ValueError) as error:
        if options.journal is None:
            raise
        # A fetch that fails is an outcome, so any error raised here concerns the journal, and its message contains the
        # path.
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 2
    return 128 + stopped_by if stopped_by else 0


if __name__ == "__main__":
    sys.exit(main())
