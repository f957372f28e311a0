"""Converts the payloads that workers return into outcomes, and records each outcome once."""

from __future__ import annotations

from typing import Generic, TypeVar

from aiosupervise._batch.protocol import EngineContext
from aiosupervise._events.outcomes import Failure, I, Outcome, Pending, Success
from aiosupervise._events.records import WorkerLost

from .chunk import Chunk
from .serialization import OutcomePayload, load_error, load_value

T = TypeVar("T")


class OutcomeRecorder(Generic[T, I]):
    """Records the outcomes of one run.

    The outcome of a job may arrive more than once: with the reply to a poll, with the result of its chunk, and from a
    second worker. Only the first of these is recorded.

    Attributes:
        unfinished: the number of jobs without an outcome.
    """

    def __init__(self, context: EngineContext[T, I]) -> None:
        self.unfinished = 0
        self._context = context

    def receive(self, chunk: Chunk[I], worker: str, payloads: list[OutcomePayload]) -> None:
        """Record outcomes of a chunk that a worker has sent."""
        if chunk.jobs and chunk.worker not in ("", worker):
            chunk.restarted = True
            self._context.scope.emit(WorkerLost, chunk.worker, len(chunk.jobs))
        chunk.worker = worker
        for payload in payloads:
            job = chunk.jobs.get(payload[0])
            if job is not None:
                outcome = self._load(chunk, *job, payload)
                # The job is removed only now: if loading its outcome fails, the job still receives one at the end of
                # its chunk.
                del chunk.jobs[payload[0]]
                self._record(outcome)

    def record_pending(self, chunk: Chunk[I]) -> None:
        """Record the unfinished jobs of a chunk as pending."""
        started = chunk.may_have_started
        for index, item in chunk.drain():
            self._record(self._context.pending(item, index, started=started))

    def record_failed(self, chunk: Chunk[I], error: BaseException, elapsed: float) -> None:
        """Record the unfinished jobs of a chunk as failed.

        Args:
            chunk: the chunk.
            error: the error of each job.
            elapsed: seconds since the chunk was sent.

        """
        for index, item in chunk.drain():
            self._record(Failure(index, error, 1, elapsed, None, self._context.job_name(item, index), item))

    def _load(self, chunk: Chunk[I], index: int, item: I, payload: OutcomePayload) -> Outcome[T, I]:
        try:
            return self._outcome(chunk, index, item, payload)
        except BaseException as signal:
            # Exits raised by the objects themselves have been converted, so this is a signal. The outcome is still
            # recorded.
            self._context.fail(signal)
            return self._outcome(chunk, index, item, payload)

    def _outcome(self, chunk: Chunk[I], index: int, item: I, payload: OutcomePayload) -> Outcome[T, I]:
        _, data, description, attempts, elapsed, reason, started = payload
        name = self._context.job_name(item, index)
        error: BaseException | None
        if description is not None:
            error = load_error(data, description, chunk.worker)
        elif data is None:
            return self._context.pending(item, index, started=started or chunk.restarted)
        else:
            value, error = load_value(data)
            if error is None:
                return Success(index, value, attempts, elapsed, name, item)  # type: ignore[arg-type]  # a T was sent
        return Failure(index, error, attempts, elapsed, reason, name, item)

    def _record(self, outcome: Outcome[T, I]) -> None:
        self.unfinished -= 1
        if not isinstance(outcome, Pending):
            self._context.tally.retries += outcome.attempts - 1
        self._context.record(outcome)
