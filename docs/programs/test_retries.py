"""Test a function that retries, without waiting and without a server: `pytest test_retries.py`."""

import asyncio

import pytest

from aiosupervise import map_all, supervise, verdict
from aiosupervise.testing import Faults, no_waiting, script


def client(get):
    """Return the function under test; `get` makes the request."""

    @supervise(retry_on=ConnectionError, max_retries=2)
    async def fetch(city):
        return f"{await get(city)} degrees in {city}"

    return fetch


def test_a_dropped_connection_is_retried():
    get = script(ConnectionError, 21)
    with no_waiting():
        assert asyncio.run(client(get)("Bern")) == "21 degrees in Bern"
    assert len(get.calls) == 2


def test_it_gives_up_after_three_attempts():
    get = script(*[ConnectionError("refused")] * 3)
    with no_waiting(), pytest.raises(ConnectionError, match="refused") as caught:
        asyncio.run(client(get)("Bern"))
    assert verdict(caught.value).attempts == 3


def test_a_batch_survives_an_unreliable_network():
    faults = Faults(0.2, seed=1)
    with no_waiting():
        report = asyncio.run(map_all(client(faults(script(*[21] * 50))), ["Bern"] * 50))
    assert report.ok
