"""Stages: runs whose inputs are the successes of an earlier run: `source -> feed -> pump`.

Theory of operation. A run that has not started can be the inputs of another, its owner. The owner's pump begins it, and
pulls from it as from an async source: a success becomes a job, any other outcome is handed on. An outcome of the owner
has the index and the input of the first stage, so a job keeps what it came from, its origin, until it ends.

    first stage: outlet -> source -> feed -> engine -> outcome with its origin -> outlet: last stage

The earlier run is a streamed one, whose unread outcomes keep their slots. So a later stage that is slow slows it down.

Laws, each with a test:
- Every input of the first stage has exactly one outcome in the last one, however the stages end.
- Stopping a stage stops the first one: what that has done goes on through all stages. Cancelling a stage cancels those
  before it. A stage whose service stays down starts nothing more, and stops those before it: their values are pending.
- A stage ends after those before it, and takes over their errors.
- Outcomes that the reader cannot get yet never keep the stage from reading one that it can: neither the pending ones
  that come last, nor, in input order, those behind a missing one, since the earlier stages are in input order then.
"""
