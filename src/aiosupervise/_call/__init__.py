"""A policy applied to one call: the decorator, the retry loop, its limits, `attempt()`."""
