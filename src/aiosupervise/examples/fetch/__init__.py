"""The reference example: `python -m aiosupervise.examples.fetch`. The file to copy from is fetch.py."""
