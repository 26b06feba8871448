import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import conceptseg as cs
from conceptseg.exemplar import FORMAT
from conceptseg.models.prompts import PromptTokens, join_prompts

BOX = [[10, 10, 40, 40]]


def test_an_exemplar_holds_one_token_per_box_and_a_closing_one(tiny_segmenter, picture):
    kind = tiny_segmenter.exemplar(picture, [*BOX, [50, 20, 80, 50]], labels=[1, 0])
    assert kind.tokens.shape == (3, 32) and kind.tokens.dtype == torch.float32
    assert kind.labels == (1, 0) and kind.images == 1 and kind.model == tiny_segmenter.fingerprint
    assert "1 positive, 1 negative" in repr(kind)


def test_used_on_its_own_image_an_exemplar_equals_its_boxes(tiny_segmenter, picture):
    kind = tiny_segmenter.exemplar(picture, BOX)
    for text in (None, "coin", ["coin", "red circle"]):
        by_boxes = tiny_segmenter.segment(picture, text=text, boxes=BOX, threshold=0)
        by_kind = tiny_segmenter.segment(picture, text=text, exemplar=kind, threshold=0)
        by_boxes, by_kind = (x if isinstance(x, list) else [x] for x in (by_boxes, by_kind))
        for a, b in zip(by_boxes, by_kind, strict=True):
            assert a.phrase == b.phrase
            np.testing.assert_allclose(a.scores, b.scores, atol=1e-6)
            assert (a.masks != b.masks).mean() < 1e-4


def test_an_exemplar_carries_over_to_other_images(tiny_segmenter, picture):
    kind = tiny_segmenter.exemplar(picture, BOX)
    other = picture[::-1, ::-1].copy()
    assert tiny_segmenter.segment(other, exemplar=kind, threshold=0).masks.shape == (12, 60, 90)
    singles = [tiny_segmenter.segment(image, exemplar=kind, threshold=0.05) for image in (picture, other)]
    many = list(tiny_segmenter.segment_many([picture, other], exemplar=kind, threshold=0.05))
    for a, b in zip(singles, many, strict=True):
        np.testing.assert_allclose(a.scores, b.scores, atol=1e-5)


def test_an_exemplar_joins_with_boxes_of_the_image_at_hand(tiny_segmenter, picture):
    kind = tiny_segmenter.exemplar(picture[::-1].copy(), BOX)
    asked = [
        tiny_segmenter.segment(picture, threshold=0, **prompt).scores
        for prompt in ({"exemplar": kind}, {"boxes": BOX}, {"exemplar": kind, "boxes": BOX})
    ]
    assert np.abs(asked[2] - asked[0]).max() > 1e-4 and np.abs(asked[2] - asked[1]).max() > 1e-4


def test_pooling_joins_the_tokens_of_several_images(tiny_segmenter, picture):
    first = tiny_segmenter.exemplar(picture, BOX)
    second = tiny_segmenter.exemplar(picture[::-1].copy(), BOX, labels=[0])
    pooled = first + second
    assert torch.equal(pooled.tokens, torch.cat((first.tokens, second.tokens)))
    assert pooled.labels == (1, 0) and pooled.images == 2
    assert torch.equal(sum([first, second]).tokens, pooled.tokens)
    by_pool = tiny_segmenter.segment(picture, exemplar=pooled, threshold=0, return_raw=True)
    with torch.inference_mode():
        words = tiny_segmenter.text_tokens(["visual"])
        shown = PromptTokens(pooled.tokens[:, None], torch.zeros(1, 4, dtype=torch.bool))
        features = tiny_segmenter.encode(picture).features
        index = torch.zeros(1, dtype=torch.long)
        output = tiny_segmenter.detector.detect(features, index, join_prompts(words, shown))
    torch.testing.assert_close(by_pool.raw.class_logits, output.class_logits)


