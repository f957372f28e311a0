"""A call, promise by promise."""
