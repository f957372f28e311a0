"""The whole decision, classification included, in the shortest form that a table of cases can be written in."""

from typing import TypeAlias

from aiosupervise import Policy, Reason
from aiosupervise._policy.classify import classify
from aiosupervise._policy.decide import Stop
from aiosupervise._policy.decide import decide as decide_on

Outcome: TypeAlias = float | Reason | None
"""The seconds until the retry, the reason to give up, or None for an error that passes through."""


def decide(policy: Policy, error: Exception, attempts: int, elapsed: float) -> Outcome:
    """Decide what follows from `error`, which ended attempt number `attempts` after `elapsed` seconds of the call."""
    decision = decide_on(policy, error, classify(policy, error), attempts, elapsed)
    match decision:
        case float():
            return decision
        case Stop():
            return decision.reason
        case _:
            return None
