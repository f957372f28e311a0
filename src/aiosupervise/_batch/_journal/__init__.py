"""The journal: a file of results from which a run resumes after a crash.

Imports point one way: `replay, journal -> session -> writer -> store -> lock, rows`. These modules share `keys` and
`values`.
"""
