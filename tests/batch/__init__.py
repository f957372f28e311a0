"""A batch, promise by promise."""
