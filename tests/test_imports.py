"""What `import aiosupervise` imports: every program that uses the library pays for it when it starts."""

import json
import subprocess
import sys

ADDED = """
import asyncio, json, sys
before = set(sys.modules)
import aiosupervise
print(json.dumps([name for name in sys.modules if name not in before]))
"""

# With the standard library's own accelerators, whose names differ from one Python to the next.
STANDARD = {"__future__", "bisect", "datetime", "random"}
ACCELERATORS = {"_bisect", "_datetime", "_pydatetime", "_random", "_sha2", "_sha512"}
BACKPORTS = set[str]() if sys.version_info >= (3, 13) else {"typing_extensions"}


def test_an_import_takes_little_from_the_standard_library_and_nothing_from_others() -> None:
    """Beside asyncio and json; `dataclasses`, SQLite, pickle and the extras are imported by those who use them."""
    command = [sys.executable, "-I", "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{ADDED}"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    added = {name for name in json.loads(output) if name.partition(".")[0] != "aiosupervise"}
    assert added - ACCELERATORS <= STANDARD | BACKPORTS


def test_an_import_takes_the_modules_of_no_extra() -> None:
    """Nor those of the journal, the examples, the integrations and the tools for tests."""
    command = [sys.executable, "-I", "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{ADDED}"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    ours = {name.partition(".")[2] for name in json.loads(output) if name.startswith("aiosupervise.")}
    assert {name.partition(".")[0] for name in ours} == {"_batch", "_call", "_events", "_policy", "_supervisor"}
    assert {name for name in ours if name.startswith("_batch._journal.")} == {"_batch._journal.journal"}
