"""One model, one thread, many askers: questions that fit together go through the network as one batch.

While the model works, questions collect. The oldest is taken next, and with it all that ask the same image
with the same options: they differ in their phrases and thresholds alone.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from conceptseg.errors import ConceptSegError
from conceptseg.result import Result
from conceptseg.segmenter import PAIRS_AT_ONCE, EncodedImage, Segmenter
from conceptseg.serving.metrics import Metrics

T = TypeVar("T")


@dataclass(frozen=True)
class Question:
    """What is asked of one image, checked so far that it can be joined with others."""

    image: EncodedImage
    phrases: list[str]
    thresholds: list[float]  # one per phrase
    options: dict[str, Any]  # boxes, labels, exemplar, presence, dedupe, max_instances
    fits: Hashable  # questions with the same value go together


@dataclass
class _Job:
    work: str  # for metrics
    run: Callable[[], Any] | None  # None: a question
    question: Question | None
    answer: asyncio.Future[Any] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Batcher:
    """Runs the model in one thread of its own."""

    def __init__(self, segmenter: Segmenter, metrics: Metrics) -> None:
        self._segmenter = segmenter
        self._metrics = metrics
        self._jobs: deque[_Job] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._worker: asyncio.Task[None] | None = None

    async def run(self, work: str, function: Callable[[], T]) -> T:
        """Call a function of the model, in turn."""
        return await self._answer(_Job(work, function, None))

    async def ask(self, question: Question) -> list[Result]:
        """One result per phrase.

        Raises:
            ConceptSegError: what this question alone would raise.
        """
        results: list[Result] = await self._answer(_Job("segment", None, question))
        return results

    async def close(self) -> None:
        """Finish what was begun or waits, and let the thread go."""
        while self._worker is not None:
            await self._worker
        self._thread.shutdown()

    async def _answer(self, job: _Job) -> Any:
        self._jobs.append(job)
        if self._worker is None:
            self._worker = asyncio.ensure_future(self._work())
        return await job.answer

    async def _work(self) -> None:
        while self._jobs:
            jobs = self._next()
            if jobs:
                await self._finish(jobs)
        self._worker = None

    def _next(self) -> list[_Job]:
        """The oldest job, with the questions that fit it; those whose asker has given up are dropped."""
        first = self._jobs.popleft()
        if first.answer.done():
            return []
        if first.question is None:
            return [first]
        jobs, phrases, left = [first], len(first.question.phrases), []
        for job in self._jobs:
            other = job.question
            if (
                other is not None
                and not job.answer.done()
                and other.fits == first.question.fits
                and phrases + len(other.phrases) <= PAIRS_AT_ONCE
            ):
                jobs.append(job)
                phrases += len(other.phrases)
            else:
                left.append(job)
        self._jobs = deque(left)
        return jobs

    async def _finish(self, jobs: list[_Job]) -> None:
        questions = [job.question for job in jobs if job.question is not None]
        if questions:
            self._metrics.batch_phrases.observe(sum(len(question.phrases) for question in questions))
        begun = time.perf_counter()
        try:
            answers = await asyncio.get_running_loop().run_in_executor(
                self._thread, self._compute, jobs[0].run, questions
            )
        except ConceptSegError as error:
            if len(jobs) == 1:
                _set(jobs[0], error=error)
                return
            for job in jobs:  # one of them is wrong, and only that one is to hear of it
                await self._finish([job])
            return
        except Exception as error:
            for job in jobs:
                _set(job, error=error)
            return
        self._metrics.model_seconds.labels(jobs[0].work).observe(time.perf_counter() - begun)
        for job, answer in zip(jobs, answers, strict=True):
            _set(job, answer)

    def _compute(self, run: Callable[[], Any] | None, questions: list[Question]) -> list[Any]:
        if run is not None:
            return [run()]
        results = self._segmenter.segment(
            questions[0].image,
            [phrase for question in questions for phrase in question.phrases],
            threshold=[threshold for question in questions for threshold in question.thresholds],
            **questions[0].options,
        )
        each = iter(results)
        return [[next(each) for _ in question.phrases] for question in questions]


def _set(job: _Job, answer: Any = None, error: Exception | None = None) -> None:
    if job.answer.done():  # the asker has given up
        return
    if error is not None:
        job.answer.set_exception(error)
    else:
        job.answer.set_result(answer)
