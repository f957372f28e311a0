"""Runnable examples. They need aiohttp, tqdm and rich: pip install "aiosupervise[aiohttp,tqdm,rich]"."""

# First of all, for its ImportError: it gives the install command where aiohttp is missing.
import aiosupervise.integrations.aiohttp  # noqa: F401
