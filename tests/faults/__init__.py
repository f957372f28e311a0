"""Real sockets, real processes, real numbers."""
