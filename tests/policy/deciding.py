"""The whole decision: an error is classified, and then it is decided what follows."""

from aiosupervise import Policy
from aiosupervise._policy.classify import classify
from aiosupervise._policy.decide import Decision
from aiosupervise._policy.decide import decide as decide_on


def decide(policy: Policy, error: Exception, attempts: int, elapsed: float) -> Decision:
    """Decide what follows from `error`, which ended attempt number `attempts` after `elapsed` seconds of the call."""
    return decide_on(policy, error, classify(policy, error), attempts, elapsed)
