"""`Sam3Processor` step by step against `transformers`' processor and model, asked each time with all prompts.

The official predictor keeps a state and adds prompts to it; `transformers` is asked anew with everything that
the state should hold by then. Equal answers mean that the state holds just that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from tokenizers import Tokenizer as FastTokenizer
from tokenizers import models, pre_tokenizers, processors

import conceptseg as cs
from conceptseg.models.config import ModelConfig, PreprocessingConfig
from conceptseg.models.text.tokenizer import END, START, Tokenizer
from conceptseg.segmenter import Segmenter
from tests.parity.cases import CONTEXT, PADDING_LABEL, RESOLUTION, tiny_pair

transformers = pytest.importorskip("transformers")

SIZE_HW = (60, 90)
THRESHOLD = 0.1
WORDS = {"<pad>": 0, START: 1, END: 2, "visual": 42, "red": 7, "coin": 17, "key": 33}

# Pixels x0, y0, x1, y1, and the same as the official processor takes it: centre and size in 0 to 1.
COIN_XYXY, COIN = [9.0, 12.0, 36.0, 42.0], [0.25, 0.45, 0.3, 0.5]
KEY_XYXY, KEY = [54.0, 6.0, 81.0, 30.0], [0.75, 0.3, 0.3, 0.4]


@dataclass
class Reference:
    """`transformers`, asked from scratch each time."""

    model: Any
    processor: Any

    @torch.no_grad()
    def answer(
        self, image: Image.Image, text: str | None, boxes: list[list[float]], labels: list[int]
    ) -> dict[str, torch.Tensor]:
        """Scores, boxes and mask probabilities above the threshold, in the order of the queries."""
        inputs = self.processor(
            images=image,
            text=text,
            # A padded box makes it run the exemplar encoder without any, as the official code does.
            input_boxes=[boxes or [COIN_XYXY]],
            input_boxes_labels=[labels or [PADDING_LABEL]],
            return_tensors="pt",
        )
        output = self.model(
            pixel_values=inputs["pixel_values"],
            # It always pads to 32, more than this model has positions for.
            input_ids=inputs["input_ids"][:, :CONTEXT],
            attention_mask=inputs["attention_mask"][:, :CONTEXT],
            input_boxes=inputs["input_boxes"],
            input_boxes_labels=inputs["input_boxes_labels"],
        )
        (result,) = self.processor.post_process_instance_segmentation(
            output, threshold=THRESHOLD, target_sizes=[SIZE_HW]
        )
        scores = output.pred_logits[0].sigmoid() * output.presence_logits[0].sigmoid()
        logits = output.pred_masks[:, scores > THRESHOLD]
        # Resized before the sigmoid: the order of the official code.
        result["masks_logits"] = F.interpolate(logits, SIZE_HW, mode="bilinear")[0].sigmoid()
        return result


@pytest.fixture(scope="module")
def pair() -> tuple[Reference, cs.Sam3Processor]:
    theirs, ours = tiny_pair()
    words = FastTokenizer(models.WordLevel(WORDS, unk_token="<pad>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    segmenter = Segmenter(
        ours,
        Tokenizer(FastTokenizer.from_str(words.to_str()), CONTEXT),
        ModelConfig(
            architecture=ours.config,
            preprocessing=PreprocessingConfig(resolution=RESOLUTION),
        ),
    )
    words.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(START, 1), (END, 2)]
    )
    reference = transformers.Sam3Processor(
        transformers.Sam3ImageProcessor(size={"height": RESOLUTION, "width": RESOLUTION}),
        transformers.PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>"),
    )
    return Reference(theirs, reference), cs.Sam3Processor(segmenter, confidence_threshold=THRESHOLD)


def picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*SIZE_HW, 3), dtype=np.uint8))


def check(state: dict[str, Any], expected: dict[str, torch.Tensor]) -> None:
    assert len(expected["scores"]) > 0
    torch.testing.assert_close(state["scores"], expected["scores"], atol=1e-4, rtol=0)
    torch.testing.assert_close(state["boxes"], expected["boxes"], atol=1e-2, rtol=0)
    torch.testing.assert_close(state["masks_logits"][:, 0], expected["masks_logits"], atol=1e-3, rtol=0)


def test_every_step_of_a_session_answers_as_transformers_does_when_asked_all_at_once(
    pair: tuple[Reference, cs.Sam3Processor],
) -> None:
    theirs, ours = pair
    first, second = picture(1), picture(2)

    state = ours.set_image(first)
    check(ours.set_text_prompt("red coin", state), theirs.answer(first, "red coin", [], []))
    ours.add_geometric_prompt(COIN, True, state)
    check(state, theirs.answer(first, "red coin", [COIN_XYXY], [1]))
    ours.add_geometric_prompt(KEY, False, state)
    check(state, theirs.answer(first, "red coin", [COIN_XYXY, KEY_XYXY], [1, 0]))
    # Another phrase replaces the phrase, and the boxes stay.
    check(ours.set_text_prompt("key", state), theirs.answer(first, "key", [COIN_XYXY, KEY_XYXY], [1, 0]))
    # Another image forgets the phrase, and the boxes stay.
    ours.set_image(second, state)
    check(ours.set_text_prompt("coin", state), theirs.answer(second, "coin", [COIN_XYXY, KEY_XYXY], [1, 0]))
    # After a reset only the image is left.
    ours.reset_all_prompts(state)
    check(ours.set_text_prompt("coin", state), theirs.answer(second, "coin", [], []))


@pytest.mark.parametrize("label", [True, False], ids=["positive", "negative"])
def test_a_box_alone_asks_visual_as_transformers_does(
    pair: tuple[Reference, cs.Sam3Processor], label: bool
) -> None:
    theirs, ours = pair
    image = picture(3)
    state = ours.add_geometric_prompt(COIN, label, ours.set_image(image))
    check(state, theirs.answer(image, None, [COIN_XYXY], [int(label)]))
    check(ours.set_text_prompt("key", state), theirs.answer(image, "key", [COIN_XYXY], [int(label)]))


def test_the_answers_compared_here_depend_on_every_part_of_the_prompt(
    pair: tuple[Reference, cs.Sam3Processor],
) -> None:
    # Without this, equal answers would prove little.
    theirs, _ = pair
    image = picture(1)
    answers = [
        theirs.answer(image, "coin", [], []),
        theirs.answer(image, "key", [], []),
        theirs.answer(image, "coin", [COIN_XYXY], [1]),
        theirs.answer(image, "coin", [COIN_XYXY], [0]),
        theirs.answer(image, "coin", [KEY_XYXY], [1]),
        theirs.answer(picture(2), "coin", [], []),
    ]
    best = [float(answer["scores"].max()) for answer in answers]
    assert all(abs(a - b) > 1e-3 for i, a in enumerate(best) for b in best[:i])
