"""Events: the records, the listeners and the log."""
