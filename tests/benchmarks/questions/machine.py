"""Where the numbers come from: the machine, the Python, the versions."""

import os
import platform
import sys
import sysconfig
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = (
    "aiosupervise",
    "python-backoff",
    "tenacity",
    "stamina",
    "aiometer",
    "anyio",
    "aiostream",
    "streamable",
    "tqdm",
    "opentelemetry-sdk",
    "distributed",
)


def describe() -> str:
    """The head of the output."""
    return "\n".join(
        [
            f"machine   {processor()}, {os.cpu_count()} CPUs, {platform.platform(terse=True)}{load()}",
            f"python    {platform.python_version()}, {platform.python_compiler()}, {optimised()}",
            *packages(),
            "Ratios are more reliable than times, because the contenders are measured alternately within one run.",
        ]
    )


def processor() -> str:
    """The processor's name, where the system shows it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(iter(models), platform.processor() or platform.machine())


def load() -> str:
    """How busy the machine was before, where the system shows it."""
    return f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""


def optimised() -> str:
    """Whether this Python was built with profile-guided optimisation: it moves the ratios."""
    if sys.platform == "win32":
        return "PGO unknown"
    flags = sysconfig.get_config_var("CONFIG_ARGS") or ""
    return "PGO" if "--enable-optimizations" in flags else "no PGO"


def packages() -> list[str]:
    """A line with the versions of what is installed, and one with what is not."""
    versions = {name: found(name) for name in PACKAGES}
    present = [f"{name} {number}" for name, number in versions.items() if number]
    missing = [name for name, number in versions.items() if not number]
    absent = [f"missing   {', '.join(missing)}: not installed, so their rows are left out"] if missing else []
    return [f"packages  {', '.join(present)}", *absent]


def found(package: str) -> str | None:
    """The installed version; None if there is none."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
