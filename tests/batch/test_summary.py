"""The summary of a report: what it says, how long it is, and what it does not show."""

import asyncio
import math
import random
import time
from collections.abc import Sequence
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiosupervise import Failure, Outcome, Pending, Report, Run, Stopped, Success, Tally, map_all, run_all, supervise
from aiosupervise._batch import summary
from aiosupervise._batch.summary import nearest_rank

MARKER = "hunter2"


def report_of(
    outcomes: Sequence[Outcome[Any, Any]], *, elapsed: float = 1.5, stopped: Stopped | None = None, **counts: Any
) -> Report[Any, Any]:
    """A report of these outcomes, with their counts."""
    tally = Tally(total=None, limit=None)
    for outcome in outcomes:
        tally.count(outcome)
    for name, value in counts.items():
        setattr(tally, name, value)
    return Report(outcomes, tally, elapsed, stopped)


def failed(*errors: BaseException) -> list[Failure[None]]:
    """A failure for each error."""
    return [Failure(index, error, 1, 0.25, None) for index, error in enumerate(errors)]


def errors_of(report: Report[Any, Any]) -> list[str]:
    """The lines below the titles of the table of errors."""
    *_, table = report.summary().split("\n\n")
    titles, *lines = table.splitlines()
    assert titles.split("  ")[-1] == "error"
    return lines


# What it says


@pytest.mark.looptime
async def test_the_summary_of_a_run() -> None:
    """Counts, retries and seconds, why it stopped, percentiles, and each error with one index."""

    @supervise(retry_on=ConnectionError, max_retries=2, backoff=[1])
    async def fetch(page: int) -> int:
        if page % 10 == 3:
            raise ConnectionError(f"connection {page} was refused")
        if page == 5:
            raise LookupError("no such page")
        await asyncio.sleep(page / 10)
        return page

    report = await map_all(fetch, [*range(20), 999], timeout=3)
    assert (
        report.summary()
        == """\
21 jobs in 3.00 s: 17 succeeded, 3 failed, 1 pending
4 retries
stopped: timeout

per finished job   p50   p95   max
attempts             1     3     3
seconds           1.00  2.00  2.00

failed  e.g. index  error
     2           3  ConnectionError: connection … was refused
     1           5  LookupError: no such page"""
    )


@pytest.mark.looptime
async def test_the_summary_of_success() -> None:
    """If nothing failed, there is no table of errors."""

    async def job() -> None:
        await asyncio.sleep(0.5)

    assert (
        (await run_all([job])).summary()
        == """\
1 job in 0.50 s: 1 succeeded, 0 failed, 0 pending
0 retries

per finished job   p50   p95   max
attempts             1     1     1
seconds           0.50  0.50  0.50"""
    )


@pytest.mark.looptime
async def test_the_summary_of_nothing() -> None:
    """A run of no jobs, and one that has not started, have counts and nothing else."""
    text = "0 jobs in 0.00 s: 0 succeeded, 0 failed, 0 pending\n0 retries"
    assert (await run_all([])).summary() == text
    run: Run[None] = run_all([])
    assert run.report.summary() == text
    run.close()


@pytest.mark.looptime
async def test_the_summary_of_a_run_that_goes_on() -> None:
    """It counts what is running, and what was not pulled yet."""
    task = asyncio.ensure_future(run := map_all(asyncio.sleep, [1, 5, 5, 5], limit=2))
    await asyncio.sleep(1.5)
    assert run.report.summary().splitlines()[:2] == [
        "3 jobs in 1.50 s: 1 succeeded, 0 failed, 0 pending, 2 running",
        "0 retries, 1 not pulled",
    ]
    await task


@pytest.mark.looptime
async def test_the_summary_of_a_range_that_was_not_used_up() -> None:
    """Items that were never pulled from a source other than a list have no outcome, but are counted."""
    report = await map_all(asyncio.sleep, range(1, 9), limit=2, timeout=1)
    assert report.summary().splitlines()[:3] == [
        "2 jobs in 1.00 s: 1 succeeded, 0 failed, 1 pending",
        "0 retries, 6 not pulled",
        "stopped: timeout",
    ]


