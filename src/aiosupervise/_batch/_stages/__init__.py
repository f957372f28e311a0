"""Stages: runs whose inputs are the successes of an earlier run (`earlier_run -> source -> feed -> pump`).

Theory of operation. A run that has not started can be passed as the inputs of another run, its owner. The owner's pump
begins the earlier run, and pulls from it as from an async source: a success becomes a job, and any other outcome is
passed on. An outcome of the owner has the index and the input of the first stage. The success from which a job was
created, its origin, is therefore kept until the job ends.

    first stage: outlet -> source -> feed -> engine -> outcome with its origin -> outlet: last stage

The earlier run is streamed, and its unread outcomes keep their slots, so a slow later stage slows it down.

Invariants, each with a test:
- Every input of the first stage has exactly one outcome in the last stage, however the stages end.
- Stopping a stage stops the first stage; the outcomes of the jobs that it has started still pass through all stages.
  Cancelling a stage also cancels the stages before it. A stage whose service stays down starts no further jobs, and
  stops the stages before it; values that these return after that become pending outcomes.
- A stage ends after the stages before it, and raises their errors.
- Withheld outcomes never prevent a stage from reading an outcome that its own reader can receive. Pending outcomes,
  which are delivered last, occupy no slots. If outcomes are streamed in input order, the earlier stages use input order
  as well. Otherwise later outcomes could occupy all slots before the one for which the reader waits is pulled.
"""
