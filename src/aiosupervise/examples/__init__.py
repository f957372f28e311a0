"""Runnable examples. They need aiohttp, tqdm and rich: pip install "aiosupervise[aiohttp,tqdm,rich]"."""

# Imported first: where aiohttp is missing, its ImportError states the install command.
import aiosupervise.integrations.aiohttp  # noqa: F401