@pytest.mark.looptime
async def test_the_summary_of_a_streamed_run() -> None:
    """The counts are complete; percentiles and errors are those of the outcomes that nobody has read."""

    async def divide(number: int) -> float:
        await asyncio.sleep(number)
        return 1 / number

    async with map_all(divide, [0, 1, 2, 3, 4], strategy="as_completed") as run:
        async for _ in run:
            if run.tally.succeeded == 2:
                run.stop()
                break
    assert (
        run.report.summary()
        == """\
5 jobs in 2.00 s: 2 succeeded, 1 failed, 2 pending
0 retries
stopped: stop() was called
the figures below are without the outcomes that were read before: 3"""
    )


def test_large_numbers() -> None:
    """Thousands are separated, and one of a thing is not several."""
    report = report_of([Success(1234, None, 1000, 12345.678)], elapsed=99999, succeeded=1234567, retries=1, running=2)
    assert (
        report.summary()
        == """\
1,234,569 jobs in 99,999.00 s: 1,234,567 succeeded, 0 failed, 0 pending, 2 running
1 retry
the figures below are without the outcomes that were read before: 1,234,566

per finished job        p50        p95        max
attempts              1,000      1,000      1,000
seconds           12,345.68  12,345.68  12,345.68"""
    )


@pytest.mark.parametrize("read", [0, 1])
def test_the_summary_mentions_outcomes_that_were_read(read: int) -> None:
    """This includes a single outcome."""
    text = report_of([Success(0, None, 1, 0.5)], succeeded=1 + read).summary()
    assert ("the outcomes that were read before: 1" in text) is (read == 1)


def test_replayed_jobs() -> None:
    """Results from the journal are counted; their attempts and seconds are those of another run."""
    outcomes: list[Outcome[int]] = [Success(0, 1, 9, 99.0, replayed=True), Success(1, 1, 2, 0.25)]
    assert (
        report_of(outcomes).summary()
        == """\
2 jobs in 1.50 s: 2 succeeded, 0 failed, 0 pending
0 retries, 1 from the journal

per finished job   p50   p95   max
attempts             2     2     2
seconds           0.25  0.25  0.25"""
    )
    assert "per finished job" not in report_of(outcomes[:1]).summary()


@pytest.mark.parametrize("stopped", Stopped)
def test_every_reason_to_stop(stopped: Stopped) -> None:
    """The reason is shown in words."""
    assert report_of([Pending(0, None, started=False)], stopped=stopped).summary().endswith(f"stopped: {stopped.value}")


@pytest.mark.looptime
async def test_groups_that_stayed_down() -> None:
    """A run that goes on without a group names it."""

    @supervise(retry_on=ConnectionError, max_retries=3, backoff=[0.1])
    async def fetch(url: str) -> str:
        await asyncio.sleep(0.1)
        if url.startswith("dead"):
            raise ConnectionError("refused")
        return url

    def host_of(url: str) -> str:
        return url.partition("/")[0]

    urls = [f"{host}/{page}" for page in range(200) for host in ("dead.example", "live.example")]
    report = await map_all(fetch, urls, group_by=host_of)
    assert report.stopped_groups == ("dead.example",)
    assert report.summary().splitlines()[2:4] == ["1 group stayed down: dead.example", ""]


def test_many_groups() -> None:
    """Their number is complete, their names are cut at the end of the line, and are printable."""
    groups = [f"host-{n}.example.org\n" for n in range(1000)]
    report: Report[int] = Report([], Tally(total=None, limit=None), 1.0, None, groups)
    *_, line = report.summary().splitlines()
    assert line.startswith("1,000 groups stayed down: host-0.example.org\\n, host-1.example.org\\n, ")
    assert line.endswith("…")
    assert len(line) == 80


@pytest.mark.parametrize(("count", "end"), [(10, "8, 9"), (11, "8, 9, …")])
def test_ten_groups_are_named(count: int, end: str) -> None:
    """An ellipsis stands for the others, even if the line has room for them."""
    report: Report[int] = Report([], Tally(total=None, limit=None), 1.0, None, range(count))
    *_, line = report.summary().splitlines()
    assert line == f"{count} groups stayed down: 0, 1, 2, 3, 4, 5, 6, 7, {end}"


# Percentiles


