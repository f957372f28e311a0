"""The journal: a file of results, from which a run resumes after it was killed.

Imports point one way: `replay, journal -> session -> writer -> store -> lock, rows`; they use `keys` and `values`.
"""
