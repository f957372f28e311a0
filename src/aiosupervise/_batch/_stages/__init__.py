"""Stages: runs whose inputs are the successes of an earlier run: `source -> feed -> pump`.

Theory of operation. A run that has not started can be the inputs of another, its owner. The owner's pump begins it, and
pulls from it as from an async source: a success becomes a job, and any other outcome is passed on. An outcome of the
owner has the index and the input of the first stage, so a job keeps the success that it came from, its origin, until it
ends.

    first stage: outlet -> source -> feed -> engine -> outcome with its origin -> outlet: last stage

The earlier run is streamed, and its unread outcomes keep their slots, so a slow later stage slows it down.

Invariants, each with a test:
- Every input of the first stage has exactly one outcome in the last stage, however the stages end.
- Stopping a stage stops the first one; the outcomes so far pass through all stages. Cancelling a stage cancels those
  before it. A stage whose service stays down starts no further jobs, and stops those before it; their values are
  pending.
- A stage ends after those before it, and takes over their errors.
- Withheld outcomes never keep a stage from reading one that the reader can receive: neither the pending ones, which
  come last, nor, in input order, those behind a missing one, because the earlier stages are then in input order as
  well.
"""