@given(st.lists(st.integers(0, 99) | st.floats(0, 99), min_size=1), st.integers(1, 100))
def test_a_percentile_is_the_nearest_rank(values: list[float], percent: int) -> None:
    """It is the smallest value that at least this percentage of the values do not exceed."""
    found = nearest_rank(sorted(values), percent)

    def covers(value: float) -> bool:
        return 100 * sum(one <= value for one in values) >= percent * len(values)

    assert found == min(value for value in values if covers(value))


def test_percentiles_of_a_few() -> None:
    """A percentile is always a value that occurred, also where a rank is a whole number."""
    assert [nearest_rank(range(1, 21), percent) for percent in (1, 5, 6, 50, 95, 96, 100)] == [1, 1, 2, 10, 19, 20, 20]
    assert [nearest_rank([7], percent) for percent in (1, 50, 100)] == [7, 7, 7]
    assert nearest_rank([1, 2], 50) == 1
    assert nearest_rank([1, 2, 3], 67) == 3


# Errors


def test_the_most_frequent_errors_come_first() -> None:
    """Five of them, with the index of the first such job, and the others in one line."""
    errors = [ValueError("b"), ValueError("a"), KeyError("c"), ValueError("a"), TimeoutError()]
    errors += [OSError(2, "No such file"), RuntimeError("d"), RuntimeError("e"), RuntimeError("e")]
    assert errors_of(report_of(failed(*errors))) == [
        "     2           1  ValueError: a",
        "     2           7  RuntimeError: e",
        "     1           0  ValueError: b",
        "     1           2  KeyError: 'c'",
        "     1           4  TimeoutError",
        "     2              other errors",
    ]


@pytest.mark.parametrize(
    ("texts", "shown"),
    [
        (["503 from https://example.org/1?token=a", "503 from http://example.org/2"], ["503 from …"]),
        (["url='http://a/b'", "url='http://a/c'"], ["url='…'"]),
        (["line 1 column 17 (char 2000)", "line 22 column 1 (char 5)"], ["line … column … (char …)"]),
        (["after 1.25 s", "after 13.5 s"], ["after … s"]),
        (["status 503", "status 404"], ["status 503", "status 404"]),
        (["port 80: refused", "port 80: refused"], ["port 80: refused"]),
        (["first\n  second 1", "first\n\tsecond 2"], ["first second …"]),
        (["\x1b[31m\x07 1", "\x1b[31m\x07 2"], ["\\x1b[…m\\x07 …"]),
        (["127.0.0.1:8000", "127.0.0.2:8001"], ["…:…"]),
        (["status 503.", "status 503."], ["status 503."]),
        (["Xhttp://a/b", "Xhttp://a/c"], ["X…"]),
    ],
)
def test_errors_that_differ_in_urls_and_numbers_are_one(texts: list[str], shown: list[str]) -> None:
    """Only the differing parts are masked; three digits may be a status code, which distinguishes errors."""
    lines = errors_of(report_of(failed(*map(ValueError, texts))))
    assert [line.partition("ValueError: ")[2] for line in lines] == shown


def test_errors_of_two_classes_are_two() -> None:
    """The class distinguishes errors, and a number in its name does not vary."""
    first, second = type("Http1Error", (Exception,), {}), type("Http2Error", (Exception,), {})
    assert errors_of(report_of(failed(first("x"), second("x"), first("x")))) == [
        "     2           0  Http1Error: x",
        "     1           1  Http2Error: x",
    ]


@pytest.mark.parametrize(("length", "shown"), [(60, "x" * 48), (61, "x" * 47 + "…")])
def test_an_error_has_at_most_sixty_characters(length: int, shown: str) -> None:
    """A longer text ends in an ellipsis."""
    text = "x" * (length - len("ValueError: "))
    assert errors_of(report_of(failed(ValueError(text)))) == [f"     1           0  ValueError: {shown}"]


def test_a_class_with_a_strange_name() -> None:
    """Its unprintable characters are escaped, like those of its text."""
    strange = type("Bad\x1b[2J\nError1", (Exception,), {})
    assert errors_of(report_of(failed(strange("x 1"), strange("x 2")))) == [
        r"     2           0  Bad\x1b[2J\nError1: x …",
    ]


