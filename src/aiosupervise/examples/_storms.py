"""What the simulation compares: five tables, each about one kind of trouble."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from aiosupervise import Adaptive, Backoff, Budget, Overload, Policy

from ._play import Batch, Clients, Scenario
from ._service import Broken, Nature, Span, TooMany

PROTECTIONS: Final[Mapping[str, Overload | None]] = {
    "none": None,
    "fails": Overload(when_exhausted="fail"),
    "pauses": Overload(),
}


@dataclass(frozen=True, slots=True)
class Table:
    """What is compared.

    Attributes:
        title: the service, the jobs and their policy, in a line.
        labels: what tells the scenarios apart.
        scenarios: each by its labels.
        pictures: which of them are drawn together, by the name of the picture.

    """

    title: str
    labels: Sequence[str]
    scenarios: Mapping[tuple[str, ...], Scenario]
    pictures: Mapping[str, Sequence[tuple[str, ...]]] = field(default_factory=dict)


def limits() -> Table:
    """Compare how many jobs run at once, when the service has its limit too."""
    policy = Policy(retry_on=Broken, attempt_timeout=1.0)
    choices: Mapping[str, int | Adaptive | None] = {
        "20": 20,
        "100": 100,
        "150": 150,
        "200": 200,
        "250": 250,
        "none": None,
        "Adaptive()": Adaptive(),
    }
    return Table(
        "Too many at once: 2,000 jobs, 3 retries, an attempt may take 1 s; 20 workers, 0.1 s each.",
        ("limit", "overload"),
        {
            (name, protection): Batch(
                jobs=2000, limit=limit, policy=policy, nature=Nature(workers=20), overload=overload
            )
            for name, limit in choices.items()
            for protection, overload in PROTECTIONS.items()
        },
        {"limits": [("250", "none"), ("250", "fails"), ("250", "pauses"), ("Adaptive()", "pauses")]},
    )


def outage() -> Table:
    """Compare what becomes of a batch when the service goes away, and comes back or not."""
    policy = Policy(retry_on=Broken, max_retries=5, backoff=Backoff(base=0.5))
    spans = {"after 10 s": Span(2.0, 12.0), "never": Span(2.0)}
    return Table(
        "An outage: 5,000 jobs, limit 50, 5 retries after up to 0.5 to 20 s; 50 workers, 0.1 s each, down from 2 s on.",
        ("back", "overload"),
        {
            (back, protection): Batch(
                jobs=5000, limit=50, policy=policy, nature=Nature(workers=50, down=span), overload=overload
            )
            for back, span in spans.items()
            for protection, overload in PROTECTIONS.items()
        },
        {"outage": [("after 10 s", protection) for protection in PROTECTIONS]},
    )


def throttled() -> Table:
    """Compare how a batch gets on with a service that lets in only so many."""
    policy = Policy(retry_on=TooMany, max_retries=5)
    choices: Mapping[str, int | Adaptive] = {"100": 100, "Adaptive()": Adaptive()}
    return Table(
        "429: 1,000 jobs, 5 retries; 50 a second are let in, the others are told to wait 1 s.",
        ("limit", "told after", "overload"),
        {
            (name, f"{refusal:g} s", protection): Batch(
                jobs=1000,
                limit=limit,
                policy=policy,
                nature=Nature(workers=50, allowed=50, refusal=refusal),
                overload=overload,
            )
            for name, limit in choices.items()
            for refusal in (0.02, 0.1)
            for protection, overload in PROTECTIONS.items()
        },
        {"throttled": [("100", "0.02 s", "none"), ("100", "0.02 s", "pauses")]},
    )


def clients() -> Table:
    """Compare what clients that know nothing of each other do to a service that was slow for a while."""
    policy = Policy(retry_on=Broken, attempt_timeout=1.0)
    calls = functools.partial(
        Clients, clients=20, rate=7.0, until=70.0, nature=Nature(workers=20, slow=Span(10.0, 20.0))
    )
    scenarios: Mapping[tuple[str, ...], Scenario] = {
        ("no retries",): calls(policy=lambda: policy.replace(max_retries=0)),
        ("3 retries",): calls(policy=lambda: policy),
        ("3 retries, Budget()",): calls(policy=lambda: policy.replace(budget=Budget())),
        # As Finagle has it: a retry for each five calls, and ten a second, of which it keeps those of ten seconds.
        ("3 retries, 20 % and 10 a second",): calls(
            policy=lambda: policy.replace(budget=Budget(500, cost=5, cost_throttled=5, refill=1)), reserve=10.0
        ),
    }
    return Table(
        "Slow: 20 clients, 7 calls a second each; 20 workers, 0.1 s each, 0.5 s between 10 s and 20 s.",
        ("each client",),
        scenarios,
        {"clients": list(scenarios)},
    )


def unlucky() -> Table:
    """Compare what becomes of a batch when the service is well, but for single errors."""
    return Table(
        "Bad luck: 5,000 jobs, limit 100; 100 workers, 0.1 s each.",
        ("errors", "retries", "overload"),
        {
            (f"{part:.0%}", str(retries), protection): Batch(
                jobs=5000,
                limit=100,
                policy=Policy(retry_on=Broken, max_retries=retries),
                nature=Nature(workers=100, unlucky=part),
                overload=PROTECTIONS[protection],
            )
            for part in (0.05, 0.2)
            for retries in (3, 5)
            for protection in ("none", "pauses")
        },
    )


TABLES: Final[Sequence[Callable[[], Table]]] = (limits, outage, throttled, clients, unlucky)
