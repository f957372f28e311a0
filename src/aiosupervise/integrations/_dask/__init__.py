"""The Dask engine.

Imports: `run` -> `poller` -> `chunk_scheduler` -> `worker`; all of them -> `_remote`, which knows nothing of Dask.
"""
