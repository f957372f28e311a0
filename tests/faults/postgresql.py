"""A PostgreSQL server of its own for a test, which can be stopped and started again. Not on Windows."""

import asyncio
import os
import pwd
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def binaries() -> Path | None:
    """Return the directory of PostgreSQL's programs, or None where it is not installed."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    found = str(debian[-1]) if debian else shutil.which("initdb")
    return Path(found).resolve().parent if found else None


class PostgreSQL:
    """A cluster in a directory of its own, which listens on a free port of 127.0.0.1."""

    def __init__(self, bin_directory: Path, directory: Path) -> None:
        self._bin = bin_directory
        self._data = directory / "data"
        # PostgreSQL refuses to run as root.
        self._user = "nobody" if os.geteuid() == 0 else None
        if self._user is not None:
            os.chown(directory, pwd.getpwnam(self._user).pw_uid, -1)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]

    async def create(self) -> None:
        """Create the cluster. Whatever it says on a crash is of no interest: nothing is synced to the disk."""
        await self._run("initdb", "--no-sync", "--auth=trust", "--username=test", "--encoding=UTF8", "--locale=C")

    async def start(self) -> None:
        """Start the server, and return when it accepts connections."""
        options = f"-c listen_addresses=127.0.0.1 -c port={self.port} -c unix_socket_directories='' -c fsync=off"
        await self._run("pg_ctl", "start", "-w", "-l", str(self._data / "log"), "-o", options)

    async def stop(self, mode: str) -> None:
        """Stop the server: "fast" ends its sessions in order, "immediate" kills them as a crash would."""
        await self._run("pg_ctl", "stop", "-w", "-m", mode)

    async def _run(self, program: str, *arguments: str) -> None:
        process = await asyncio.create_subprocess_exec(
            self._bin / program,
            *(*arguments, "-D", str(self._data)),
            user=self._user,
            cwd="/",
            stdout=asyncio.subprocess.DEVNULL,  # a pipe would be inherited by the server, and never end
            stderr=asyncio.subprocess.DEVNULL,
        )
        if await process.wait() != 0:
            log = self._data / "log"
            raise RuntimeError(f"{program} failed: {log.read_text() if log.exists() else 'it left no log'}")


@contextmanager
def directory() -> Iterator[Path]:
    """Make a directory that a user other than root may enter, as pytest's own may not."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as made:
        yield Path(made)
