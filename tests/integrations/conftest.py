"""Shared by the tests: the lines that a terminal shows, a certificate, and a Dask cluster in this process."""

import io
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from distributed import Client, LocalCluster

_CODE = re.compile(r"\x1b\[(\??)([\d;]*)([A-Za-z])|(\r)|(\n)|([^\x1b\r\n]+)")


def seen(written: str) -> list[str]:
    """Give the lines that a terminal shows, of endless height and width; it knows the codes that the bars use."""
    lines, row, column = [""], 0, 0
    for code in _CODE.finditer(written):
        _, number, letter, back, down, text = code.groups()
        if letter == "A":
            row -= int(number or 1)
        elif letter == "K":
            lines[row] = ""
        elif back or down:
            row, column = (row + 1 if down else row), 0
        elif text:
            line = lines[row].ljust(column)
            lines[row], column = line[:column] + text + line[column + len(text) :], column + len(text)
        lines += [""] * (row + 1 - len(lines))
    return [line.rstrip() for line in lines if line.strip()]


@pytest.fixture
def screen() -> Callable[[str], list[str]]:
    """What a terminal shows."""
    return seen


class Terminal(io.StringIO):
    """A file that says that it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


@pytest.fixture
def terminal() -> Terminal:
    """A file that says that it is a terminal."""
    return Terminal()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate that nobody trusts, and its key, in one file."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl, which makes the certificate, is not installed")
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    command = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1"
    subprocess.run([openssl, *command.split(), "-keyout", path, "-out", f"{path}.crt"], check=True, capture_output=True)
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


@pytest.fixture
async def cluster() -> "AsyncIterator[LocalCluster]":
    """A cluster that is all in this process and loop."""
    from distributed import LocalCluster  # noqa: PLC0415 - most of these tests need no cluster

    settings: dict[str, Any] = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": ":0"}
    async with LocalCluster(processes=False, asynchronous=True, **settings) as cluster:
        yield cluster


@pytest.fixture
async def client(cluster: "LocalCluster") -> "AsyncIterator[Client]":
    """A client of that cluster."""
    from distributed import Client  # noqa: PLC0415 - as above

    async with Client(cluster, asynchronous=True, set_as_default=False) as client:
        yield client
