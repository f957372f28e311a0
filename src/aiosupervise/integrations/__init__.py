"""What aiosupervise offers for third-party libraries: one module each, named after it."""
