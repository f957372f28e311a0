"""The human-readable summary of a report, as text or HTML: counts, percentiles, and the most frequent errors.

Its size is bounded, however many outcomes there are. The number of errors that are examined is bounded too, because
computing their texts may be slow. Like the log, the summary shows the `str` of an error and never its repr. Inputs and
values do not appear in it.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from random import Random
from typing import TypeVar

from aiosupervise._events.outcomes import Failure, Outcome, Pending, Stopped, Success, Tally
from aiosupervise._policy.checks import error_text, line_of, printable
from aiosupervise._policy.raw import type_name_of
from aiosupervise._policy.record import record

_SHOWN_ERRORS = 5
_SHOWN_GROUPS = 10
# The maximum number of characters in a line.
_WIDTH = 80
# The maximum number of characters of an error, which shares its line with a count and an index.
_ERROR_WIDTH = 60
_EXAMINED_FAILURES = 10_000
_PERCENTS = (50, 95, 100)

# The parts that differ between errors with the same cause: URLs, and numbers except for those of three digits, which
# may be status codes.
_VARYING = r"(?<![a-z])[a-z]+://[^\s'\"]+|(?<![\w.])(?!\d{3}(?!\d|\.\d))\d+(?:\.\d+)*"

N = TypeVar("N", int, float)


@record
class Table:
    """A table; `alignment` contains a `<` or `>` for each column, and the first row contains the titles."""

    alignment: str
    rows: Sequence[Sequence[str]]

    def text(self) -> str:
        """Return the table as lines of text."""
        widths = [max(map(len, column)) for column in zip(*self.rows, strict=True)]
        formats = [f"{side}{width}" for side, width in zip(self.alignment, widths, strict=True)]
        return "\n".join("  ".join(map(format, row, formats)).rstrip() for row in self.rows)

    def html(self) -> str:
        """Return the table as HTML."""
        titles, *rows = [self._html_row(row, "td" if number else "th") for number, row in enumerate(self.rows)]
        return f"<table><thead>{titles}</thead><tbody>{''.join(rows)}</tbody></table>"

    def _html_row(self, row: Sequence[str], tag: str) -> str:
        from html import escape  # noqa: PLC0415 - it takes a millisecond to import, and is needed in notebooks only

        sides = {"<": "left", ">": "right"}
        cells = (
            f'<{tag} style="text-align: {sides[side]}">{escape(cell)}</{tag}>'
            for side, cell in zip(self.alignment, row, strict=True)
        )
        return f"<tr>{''.join(cells)}</tr>"


@record
class Summary:
    """A summary: lines of text, followed by tables."""

    lines: Sequence[str]
    tables: Sequence[Table]

    def text(self) -> str:
        """Return the summary as lines of text, without a final line break."""
        return "\n\n".join(["\n".join(self.lines), *(table.text() for table in self.tables)])

    def html(self) -> str:
        """Return the summary as HTML."""
        from html import escape  # noqa: PLC0415 - see above

        return "".join([*(f"<p>{escape(line)}</p>" for line in self.lines), *(table.html() for table in self.tables)])


def summarize(
    outcomes: Sequence[Outcome[object, object]],
    tally: Tally,
    elapsed: float,
    stopped: Stopped | None,
    stopped_groups: Sequence[Hashable],
) -> Summary:
    """Summarize a report.

    Args:
        outcomes: the outcomes of the report.
        tally: the counts of the run.
        elapsed: the duration of the run in seconds.
        stopped: why the run ended before its source was exhausted; None if it did not.
        stopped_groups: the groups whose service stayed down.
    """
    finished = [outcome for outcome in outcomes if not isinstance(outcome, Pending)]
    failures = [outcome for outcome in finished if isinstance(outcome, Failure)]
    ran = [outcome for outcome in finished if not (isinstance(outcome, Success) and outcome.replayed)]
    lines = _counts(tally, elapsed)
    if stopped:
        lines.append(f"stopped: {stopped.value}")
    if stopped_groups:
        lines.append(_groups(stopped_groups))
    read = tally.succeeded + tally.failed + tally.pending - len(outcomes)
    if read > 0:
        lines.append(f"the figures below are without the outcomes that were read before: {read:,}")
    if len(failures) > _EXAMINED_FAILURES:
        lines.append(f"how often each error occurred is estimated from {_EXAMINED_FAILURES:,} failures")
    tables = ([_percentiles(ran)] if ran else []) + ([_errors(failures)] if failures else [])
    return Summary(lines, tables)


def _counts(tally: Tally, elapsed: float) -> list[str]:
    pulled = tally.succeeded + tally.failed + tally.pending + tally.running
    counts = [f"{tally.succeeded:,} succeeded", f"{tally.failed:,} failed", f"{tally.pending:,} pending"]
    if tally.running:
        counts.append(f"{tally.running:,} running")
    more = [_number(tally.retries, "retry", "retries")]
    if tally.replayed:
        more.append(f"{tally.replayed:,} from the journal")
    if tally.total is not None and tally.total > pulled:
        more.append(f"{tally.total - pulled:,} not pulled")
    return [f"{_number(pulled, 'job', 'jobs')} in {elapsed:,.2f} s: {', '.join(counts)}", ", ".join(more)]


def _groups(groups: Sequence[Hashable]) -> str:
    names = ", ".join(line_of(group) for group in groups[:_SHOWN_GROUPS])
    if len(groups) > _SHOWN_GROUPS:
        names += ", …"
    return _cut(f"{_number(len(groups), 'group', 'groups')} stayed down: {names}", _WIDTH)


def _number(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"


def _percentiles(ran: Sequence[Success[object, object] | Failure[object]]) -> Table:
    attempts = sorted(outcome.attempts for outcome in ran)
    seconds = sorted(outcome.elapsed for outcome in ran)
    return Table(
        "<>>>",
        [
            ("per finished job", "p50", "p95", "max"),
            ("attempts", *(f"{nearest_rank(attempts, percent):,}" for percent in _PERCENTS)),
            ("seconds", *(f"{nearest_rank(seconds, percent):,.2f}" for percent in _PERCENTS)),
        ],
    )


def nearest_rank(values: Sequence[N], percent: int) -> N:
    """Return the smallest of the sorted values that is at least as large as `percent` percent of them."""
    # Integer arithmetic has no rounding errors.
    return values[-(-percent * len(values) // 100) - 1]


class _ErrorKind:
    """Errors with the same text, apart from the variable parts."""

    __slots__ = ("count", "index", "text")

    def __init__(self, index: int, text: str) -> None:
        self.count = 0
        # The index of one of the jobs.
        self.index = index
        self.text = text


def _errors(failures: Sequence[Failure[object]]) -> Table:
    examined = failures
    if len(failures) > _EXAMINED_FAILURES:
        # A fixed seed makes two summaries of the same report identical.
        examined = Random(0).sample(failures, _EXAMINED_FAILURES)  # noqa: S311 - not for cryptography
    # The sort is stable: among equally frequent errors, the one that occurred first comes first.
    ranked = sorted(_kinds(examined), key=lambda kind: kind.count, reverse=True)
    scale = len(failures) / len(examined)
    rows = [
        (f"{kind.count * scale:,.0f}", str(kind.index), _cut(kind.text, _ERROR_WIDTH))
        for kind in ranked[:_SHOWN_ERRORS]
    ]
    if others := ranked[_SHOWN_ERRORS:]:
        rows.append((f"{sum(kind.count for kind in others) * scale:,.0f}", "", "other errors"))
    return Table(">><", [("failed", "e.g. index", "error"), *rows])


def _kinds(failures: Sequence[Failure[object]]) -> list[_ErrorKind]:
    kinds: dict[str, _ErrorKind] = {}
    for failure in failures:
        name = printable(type_name_of(type(failure.error)))
        text = error_text(failure.error, join_lines=True)
        masked = name + re.sub(_VARYING, "…", text[len(name) :])
        kind = kinds.setdefault(masked, _ErrorKind(failure.index, text))
        kind.count += 1
        if kind.text != text:
            kind.text = masked
    return list(kinds.values())


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"