def test_an_error_without_a_readable_text() -> None:
    """An error whose text cannot be made is counted by its class."""

    class MuteError(Exception):
        def __str__(self) -> str:
            raise TypeError

    assert errors_of(report_of(failed(MuteError(), MuteError()))) == [
        "     2           0  MuteError, whose message cannot be read"
    ]


def test_a_group_shows_its_leaves() -> None:
    """An ExceptionGroup says which errors are in it; a CancelledError is an error like any other."""
    group = ExceptionGroup("two", [ValueError("a"), KeyError("b")])
    assert errors_of(report_of(failed(group, asyncio.CancelledError()))) == [
        "     1           0  ExceptionGroup: two (2 sub-exceptions): ValueError: a; KeyE…",
        "     1           1  CancelledError",
    ]


class SecretError(Exception):
    """An error with a secret in its arguments and its repr, and another text."""

    def __init__(self, secret: str, text: str) -> None:
        super().__init__(secret, text)
        self.text = text

    def __str__(self) -> str:
        return self.text


@given(st.lists(st.text(alphabet=st.characters(exclude_characters="h")), min_size=1, max_size=8))
def test_no_secret_is_shown(texts: list[str]) -> None:
    """Neither the repr of an error, nor its notes and arguments, nor names, inputs or values are shown."""
    outcomes: list[Outcome[str, str]] = []
    for index, text in enumerate(texts):
        error = SecretError(MARKER, text)
        error.add_note(MARKER)
        outcomes += [
            Failure(index, error, 1, 0.5, None, MARKER, MARKER),
            Failure(index, ExceptionGroup(text, [error]), 1, 0.5, None, MARKER, MARKER),
            Success(index, MARKER, 1, 0.5, MARKER, MARKER),
            Pending(index, None, started=False, name=MARKER, input=MARKER),
        ]
    report = report_of(outcomes)
    assert MARKER in repr(outcomes[0])
    assert MARKER not in report.summary()
    assert MARKER not in report._repr_html_()


# Its size


@given(st.lists(st.text(), min_size=1, max_size=20))
def test_it_is_bounded(texts: list[str]) -> None:
    """Whatever the errors and groups are called, it has at most 18 lines of at most 80 printable characters."""
    errors = [ValueError(text * 50) for text in texts]
    tally = Tally(9999, None, succeeded=1234, failed=5678, retries=99, replayed=99)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(summary, "_EXAMINED_FAILURES", 2)
        lines = Report(failed(*errors), tally, 99.5, Stopped.PROBES, texts).summary().split("\n")
    assert len(lines) <= 18
    assert max(map(len, lines)) <= 80
    assert all(line.isprintable() for line in lines)


