"""Runnable examples. They need aiohttp and tqdm: pip install "aiosupervise[aiohttp,tqdm]"."""

# First of all, for its ImportError: it gives the install command where aiohttp is missing.
import aiosupervise.integrations.aiohttp  # noqa: F401
