"""The whole decision: an error is judged, and then it is decided what follows."""

from aiosupervise import Policy
from aiosupervise._policy import Decision, judge
from aiosupervise._policy import decide as decide_on


def decide(policy: Policy, error: Exception, attempts: int, elapsed: float) -> Decision:
    """Decide what follows from `error`, which ended attempt number `attempts` after `elapsed` seconds of the call."""
    return decide_on(policy, error, judge(policy, error), attempts, elapsed)
