"""Decisions, without a loop."""
