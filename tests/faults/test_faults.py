"""Real faults on real sockets: each kind alone, then all at random while the server is killed and started again.

Every attempt is known from both ends: the server logs each fault to a file before it happens, the client records how
each attempt ended. At the end the two records must agree.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from aiosupervise import Backoff, Failure, Outcome, Pending, Policy, Reason, Run, Success, map_all, supervise
from aiosupervise._batch.strategies import StrategyName
from aiosupervise.integrations.aiohttp import is_transient

from .server import Draw, Fault, ServerProcess, draw_from, page, serving

pytestmark = pytest.mark.slow

PATIENCE = 0.25
POLICY = Policy(retry_on=is_transient, backoff=[0.0], attempt_timeout=2 * PATIENCE)
# A server takes its time to start again: the backoff must bridge that, however slow the machine.
PATIENT = POLICY.replace(max_retries=None, backoff=Backoff(cap=0.5), deadline=120.0)

TIMED_OUT = (TimeoutError, asyncio.CancelledError)  # a function sees the timeout of its attempt as a cancel
LOST = (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError)
# What aiohttp raises, the usual error first; the others come where packets or timers meet otherwise.
RAISED: dict[Fault, tuple[type[BaseException], ...]] = {
    Fault.RESET: (aiohttp.ClientOSError,),
    Fault.RESET_IN_BODY: (aiohttp.ClientPayloadError, aiohttp.ClientOSError),
    Fault.STALL: (aiohttp.SocketTimeoutError, *TIMED_OUT),
    Fault.STALL_IN_BODY: (aiohttp.SocketTimeoutError, *TIMED_OUT),
    Fault.TRUNCATE: (aiohttp.ClientPayloadError,),
    Fault.HALF_CLOSE_IN_HEADERS: (aiohttp.ServerDisconnectedError,),
    Fault.HALF_CLOSE_IN_BODY: (aiohttp.ClientPayloadError,),
    Fault.GARBAGE: (aiohttp.ClientResponseError,),
    # aiohttp 3.14 waits on and on for the rest of such a body, in spite of sock_read.
    Fault.GARBAGE_IN_BODY: (*TIMED_OUT, aiohttp.ClientResponseError, aiohttp.ClientPayloadError),
    Fault.BUSY: (aiohttp.ClientResponseError,),
}
STRATEGIES: tuple[StrategyName, ...] = ("gather", "as_completed", "wait")
WAYS = [
    (strategy, streamed, policy)
    for strategy in STRATEGIES
    for streamed in (True, False)
    for policy in (PATIENT, PATIENT.replace(max_retries=1))
]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Try every way to run a batch, each with a seed of its own; ordinarily two of them."""
    if "streamed" in metafunc.fixturenames:
        ways = WAYS if metafunc.config.getoption("--thorough") else [WAYS[3], WAYS[4]]
        ids = [
            f"{strategy}, {'streamed' if streamed else 'awaited'}, {'one retry' if policy.max_retries else 'patient'}"
            for strategy, streamed, policy in ways
        ]
        cases = [(*way, WAYS.index(way)) for way in ways]
        metafunc.parametrize(("strategy", "streamed", "policy", "seed"), cases, ids=ids)


class Client:
    """Fetches the pages of jobs, and remembers what became of each attempt."""

    def __init__(self, session: aiohttp.ClientSession, policy: Policy, kill_at: int = 0) -> None:
        self.attempts: Counter[int] = Counter()
        self.errors: dict[tuple[int, int], type[BaseException]] = {}
        self.lost: set[tuple[int, int]] = set()  # attempts that failed while the server was down
        self.server_is_down = False
        self.time_to_kill = asyncio.Event()
        self.port = 0
        self.fetch = supervise(policy)(self._fetch)
        self._session = session
        self._kill_at = kill_at
        self._ended = 0

    async def _fetch(self, job: int) -> str:
        self.attempts[job] += 1
        attempt = self.attempts[job]
        try:
            # aiohttp sends a GET again by itself where a connection breaks; here each attempt is to be one request.
            async with self._session.post(f"http://127.0.0.1:{self.port}/{job}/{attempt}") as response:
                response.raise_for_status()
                text = await response.text()
        except BaseException as error:
            self.errors[job, attempt] = type(error)
            if self.server_is_down and isinstance(error, LOST):
                self.lost.add((job, attempt))
            raise
        finally:  # on a slow machine most attempts may fail
            self._ended += 1
            if self._ended == self._kill_at:
                self.time_to_kill.set()
        return text


@asynccontextmanager
async def client(policy: Policy, kill_at: int = 0) -> AsyncIterator[Client]:
    """A client that leaves no task behind."""
    before = asyncio.all_tasks()
    assert policy.attempt_timeout is not None
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(sock_read=policy.attempt_timeout / 2)) as session:
        yield Client(session, policy, kill_at)
    assert asyncio.all_tasks() == before


# Each fault alone


def policy_for(fault: Fault) -> Policy:
    """Be patient, so that a slow machine adds no fault of its own: most where the fault itself takes no time."""
    return POLICY.replace(attempt_timeout=2.0 if TimeoutError in RAISED[fault] else 50.0)


def always(fault: Fault) -> Draw:
    """A server on which every attempt fails."""
    return lambda _job, _attempt: fault


def as_often_as_its_number(fault: Fault) -> Draw:
    """A server on which the attempts of a job fail as often as the job's number says."""
    return lambda job, attempt: fault if attempt <= job else None