def test_a_file_gives_back_the_same_exemplar(tiny_segmenter, picture, tmp_path):
    kind = tiny_segmenter.exemplar(picture, BOX) + tiny_segmenter.exemplar(picture, BOX, labels=[0])
    path = kind.save(tmp_path / "kinds" / "widget.concept.safetensors")
    assert path.stat().st_size < 4096 and len(list(path.parent.iterdir())) == 1
    again = cs.Exemplar.load(path)
    assert torch.equal(again.tokens, kind.tokens)
    assert (again.labels, again.model, again.images) == (kind.labels, kind.model, kind.images)
    a, b = (tiny_segmenter.segment(picture, exemplar=e, threshold=0) for e in (kind, again))
    assert np.array_equal(a.scores, b.scores) and np.array_equal(a.masks, b.masks)


def test_an_exemplar_of_another_model_is_refused(tiny_segmenter, make_segmenter, picture):
    other = make_segmenter(seed=1)
    kind = other.exemplar(picture, BOX)
    with pytest.raises(
        cs.PromptError, match=f"made by model {other.fingerprint} .*make it again from its boxes"
    ):
        tiny_segmenter.segment(picture, exemplar=kind)
    with pytest.raises(cs.PromptError, match="different models cannot be pooled"):
        kind + tiny_segmenter.exemplar(picture, BOX)
    with pytest.raises(TypeError):
        kind + 3


def test_files_that_are_no_exemplars_say_so(tmp_path):
    (tmp_path / "text.safetensors").write_text("hello")
    save_file({"tokens": torch.zeros(2, 4)}, tmp_path / "weights.safetensors")
    for name, message in (
        ("gone.safetensors", "no such file"),
        ("text.safetensors", "is not a concept file, or is damaged"),
        ("weights.safetensors", "is not a concept file: "),
    ):
        with pytest.raises(cs.PromptError, match=message):
            cs.Exemplar.load(tmp_path / name)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": torch.full((2, 32), float("nan"))}, "no rows of finite numbers"),
        ({"tokens": torch.zeros(32)}, "no rows of finite numbers"),
        ({"labels": torch.tensor([7])}, "labels are not 1 and 0"),
        ({"images": "many"}, "many"),
    ],
)
def test_a_file_of_what_is_no_exemplar_is_refused(tmp_path, changes, message):
    values = {"tokens": torch.zeros(2, 32), "labels": torch.tensor([1]), "images": "1", **changes}
    metadata = {"format": FORMAT, "model": "0" * 16, "images": values.pop("images")}
    save_file(values, tmp_path / "a.safetensors", metadata)
    with pytest.raises(cs.PromptError, match=f"is not a concept file, or is damaged: .*{message}"):
        cs.Exemplar.load(tmp_path / "a.safetensors")


def test_an_exemplar_that_cannot_be_written_says_so(tiny_segmenter, picture, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(cs.PromptError, match="cannot be written"):
        tiny_segmenter.exemplar(picture, BOX).save(tmp_path / "file" / "widget.safetensors")
    with pytest.raises(cs.PromptError, match="cannot be written: embedded null byte"):
        tiny_segmenter.exemplar(picture, BOX).save(tmp_path / "a\0.safetensors")


def test_an_exemplar_needs_boxes_that_lie_on_the_image(tiny_segmenter, picture):
    with pytest.raises(cs.PromptError, match="needs at least one box"):
        tiny_segmenter.exemplar(picture, [])
    with pytest.raises(cs.PromptError, match="lies outside"):
        tiny_segmenter.exemplar(picture, [[500, 10, 540, 40]])


def test_repairing_presence_keeps_exemplars_and_any_other_training_does_not(make_segmenter):
    segmenter = make_segmenter(seed=3)

    def fingerprint():
        return cs.Segmenter(segmenter.detector, segmenter.tokenizer, segmenter.config).fingerprint

    before = fingerprint()
    with torch.no_grad():
        segmenter.detector.decoder.presence_token += 1
        assert fingerprint() == before
        next(segmenter.detector.fusion_encoder.parameters()).mul_(1.1)
        assert fingerprint() != before
