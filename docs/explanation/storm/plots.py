"""The pictures: attempts and successful responses per second, over time."""

import importlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from .scenarios import Result


def draw(path: Path, results: Mapping[str, Result]) -> None:
    """Draw results into an SVG file, one line for each, labelled with its name.

    Raises:
        ImportError: if matplotlib is not installed.

    """
    try:
        pyplot = importlib.import_module("matplotlib.pyplot")
    except ImportError as error:
        raise ImportError(f"--plot needs matplotlib ({error}): pip install matplotlib") from error
    # A picture that has not changed has to give the same file: no random ids, and no date in the metadata.
    with pyplot.rc_context({"svg.hashsalt": path.stem, "svg.fonttype": "none", "lines.linewidth": 1.2}):
        figure, (above, below) = pyplot.subplots(2, sharex=True, figsize=(8, 5), layout="constrained")
        for name, result in results.items():
            end = max(*result.arrivals, *result.successes)
            above.plot(per_second(result.arrivals, end), label=name)
            below.plot(per_second(result.successes, end), label=name)
        above.set_ylabel("attempts per second")
        below.set_ylabel("successes per second")
        below.set_xlabel("seconds")
        above.set_ylim(0)
        below.set_ylim(0)
        above.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)
        figure.savefig(path, metadata={"Date": None})
        pyplot.close(figure)


def per_second(times: Sequence[float], end: float) -> list[int]:
    """Count the events in each second until `end`."""
    counts = Counter(int(time) for time in times)
    return [counts[second] for second in range(int(end) + 1)]
