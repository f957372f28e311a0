"""Runnable examples. They need aiohttp, tqdm and rich: pip install "aiosupervise[aiohttp,tqdm,rich]"."""

# This import comes first, because its ImportError states the install command if aiohttp is missing.
import aiosupervise.integrations.aiohttp  # noqa: F401
