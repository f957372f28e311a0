"""The groups of a run: `feed -> engine -> registry, job -> group -> schedule, slots -> settings`.

A run with `group_by` has its own feed and engine run. All other parts, from the pump to the strategies, are unaware of
groups.

Theory of operation. An input gets its index and its group when it is pulled. If its group may not start a job now, the
input waits in the queue of the group, and the feed looks ahead in the source for an input whose group may start one. A
group with waiting jobs may start another one when one of its jobs ends, or when its circuit permits it. The group then
enters the schedule, which returns the group with the first input. The cost of a job therefore does not depend on the
number of groups.

Invariants, each with a test:
- Inputs of one group start in input order. Of all inputs that may start, including those pulled next, the first one
  starts.
- A job that waits to retry leaves its slot of the run, and returns before a new job starts. It keeps its slot of the
  group.
- A group without a job and without a waiting input is forgotten, unless it has failed: the 1,000 most recent of the
  failed groups are remembered.
"""
