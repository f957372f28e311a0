"""The Dask engine.

Imports: `run` -> `poller` -> `chunk_scheduler` -> `worker`; all of them -> `_remote`, which does not depend on Dask.
"""
