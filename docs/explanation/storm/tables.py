"""The tables of the page, each about one kind of trouble with a service or with the inputs."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from aiosupervise import Adaptive, Backoff, Budget, Overload, Policy

from .scenarios import Batch, Clients, Scenario
from .service import InternalServerError, ServiceModel, Span, TooManyRequests

PROTECTIONS: Final[Mapping[str, Overload | None]] = {
    "none": None,
    "fails": Overload(when_exhausted="fail"),
    "pauses": Overload(),
}


@dataclass(frozen=True, slots=True)
class Table:
    """A table of scenarios.

    Attributes:
        title: the service, the jobs and their policy, in a line.
        labels: the headings of the columns that identify a scenario.
        scenarios: the scenarios by their values in those columns.
        pictures: the scenarios that are drawn together, by the name of the picture.

    """

    title: str
    labels: Sequence[str]
    scenarios: Mapping[tuple[str, ...], Scenario]
    pictures: Mapping[str, Sequence[tuple[str, ...]]] = field(default_factory=dict)


def limits() -> Table:
    """Compare concurrency limits below and above the capacity of the service."""
    policy = Policy(retry_on=InternalServerError, attempt_timeout=1.0)
    choices: Mapping[str, int | Adaptive | None] = {
        **{str(limit): limit for limit in (20, 100, 150, 200, 250)},
        "none": None,
        "Adaptive()": Adaptive(),
    }
    return Table(
        "Concurrency: 2,000 jobs, 3 retries, attempt timeout 1 s; 20 workers, 0.1 s each.",
        ("limit", "overload"),
        {
            (name, protection): Batch(
                jobs=2000, limit=limit, policy=policy, model=ServiceModel(workers=20), overload=overload
            )
            for name, limit in choices.items()
            for protection, overload in PROTECTIONS.items()
        },
        {"limits": [("250", "none"), ("250", "fails"), ("250", "pauses"), ("Adaptive()", "pauses")]},
    )


def outage() -> Table:
    """Compare an outage that ends with one that does not."""
    policy = Policy(retry_on=InternalServerError, max_retries=5, backoff=Backoff(base=0.5))
    spans = {"after 10 s": Span(2.0, 12.0), "never": Span(2.0)}
    return Table(
        "Outage: 5,000 jobs, limit 50, 5 retries after up to 0.5 to 20 s; 50 workers, 0.1 s each, down from 2 s on.",
        ("up again", "overload"),
        {
            (up_again, protection): Batch(
                jobs=5000, limit=50, policy=policy, model=ServiceModel(workers=50, down=span), overload=overload
            )
            for up_again, span in spans.items()
            for protection, overload in PROTECTIONS.items()
        },
        {"outage": [("after 10 s", protection) for protection in PROTECTIONS]},
    )


def rate_limit() -> Table:
    """Compare batches against a service with a rate limit."""
    policy = Policy(retry_on=TooManyRequests, max_retries=5)
    choices: Mapping[str, int | Adaptive] = {"100": 100, "Adaptive()": Adaptive()}
    return Table(
        "429: 1,000 jobs, 5 retries; 50 requests a second are admitted, the others are rejected with a retry-after "
        "of 1 s.",
        ("limit", "rejected after", "overload"),
        {
            (name, f"{seconds:g} s", protection): Batch(
                jobs=1000,
                limit=limit,
                policy=policy,
                model=ServiceModel(workers=50, rate_limit=50, rejection_time=seconds),
                overload=overload,
            )
            for name, limit in choices.items()
            for seconds in (0.02, 0.1)
            for protection, overload in PROTECTIONS.items()
        },
        {"throttled": [("100", "0.02 s", "none"), ("100", "0.02 s", "pauses")]},
    )


def clients() -> Table:
    """Compare the retries of independent clients whose service is slow for a while."""
    policy = Policy(retry_on=InternalServerError, attempt_timeout=1.0)
    calls = functools.partial(
        Clients, clients=20, rate=7.0, until=70.0, model=ServiceModel(workers=20, slow=Span(10.0, 20.0))
    )
    scenarios: Mapping[tuple[str, ...], Scenario] = {
        ("no retries",): calls(policy=lambda: policy.replace(max_retries=0)),
        ("3 retries",): calls(policy=lambda: policy),
        ("3 retries, Budget()",): calls(policy=lambda: policy.replace(budget=Budget())),
        # Finagle's default: one retry for five calls, and ten a second, of which it saves up those of ten seconds.
        ("3 retries, 20 % and 10 a second",): calls(
            policy=lambda: policy.replace(budget=Budget(500, cost=5, cost_throttled=5, refill=1)), reserve=10.0
        ),
    }
    return Table(
        "Slowness: 20 clients, 7 calls a second each; 20 workers, 0.1 s each, 0.5 s between 10 s and 20 s.",
        ("each client",),
        scenarios,
        {"clients": list(scenarios)},
    )


def random_errors() -> Table:
    """Compare batches against a service that is healthy, but for a constant rate of errors."""
    return Table(
        "Random errors: 5,000 jobs, limit 100; 100 workers, 0.1 s each.",
        ("errors", "retries", "overload"),
        {
            (f"{rate:.0%}", str(retries), protection): Batch(
                jobs=5000,
                limit=100,
                policy=Policy(retry_on=InternalServerError, max_retries=retries),
                model=ServiceModel(workers=100, error_rate=rate),
                overload=PROTECTIONS[protection],
            )
            for rate in (0.05, 0.2)
            for retries in (3, 5)
            for protection in ("none", "pauses")
        },
    )


def bad_inputs() -> Table:
    """Compare batches a share of whose inputs always fail, though the service is healthy."""
    shares = (0.01, 0.03, 0.05, 0.1, 0.2, 0.3, 0.45, 0.7)
    places: Mapping[str, tuple[float, bool]] = {
        **{f"{share:.0%}": (share, False) for share in shares},
        "10% in a row": (0.1, True),
    }
    return Table(
        "Inputs that always fail: 2,000 jobs, 3 retries; 100 workers, 0.1 s each.",
        ("bad", "limit", "overload"),
        {
            (name, str(limit), protection): Batch(
                jobs=2000,
                limit=limit,
                policy=Policy(retry_on=InternalServerError),
                model=ServiceModel(workers=100),
                overload=PROTECTIONS[protection],
                bad=round(share * 2000),
                bad_block=block,
            )
            for name, (share, block) in places.items()
            for limit in (5, 100)
            for protection in ("none", "pauses")
        },
    )


def dead_host() -> Table:
    """Compare batches of pages from ten hosts, one of which is dead."""
    return Table(
        "One host of ten is dead: 1,000 pages in random order, 3 retries; 100 workers, 0.1 s each.",
        ("limit", "overload"),
        {
            (str(limit), protection): Batch(
                jobs=1000,
                limit=limit,
                policy=Policy(retry_on=InternalServerError),
                model=ServiceModel(workers=100),
                overload=overload,
                bad=100,
            )
            for limit in (5, 100)
            for protection, overload in PROTECTIONS.items()
        },
    )


def brownout() -> Table:
    """Compare batches against a service half of whose responses are errors."""
    return Table(
        "A brownout, half of the attempts fail: 2,000 jobs, limit 100; 100 workers, 0.1 s each.",
        ("retries", "overload"),
        {
            (str(retries), protection): Batch(
                jobs=2000,
                limit=100,
                policy=Policy(retry_on=InternalServerError, max_retries=retries),
                model=ServiceModel(workers=100, error_rate=0.5),
                overload=overload,
            )
            for retries in (3, 10)
            for protection, overload in PROTECTIONS.items()
        },
    )


def contention() -> Table:
    """Compare transactions that often conflict, paid by the budget of their run or by one of their policy."""
    policy = Policy(retry_on=InternalServerError, max_retries=10)
    choices: Mapping[str, Policy] = {
        "the run's": policy,
        "Budget()": policy.replace(budget=Budget()),
        "Budget(cost=1)": policy.replace(budget=Budget(cost=1)),
    }
    return Table(
        "Contention: 2,000 transactions, limit 50, 10 retries; 50 workers, 0.1 s each.",
        ("conflicts", "budget"),
        {
            (f"{rate:.0%}", name): Batch(
                jobs=2000,
                limit=50,
                policy=choice,
                model=ServiceModel(workers=50, error_rate=rate),
                overload=PROTECTIONS["pauses"],
            )
            for rate in (0.1, 0.3, 0.5)
            for name, choice in choices.items()
        },
    )


TABLES: Final[Sequence[Callable[[], Table]]] = (
    limits,
    outage,
    rate_limit,
    clients,
    random_errors,
    bad_inputs,
    dead_host,
    brownout,
    contention,
)
