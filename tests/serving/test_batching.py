"""Questions that fit go together; each gets its own answer, or its own error."""

import asyncio
import threading

import numpy as np
import pytest

from conceptseg.errors import OptionError
from conceptseg.serving.batching import Batcher, Question
from conceptseg.serving.metrics import Metrics


def question(image, phrase, threshold=0.1, fits="same", **options):
    return Question(image, [phrase], [threshold], options, fits)


def batches(metrics):
    return [
        sample.value
        for metric in metrics.batch_phrases.collect()
        for sample in metric.samples
        if sample.name.endswith(("_count", "_sum"))
    ]


async def ask_while_busy(segmenter, questions):
    """All of them wait while the model's thread is held, so that they are taken together."""
    metrics, gate = Metrics(), threading.Event()
    batcher = Batcher(segmenter, metrics)
    held = asyncio.ensure_future(batcher.run("hold", gate.wait))
    await asyncio.sleep(0)
    waiting = [asyncio.ensure_future(batcher.ask(one)) for one in questions]
    await asyncio.sleep(0)
    gate.set()
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    await held
    await batcher.close()
    return answers, batches(metrics)


def test_compatible_questions_are_one_batch_with_the_answers_of_each_alone(tiny_segmenter, picture):
    image = tiny_segmenter.encode(picture)
    asked = [question(image, "coin"), question(image, "key", 0.2), question(image, "red circle", 0.3)]
    answers, counts = asyncio.run(ask_while_busy(tiny_segmenter, asked))
    assert counts == [1, 3]  # one batch of three phrases
    for (result,), one in zip(answers, asked, strict=True):
        alone = tiny_segmenter.segment(image, one.phrases[0], threshold=one.thresholds[0])
        assert result.phrase == alone.phrase and len(result) == len(alone)
        np.testing.assert_allclose(result.scores, alone.scores, atol=1e-5)


def test_other_options_or_images_are_batches_of_their_own(tiny_segmenter, picture):
    image, other = tiny_segmenter.encode(picture), tiny_segmenter.encode(picture[::-1].copy())
    asked = [question(image, "coin"), question(other, "coin", fits="other"), question(image, "key")]
    _, counts = asyncio.run(ask_while_busy(tiny_segmenter, asked))
    assert counts == [2, 3]


def test_one_wrong_question_does_not_spoil_the_others(tiny_segmenter, picture):
    image = tiny_segmenter.encode(picture)
    answers, _ = asyncio.run(
        ask_while_busy(tiny_segmenter, [question(image, "coin"), question(image, "key", threshold=7)])
    )
    assert answers[0][0].phrase == "coin" and isinstance(answers[1], OptionError)


def test_a_question_nobody_waits_for_is_not_asked(tiny_segmenter, picture):
    image, metrics = tiny_segmenter.encode(picture), Metrics()

    async def use():
        gate = threading.Event()
        batcher = Batcher(tiny_segmenter, metrics)
        held = asyncio.ensure_future(batcher.run("hold", gate.wait))
        waiting = asyncio.ensure_future(batcher.ask(question(image, "coin")))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.sleep(0)
        gate.set()
        await held
        await batcher.close()

    asyncio.run(use())
    assert batches(metrics) == [0, 0]


def test_closing_finishes_what_waits(tiny_segmenter, picture):
    image = tiny_segmenter.encode(picture)

    async def use():
        batcher = Batcher(tiny_segmenter, Metrics())
        waiting = asyncio.ensure_future(batcher.ask(question(image, "coin")))
        await asyncio.sleep(0)
        await batcher.close()
        assert waiting.done()
        return waiting.result()

    assert asyncio.run(use())[0].phrase == "coin"


@pytest.mark.parametrize("phrases", [20])
def test_more_phrases_than_one_forward_takes_are_answered(tiny_segmenter, picture, phrases):
    image = tiny_segmenter.encode(picture)
    asked = [question(image, f"coin {number}") for number in range(phrases)]
    answers, (count, total) = asyncio.run(ask_while_busy(tiny_segmenter, asked))
    assert [answer[0].phrase for answer in answers] == [f"coin {number}" for number in range(phrases)]
    assert (count, total) == (2, phrases)
