"""Decisions: which errors to retry, after which delay, and when to give up. Pure: no clock, no asyncio, no I/O."""
