"""Decides: what to retry, when, and when to give up. Pure: no clock, no asyncio, no I/O."""
