"""What happened: records, listeners and the log."""
