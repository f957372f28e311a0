"""The Dask engine.

Imports point one way: `run -> poller -> chunk_scheduler -> worker`. All of these modules import `_remote`, which does
not depend on Dask.
"""
