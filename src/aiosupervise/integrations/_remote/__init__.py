"""The common part of engines that run a batch in other processes, regardless of how those processes are started.

On the driver: `chunk_builder` and `outcome_recorder`, on top of `chunk`. On a worker: `worker_runs`, on top of
`worker_run` and `chunk_source`. Between them: `messages` and `serialization`, which both halves import.
"""
