"""The groups of a run: `feed -> engine -> registry, job -> group -> schedule, slots -> settings`.

A run with `group_by` has a feed and an engine run of its own. Everything else, from the pump to the strategies, does
not know of groups.

Theory of operation. An input gets its index and its group when it is pulled. If its group may start no job now, the
input waits in the queue of the group, and the feed looks ahead in the source for one whose group may. A group whose
jobs wait may start one again when one of its jobs ends, or when its circuit says so: then it enters the schedule, which
knows the group with the first input. So the cost of a job does not depend on the number of groups.

Laws, each with a test:
- Inputs of one group start in input order. Of all that may start, the first does, those included that are pulled next.
- A job that waits to retry has left its slot of the run, and comes back before a new job starts. It keeps its slot of
  the group.
- A group without a job and without a waiting input is forgotten, unless it has failed: of these the last 1,000 are
  remembered.
"""