@pytest.mark.parametrize("fault", Fault, ids=lambda fault: fault.value)
async def test_a_fault_is_retried_until_it_is_over(fault: Fault, counts: Counter[str]) -> None:
    """A fault of the first attempt, or of the first two, costs just these: the next attempt brings the page."""
    met: Counter[Fault] = Counter()
    async with (
        client(policy_for(fault)) as fetcher,
        serving(as_often_as_its_number(fault), lambda _job, _attempt, fault: met.update([fault])) as port,
    ):
        fetcher.port = port
        report = await map_all(fetcher.fetch, range(3))
    assert report.values() == [page(0), page(1), page(2)]
    assert [success.attempts for success in report.succeeded] == [1, 2, 3]
    assert met == {fault: 3}
    counts[f"faults: {fault.value}"] += met[fault]


@pytest.mark.parametrize("fault", Fault, ids=lambda fault: fault.value)
async def test_a_fault_without_retries_is_aiohttps_own_error(fault: Fault, counts: Counter[str]) -> None:
    """Without retries the failure holds what aiohttp raised, and is_transient finds it worth another try."""
    met: Counter[Fault] = Counter()
    async with (
        client(policy_for(fault).replace(max_retries=0)) as fetcher,
        serving(always(fault), lambda _job, _attempt, fault: met.update([fault])) as port,
    ):
        fetcher.port = port
        [failure] = await map_all(fetcher.fetch, [0])
    assert isinstance(failure, Failure)
    assert isinstance(failure.error, Exception)
    assert isinstance(failure.error, RAISED[fault][0])
    assert (failure.attempts, failure.reason) == (1, Reason.EXHAUSTED)
    assert is_transient(failure.error) is True
    assert met == {fault: 1}
    counts[f"faults: {fault.value}"] += met[fault]


# All of them at random, in a server that is killed


async def kill_and_restart(server: ServerProcess, fetcher: Client, run: Run[str, int]) -> None:
    """Kill the server when half as many attempts have ended as there are jobs, and start it again on its port."""
    await fetcher.time_to_kill.wait()
    assert run.tally.running > 0
    fetcher.server_is_down = True
    await server.kill()
    await server.start()
    for _ in range(100):  # turns of the loop, in which the last refusals reach their jobs
        await asyncio.sleep(0)
    fetcher.server_is_down = False


async def outcomes_of(run: Run[str, int], *, streamed: bool) -> list[Outcome[str, int]]:
    """All outcomes of a run, however they are asked for."""
    if not streamed:
        return list(await run)
    async with run:
        return [outcome async for outcome in run]


async def run_through_a_kill(
    server: ServerProcess, fetcher: Client, run: Run[str, int], *, streamed: bool
) -> list[Outcome[str, int]]:
    """Start the server, run the batch, kill the server meanwhile; whatever happens, no process is left."""
    try:
        await server.start()
        fetcher.port = server.port
        async with asyncio.TaskGroup() as group:
            group.create_task(kill_and_restart(server, fetcher, run))
            return await outcomes_of(run, streamed=streamed)
    finally:
        assert await server.stop() == 0


def check_outcomes(outcomes: list[Outcome[str, int]], fetcher: Client, jobs: int) -> None:
    """Every job has one outcome, with its own page or an error that was worth more tries than there were."""
    assert sorted(outcome.index for outcome in outcomes) == list(range(jobs))
    for outcome in outcomes:
        assert not isinstance(outcome, Pending)
        assert outcome.index == outcome.input
        assert outcome.attempts == fetcher.attempts[outcome.input]
        if isinstance(outcome, Success):
            assert outcome.value == page(outcome.input)
        else:
            assert isinstance(outcome.error, (*LOST, TimeoutError, aiohttp.ClientResponseError))
            assert outcome.reason is Reason.EXHAUSTED


def check_attempts(fetcher: Client, faults: dict[tuple[int, int], Fault], draw: Draw) -> Counter[str]:
    """The log of the server agrees with the client, except for the effects of the kill or of a slow machine."""
    assert set(faults) <= set(fetcher.errors), "a fault was not noticed"
    assert all(draw(*attempt) is fault for attempt, fault in faults.items())
    found: Counter[str] = Counter()
    for attempt, error in fetcher.errors.items():
        fault = faults.get(attempt)
        if fault is not None and issubclass(error, RAISED[fault]):
            found[fault.value] += 1
        elif attempt in fetcher.lost:
            found["refused or lost while the server was killed"] += 1
        else:
            assert issubclass(error, TIMED_OUT), (attempt, fault, error)
            found["timed out, though no fault was injected"] += 1
    return found


async def test_a_server_killed_in_the_middle_of_a_run(
    *,
    strategy: StrategyName,
    streamed: bool,
    policy: Policy,
    seed: int,
    tmp_path: Path,
    thorough: bool,
    counts: Counter[str],
) -> None:
    """All faults at random, and a server that dies and comes back: nothing is lost, and patience brings every page."""
    jobs = 2_000 if thorough else 200
    server = ServerProcess(seed, tmp_path / "faults.log")
    async with client(policy, kill_at=jobs // 2) as fetcher:
        run = map_all(fetcher.fetch, range(jobs), strategy=strategy)
        outcomes = await run_through_a_kill(server, fetcher, run, streamed=streamed)
    check_outcomes(outcomes, fetcher, jobs)
    found = check_attempts(fetcher, server.faults(), draw_from(seed))
    assert found["refused or lost while the server was killed"] > 0
    assert run.tally.retries == fetcher.attempts.total() - jobs
    if policy is PATIENT:
        assert run.tally.succeeded == jobs
        assert fetcher.attempts.total() == jobs + found.total()
    else:
        assert run.tally.failed > 0
    counts["faults: server killed and restarted"] += 1
    counts["faults: jobs run through a kill"] += jobs
    counts["faults: jobs given up, one retry being too few"] += run.tally.failed
    counts.update({f"faults: {what}": count for what, count in found.items()})
