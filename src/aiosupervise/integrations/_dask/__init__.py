"""What talks to Dask.

Imports: `run` -> `poller` -> `chunk_scheduler` -> `worker`; all of them -> `_remote`, which knows nothing of Dask.
"""
