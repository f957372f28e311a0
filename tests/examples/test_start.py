"""`python -m aiosupervise`: what a newcomer runs first."""

import importlib.util
import re
import runpy
import sys
from pathlib import Path

import pytest

import aiosupervise.__main__ as start


def test_it_says_what_there_is_to_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It names each example, the service first, in lines of a terminal, and whatever it is given."""
    monkeypatch.delitem(sys.modules, "aiosupervise.__main__")
    monkeypatch.setattr(sys, "argv", ["aiosupervise", "--help"])
    runpy.run_module("aiosupervise", run_name="__main__")
    printed = capsys.readouterr()
    assert printed.out == start.TEXT
    assert printed.err == ""
    assert max(map(len, printed.out.splitlines())) <= 80
    modules = re.findall(r"^  python -m (\S+)$", printed.out, re.MULTILINE)
    assert modules == ["aiosupervise.examples.service", "aiosupervise.examples.fetch"]
    assert all(importlib.util.find_spec(module) for module in modules)


def test_the_page_about_the_examples_begins_with_the_same_one() -> None:
    """The service is the first program there as well."""
    page = (Path(__file__).parents[2] / "docs/reference/examples.md").read_text("utf-8")
    assert re.findall(r"^python -m aiosupervise.examples.(\w+)", page, re.MULTILINE)[0] == "service"