@pytest.fixture
def few_are_examined(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit from which on failures are sampled, without thousands of them."""
    monkeypatch.setattr(summary, "_EXAMINED_FAILURES", 100)


@pytest.mark.usefixtures("few_are_examined")
def test_many_failures_are_sampled() -> None:
    """The numbers are estimates then, which the text says, and the same each time; in sum they are all failures."""
    report = report_of(failed(*(ValueError("a" if n % 4 else "b") for n in range(1000))))
    text = report.summary()
    assert text == report.summary()
    assert "\nhow often each error occurred is estimated from 100 failures\n" in text
    often, rarely = (int(line.split()[0]) for line in errors_of(report))
    assert often + rarely == 1000
    assert 600 < often < 900


@pytest.mark.usefixtures("few_are_examined")
def test_not_so_many_failures_are_counted() -> None:
    """Up to the limit the numbers are exact."""
    report = report_of(failed(*[ValueError("a")] * 75, *[ValueError("b")] * 25))
    assert "estimated" not in report.summary()
    assert [line.split()[:2] for line in errors_of(report)] == [["75", "0"], ["25", "75"]]


@pytest.mark.usefixtures("few_are_examined")
def test_the_other_errors_of_a_sample_are_estimated_too() -> None:
    """The numbers of all lines add up to the number of failures."""
    report = report_of(failed(*(ValueError("abcdefghij"[n % 10]) for n in range(1000))))
    lines = errors_of(report)
    assert lines[-1].endswith("other errors")
    assert sum(int(line.split()[0]) for line in lines) == 1000


@pytest.mark.slow
def test_long_words_are_searched_once() -> None:
    """A text without spaces, such as Base64 in small letters, takes little longer than another one."""

    def seconds(text: str) -> float:
        report = report_of(failed(*[ValueError(text)] * 10_000))
        start = time.process_time()
        report.summary()
        return time.process_time() - start

    assert min(seconds("a" * 300) for _ in range(3)) < 4 * min(seconds("a " * 150) for _ in range(3))


@pytest.mark.slow
def test_a_million_outcomes() -> None:
    """The summary of a million outcomes has as many lines as one of a hundred."""
    million = 1_000_000
    outcomes: list[Outcome[None]] = [
        Success(n, None, 1 + n % 4, random.random())
        if n % 2
        else Failure(n, ConnectionError(f"503, url='http://127.0.0.1:8000/page/{n}'"), 4, n / million, None)
        for n in range(million)
    ]
    lines = report_of(outcomes, elapsed=3600.0).summary().splitlines()
    assert lines[0] == "1,000,000 jobs in 3,600.00 s: 500,000 succeeded, 500,000 failed, 0 pending"
    assert lines[-1].split(maxsplit=2)[::2] == ["500,000", "ConnectionError: 503, url='…'"]
    assert len(lines) == 10
    assert max(map(len, lines)) <= 80


# In logs and in notebooks


def test_str_and_repr_stay_one_line() -> None:
    """As a line of a log needs it."""
    report = report_of(failed(ValueError("a\nb")))
    assert str(report) == repr(report) == "<Report: 0 succeeded, 1 failed, 0 pending, 0 retries, 1.50 s>"


class Page(HTMLParser):
    """The texts of an HTML page, and the tags that were not closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.paragraphs: list[str] = []
        self.cells: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:  # noqa: ARG002 - the parser passes them
        """Open a tag."""
        self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        """Close a tag."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Keep a text."""
        if self.open[-1] == "p":
            self.paragraphs.append(data)
        else:
            self.cells[-1] += data


@given(st.lists(st.text() | st.sampled_from(["<b>", "</td>", "<script>alert(1)</script>", "&amp;", "'\""])))
def test_html_shows_the_same(texts: list[str]) -> None:
    """A notebook shows the same lines and cells, escaped."""
    report = report_of([*failed(*map(ValueError, texts)), Success(9, 1, 1, 0.5)], stopped=Stopped.STOP)
    page = Page()
    page.feed(report._repr_html_())
    page.close()
    assert page.open == []
    lines, *tables = report.summary().split("\n\n")
    assert page.paragraphs == lines.splitlines()
    flat = " ".join(" ".join(tables).split())
    for cell in page.cells:
        assert " ".join(cell.split()) in flat


def test_html_in_full() -> None:
    """Numbers are at the right of their columns, texts at the left."""
    left, right = (f' style="text-align: {side}"' for side in ("left", "right"))
    report = report_of(failed(ValueError("<b>")))
    assert report._repr_html_() == (
        "<p>1 job in 1.50 s: 0 succeeded, 1 failed, 0 pending</p><p>0 retries</p>"
        f"<table><thead><tr><th{left}>per finished job</th>"
        f"<th{right}>p50</th><th{right}>p95</th><th{right}>max</th></tr></thead>"
        f"<tbody><tr><td{left}>attempts</td><td{right}>1</td><td{right}>1</td><td{right}>1</td></tr>"
        f"<tr><td{left}>seconds</td><td{right}>0.25</td><td{right}>0.25</td><td{right}>0.25</td></tr></tbody></table>"
        f"<table><thead><tr><th{right}>failed</th><th{right}>e.g. index</th><th{left}>error</th></tr></thead>"
        f"<tbody><tr><td{right}>1</td><td{right}>0</td><td{left}>ValueError: &lt;b&gt;</td></tr></tbody></table>"
    )


def test_seconds_of_any_size() -> None:
    """A job that took no time and one that took forever are both shown."""
    report = report_of([Success(0, None, 1, 0.0), Success(1, None, 1, math.inf)])
    assert report.summary().splitlines()[-1].split() == ["seconds", "0.00", "inf", "inf"]
