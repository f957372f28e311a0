"""Integrations with third-party libraries, one module each, named after the library."""
