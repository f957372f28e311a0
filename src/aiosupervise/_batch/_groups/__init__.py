"""The groups of a run: `feed -> engine -> registry -> group -> schedule, slots -> settings`.

A run with `group_by` has its own feed and engine run. All other parts, from the pump to the strategies, are unaware of
groups.

Theory of operation. An input is assigned its index and its group when it is pulled. If the group cannot start a job at
that moment, the input waits in the queue of the group, and the feed looks ahead in the source for an input whose group
may start a job. A group with waiting inputs may start another job when one of its jobs ends, or when its circuit
permits one. The group then enters the schedule, which orders groups by their first waiting input. The cost of a job is
therefore nearly independent of the number of groups.

Invariants, each with a test:
- Inputs of one group start in input order. Of all inputs that may start, the first one in the source starts next, even
  if it has yet to be pulled.
- A job that waits to retry leaves its slot of the run, and gets a slot again before a new job starts. It keeps its slot
  of the group.
- A group is forgotten when it has no jobs and no waiting inputs. Of the groups with failures, the 1,000 that became
  idle most recently are kept.
"""
