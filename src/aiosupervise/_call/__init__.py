"""A policy applied to one call: the decorator, the retry loop, the limits of an attempt, and `attempt()`."""
