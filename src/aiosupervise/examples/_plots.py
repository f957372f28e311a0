"""Pictures of simulations: how many attempts the service got, and how many good answers it gave, over time."""

import importlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from ._play import Story


def draw(path: Path, stories: Mapping[str, Story]) -> None:
    """Draw stories into an SVG file, each as a line under its name.

    Raises:
        ImportError: if matplotlib is not installed.

    """
    try:
        pyplot = importlib.import_module("matplotlib.pyplot")
    except ImportError as error:
        raise ImportError(f"plots need matplotlib ({error}): pip install matplotlib") from error
    # The same picture makes the same file: no random ids, and below no date.
    with pyplot.rc_context({"svg.hashsalt": path.stem, "svg.fonttype": "none", "lines.linewidth": 1.2}):
        figure, (above, below) = pyplot.subplots(2, sharex=True, figsize=(8, 5), layout="constrained")
        for name, story in stories.items():
            end = max(*story.arrivals, *story.answers)
            above.plot(a_second(story.arrivals, end), label=name)
            below.plot(a_second(story.answers, end), label=name)
        above.set_ylabel("attempts a second")
        below.set_ylabel("good answers a second")
        below.set_xlabel("seconds")
        above.set_ylim(0)
        below.set_ylim(0)
        above.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)
        figure.savefig(path, metadata={"Date": None})
        pyplot.close(figure)


def a_second(times: Sequence[float], end: float) -> list[int]:
    """Count what happened in each second until `end`."""
    counts = Counter(int(time) for time in times)
    return [counts[second] for second in range(int(end) + 1)]
