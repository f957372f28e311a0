"""The journal: a file of results, so that a run which is killed and started again resumes.

Imports point one way: `replay, journal -> session -> writer -> store -> lock`; `keys` and `values` are used by these.
"""
