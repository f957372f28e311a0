"""The benchmark's questions, one module each; `ask()` measures and returns the table."""
