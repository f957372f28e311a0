"""What can be read off an installed release, and whether it runs under trio."""

from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module, resources
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from typing import Any

from packaging.requirements import Requirement

from .answers import Library, collected
from .retriers import Retrier
from .runners import Runner


@dataclass(frozen=True, slots=True)
class Release:
    """One installed library."""

    version: str
    python: str
    needs: str
    typed: str
    trio: str


def installed(package: str) -> bool:
    """Return whether such a distribution is installed here."""
    try:
        distribution(package)
    except PackageNotFoundError:
        return False
    return True


def release(library: Library) -> Release:
    """Read the metadata, look for the marker of types, and try a call under trio."""
    found = distribution(library.package)
    requirements = map(Requirement, found.requires or ())
    names = sorted(one.name for one in requirements if one.marker is None or one.marker.evaluate({"extra": ""}))
    typed = (resources.files(import_module(library.module.partition(".")[0])) / "py.typed").is_file()
    return Release(
        found.version,
        found.metadata["Requires-Python"],
        ", ".join(names) or "none",
        "yes" if typed else "no",
        under_trio(library),
    )


def under_trio(library: Library) -> str:
    """Retry a call, or run a batch, in trio.run."""
    if not find_spec("trio"):
        return "not checked"
    result: Any = None
    with collected([]), suppress(Exception):
        result = import_module("trio").run(_use(library))
    return "yes" if result is not None and list(result) == [0, 1, 2] else "no"


def _use(library: Library) -> Callable[[], Coroutine[Any, Any, Any]]:
    failures = [ConnectionError(), ConnectionError()]

    async def job(number: int) -> int:
        return number

    async def call() -> list[int]:
        if failures:
            raise failures.pop()
        return [0, 1, 2]

    async def use() -> Any:
        if isinstance(library, Retrier):
            return await library.retry(call, wait=0.001)()
        assert isinstance(library, Runner)
        return await library.ordered(job, range(3), 3)

    return use
