import numpy as np
import pytest
import torch
from PIL import Image

import conceptseg as cs

BOX = [0.3, 0.4, 0.3, 0.5]  # centre x, centre y, width, height
PIXELS = [[0.15 * 90, 0.15 * 60, 0.45 * 90, 0.65 * 60]]  # the same on the 90 x 60 picture


@pytest.fixture
def processor(tiny_segmenter):
    return cs.Sam3Processor(tiny_segmenter, confidence_threshold=0.0)


def scores_of(state):
    return state["scores"].clone()


def test_state_has_the_official_keys_shapes_and_types(processor, picture):
    state = processor.set_image(Image.fromarray(picture))
    assert set(state) == {"original_height", "original_width", "backbone_out"}
    assert (state["original_height"], state["original_width"]) == (60, 90)
    assert processor.set_text_prompt(prompt="coin", state=state) is state
    assert state["scores"].shape == (12,) and state["boxes"].shape == (12, 4)
    assert state["masks"].shape == state["masks_logits"].shape == (12, 1, 60, 90)
    assert state["masks"].dtype == torch.bool
    # The official name is "logits", the values are probabilities.
    assert 0 <= state["masks_logits"].min() and state["masks_logits"].max() <= 1
    assert torch.equal(state["masks"], state["masks_logits"] > 0.5)


def test_numbers_are_those_of_the_segmenter_in_query_order(processor, tiny_segmenter, picture):
    state = processor.add_geometric_prompt(BOX, True, processor.set_image(picture))
    state = processor.set_text_prompt("coin", state)
    result = tiny_segmenter.segment(
        picture, text="coin", boxes=PIXELS, threshold=0, presence="multiply", return_raw=True
    )
    assert not (state["scores"].diff() <= 0).all()  # not sorted
    raw = result.raw
    by_query = raw.class_logits[-1, :, 0].sigmoid() * raw.presence_logits[-1, 0].sigmoid()
    torch.testing.assert_close(state["scores"], by_query, atol=1e-5, rtol=0)
    order = state["scores"].argsort(descending=True)
    np.testing.assert_allclose(state["boxes"][order], result.boxes, atol=1e-2)
    assert (state["masks"][order, 0].numpy() != result.masks).mean() < 1e-3


def test_a_box_alone_asks_visual_and_a_later_text_is_text_and_box(processor, tiny_segmenter, picture):
    state = processor.add_geometric_prompt(BOX, True, processor.set_image(picture))
    alone = tiny_segmenter.segment(picture, boxes=PIXELS, threshold=0)
    torch.testing.assert_close(
        scores_of(state).sort(descending=True)[0], torch.tensor(alone.scores), atol=1e-5, rtol=0
    )
    state = processor.set_text_prompt("coin", state)
    both = tiny_segmenter.segment(picture, text="coin", boxes=PIXELS, threshold=0)
    torch.testing.assert_close(
        scores_of(state).sort(descending=True)[0], torch.tensor(both.scores), atol=1e-5, rtol=0
    )


def test_boxes_add_up_and_keep_the_text(processor, tiny_segmenter, picture):
    state = processor.set_text_prompt("coin", processor.set_image(picture))
    state = processor.add_geometric_prompt(BOX, True, state)
    state = processor.add_geometric_prompt([0.7, 0.5, 0.2, 0.4], False, state)
    both = [*PIXELS, [0.6 * 90, 0.3 * 60, 0.8 * 90, 0.7 * 60]]
    expected = tiny_segmenter.segment(picture, text="coin", boxes=both, labels=[1, 0], threshold=0)
    torch.testing.assert_close(
        scores_of(state).sort(descending=True)[0], torch.tensor(expected.scores), atol=1e-5, rtol=0
    )


def test_a_negative_box_alone_is_asked_with_visual(processor, tiny_segmenter, picture):
    state = processor.add_geometric_prompt(BOX, False, processor.set_image(picture))
    alone = tiny_segmenter.segment(picture, text="visual", boxes=PIXELS, labels=[0], threshold=0)
    torch.testing.assert_close(
        scores_of(state).sort(descending=True)[0], torch.tensor(alone.scores), atol=1e-5, rtol=0
    )


def test_prompts_use_the_image_that_was_encoded_once(processor, picture):
    state = processor.set_image(picture)
    features = state["backbone_out"]["image_features"]
    processor.set_text_prompt("coin", state)
    assert state["geometric_prompt"].boxes_cxcywh is None  # words alone leave an empty one
    processor.add_geometric_prompt(BOX, True, state)
    processor.reset_all_prompts(state)
    processor.set_confidence_threshold(0.0, processor.set_text_prompt("key", state))
    assert state["backbone_out"]["image_features"] is features


def test_two_states_of_one_processor_do_not_mix(processor, picture):
    one, other = processor.set_image(picture), processor.set_image(picture[::-1].copy())
    first = scores_of(processor.set_text_prompt("coin", one))
    processor.add_geometric_prompt(BOX, True, other)
    torch.testing.assert_close(scores_of(processor.set_text_prompt("coin", one)), first)


