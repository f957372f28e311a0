"""Simulations of a service that is overloaded, down or throttling, in virtual time: the tables of storm.md."""