def test_a_new_image_forgets_the_text_and_keeps_the_boxes(processor, picture):
    state = processor.set_text_prompt("coin", processor.set_image(picture))
    processor.add_geometric_prompt(BOX, True, state)
    other = picture[::-1].copy()
    same = processor.set_image(other, state)
    assert same is state and "language_features" not in state["backbone_out"]
    with pytest.raises(cs.PromptError, match="new image and no prompt"):
        processor.set_confidence_threshold(0.0, state)
    kept = scores_of(processor.set_text_prompt("coin", state))
    fresh = processor.add_geometric_prompt(BOX, True, processor.set_image(other))
    torch.testing.assert_close(kept, scores_of(processor.set_text_prompt("coin", fresh)))


def test_reset_forgets_prompts_and_results_and_keeps_the_image(processor, picture):
    state = processor.set_text_prompt("coin", processor.set_image(picture))
    first = scores_of(state)
    processor.add_geometric_prompt(BOX, True, state)
    assert processor.reset_all_prompts(state) is None
    assert set(state) == {"original_height", "original_width", "backbone_out"}
    torch.testing.assert_close(scores_of(processor.set_text_prompt("coin", state)), first)


def test_a_new_threshold_runs_again_and_is_strict(processor, picture):
    state = processor.set_image(picture)
    assert processor.set_confidence_threshold(0.0, state) is state and "boxes" not in state
    state = processor.set_text_prompt("coin", state)
    third = float(state["scores"].sort(descending=True)[0][2])
    assert len(processor.set_confidence_threshold(third, state)["scores"]) == 2
    state = processor.set_confidence_threshold(1.0, state)
    assert state["masks"].shape == (0, 1, 60, 90) and state["boxes"].shape == (0, 4)
    assert len(processor.set_confidence_threshold(0.0, state)["scores"]) == 12
    assert processor.set_confidence_threshold(0.5) is None and processor.confidence_threshold == 0.5


def test_points_are_in_pixels_and_matter(processor, picture):
    state = processor.set_text_prompt("coin", processor.set_image(picture))
    before = scores_of(state)
    positive = scores_of(processor.add_point_prompt([45, 30], True, state))
    negative = scores_of(processor.add_point_prompt([10, 10], False, state))
    assert (before - positive).abs().max() > 1e-4 and (positive - negative).abs().max() > 1e-4


def test_mistakes_are_clear_errors_and_value_errors_as_in_the_official_code(processor, picture):
    state = processor.set_image(picture)
    for wrong in (
        lambda: processor.set_text_prompt("coin", {}),
        lambda: processor.add_geometric_prompt(BOX, True, {}),
    ):
        with pytest.raises(ValueError, match="call set_image before"):
            wrong()
    for box in ([0.5, 0.5, 0.0, 0.1], [40, 12, 80, 90], [0.5, 0.5, 0.1], [float("nan")] * 4, "0.5"):
        with pytest.raises(cs.PromptError, match="centre x, centre y, width, height, normalised|in 0..1"):
            processor.add_geometric_prompt(box, True, state)
    assert "geometric_prompt" not in state
    with pytest.raises(cs.PromptError, match="must be 4 finite numbers"):
        processor.add_geometric_prompt([np.complex64(1), 0.5, 0.1, 0.1], True, state)
    with pytest.raises(cs.PromptError, match="state must be None, or what an earlier call returned; got str"):
        processor.set_image(picture, "state")
    for label in (np.zeros(2), np.complex64(1)):
        with pytest.raises(cs.PromptError, match="label = .*; True means like this"):
            processor.add_geometric_prompt(BOX, label, state)
    with pytest.raises(cs.PromptError, match="label = 2; True means like this"):
        processor.add_geometric_prompt(BOX, 2, state)
    with pytest.raises(cs.PromptError, match="lies outside this 90 x 60 image"):
        processor.add_point_prompt([100, 10], True, state)
    with pytest.raises(cs.PromptError, match="one phrase; got list"):
        processor.set_text_prompt(["cat", "dog"], state)
    with pytest.raises(cs.OptionError, match="threshold 2 is not a number from 0 to 1"):
        processor.set_confidence_threshold(2)
    with pytest.raises(cs.OptionError, match="takes what conceptseg.load"):
        cs.Sam3Processor("nano")


def test_a_batch_of_images_is_encoded_but_not_prompted(processor, picture):
    state = processor.set_image_batch([Image.fromarray(picture), Image.fromarray(picture[:30])])
    assert state["original_heights"] == [60, 30] and state["original_widths"] == [90, 90]
    with pytest.raises(cs.PromptError, match="for a batch use Segmenter.segment_many"):
        processor.set_text_prompt("coin", state)


def test_resolution_may_be_given_as_in_the_official_class(tiny_segmenter, picture):
    processor = cs.Sam3Processor(tiny_segmenter, 128, "cpu", 0.0)
    assert processor.resolution == 128 and tiny_segmenter.resolution == 96
    state = processor.set_text_prompt("coin", processor.set_image(picture))
    assert state["masks"].shape == (12, 1, 60, 90)
