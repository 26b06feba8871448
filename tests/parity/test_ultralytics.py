"""What `docs/from/ultralytics.md` says: where its `SAM3SemanticPredictor` answers as we do, and where not.

Same random weights of the official layout, with a trunk and a text encoder of a few layers and all else
at its released size. The picture has the model's own size, so that no resizing comes between.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

import conceptseg as cs
from conceptseg.checkpoints.convert import convert
from conceptseg.checkpoints.folder import save_model_folder
from conceptseg.checkpoints.loaders import open_checkpoint
from conceptseg.models.build import build_detector
from conceptseg.models.config import ModelConfig, PreprocessingConfig, TextConfig, ViTConfig
from conceptseg.models.presets import SAM3
from conceptseg.models.text.tokenizer import Tokenizer
from conceptseg.models.text.tokenizer_files import clip_tokenizer
from tests.models.text.clip_files import learn
from tests.models.tiny import randomise

pytest.importorskip("ultralytics", reason="ultralytics is not installed")

SIDE = 336  # 24 x 24 patches, 3 x 3 windows
BOX = [40.0, 60.0, 160.0, 200.0]
VISION = {"embed_dim": 64, "depth": 3, "num_heads": 4, "global_att_blocks": (2,), "window_size": 8}
TEXT = {"width": 128, "heads": 2, "layers": 2}

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # those of ultralytics' own


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, cs.Segmenter]]:
    """(their predictor, our segmenter) on one file."""
    folder = tmp_path_factory.mktemp("ultralytics")
    vocabulary, merges = learn()
    tokenizer = Tokenizer(clip_tokenizer(vocabulary, merges), SAM3.text.context_length)
    architecture = dataclasses.replace(
        SAM3,
        vision=ViTConfig(width=64, depth=3, heads=4, mlp_width=296, global_blocks=(2,), window=8),
        text=TextConfig(vocab_size=len(vocabulary), width=128, depth=2, heads=2, mlp_width=512),
    )
    detector = build_detector(architecture).eval()
    randomise(detector)
    with torch.no_grad():  # milder: six sharp layers would make 1e-6 of rounding into 1e-2
        for name, value in detector.named_parameters():
            if "in_proj" in name or "box_head" in name:
                value.mul_(0.3)
    config = ModelConfig(architecture=architecture, preprocessing=PreprocessingConfig(resolution=SIDE))
    save_model_folder(folder / "own", detector, tokenizer, config)
    convert(open_checkpoint(folder / "own"), folder / "official", "official")
    (file,) = (folder / "official").glob("*.pt")
    with pytest.MonkeyPatch.context() as patch:
        yield their_predictor(file, tokenizer, len(vocabulary), patch), cs.load(str(folder / "own"))


def their_predictor(file: Path, tokenizer: Tokenizer, words: int, patch: pytest.MonkeyPatch) -> Any:
    from ultralytics.models.sam import SAM3SemanticPredictor, build_sam3

    clip = ModuleType("clip")  # a package of theirs, of which only the tokenizer is used
    clip.simple_tokenizer = ModuleType("simple_tokenizer")  # type: ignore[attr-defined]
    clip.simple_tokenizer.SimpleTokenizer = lambda: lambda texts, context_length: tokenizer(texts)
    patch.setitem(sys.modules, "clip", clip)
    patch.setattr(build_sam3, "ViT", smaller(build_sam3.ViT, VISION))
    patch.setattr(
        build_sam3, "VETextEncoder", smaller(build_sam3.VETextEncoder, {**TEXT, "vocab_size": words})
    )
    options = {"model": str(file), "imgsz": SIDE, "conf": 0.0, "iou": 1.0, "device": "cpu", "verbose": False}
    return SAM3SemanticPredictor(overrides={**options, "save": False})


def smaller(kind: Any, sizes: dict[str, Any]) -> Any:
    return lambda **options: kind(**{**options, **sizes})


@functools.cache
def picture() -> np.ndarray:
    rng = np.random.default_rng(3)
    return rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


def theirs(predictor: Any, **prompt: Any) -> dict[str, torch.Tensor]:
    """The raw outputs that their predictor reads its results from."""
    caught: list[dict[str, torch.Tensor]] = []
    read = predictor.postprocess

    def watched(outputs: Any, *rest: Any) -> Any:
        caught.append(outputs)
        return read(outputs, *rest)

    predictor.postprocess = watched
    predictor.set_image(np.ascontiguousarray(picture()[..., ::-1]))  # they take BGR
    try:
        predictor(**prompt)
    finally:
        predictor.postprocess = read
    return {
        "class logits": caught[0]["pred_logits"][0, :, 0],
        "boxes": caught[0]["pred_boxes"][0],
        "presence logit": caught[0]["presence_logit_dec"].flatten(),
        "mask logits": caught[0]["pred_masks"][0],
    }


def ours(segmenter: cs.Segmenter, **prompt: Any) -> dict[str, torch.Tensor]:
    raw = segmenter.segment(picture(), return_raw=True, **prompt).raw
    assert raw is not None
    return {
        "class logits": raw.class_logits[-1, :, 0],
        "boxes": raw.boxes_cxcywh[-1, :, 0],
        "presence logit": raw.presence_logits[-1],
        "mask logits": raw.mask_logits[0],
    }


def relative(theirs: dict[str, torch.Tensor], ours: dict[str, torch.Tensor]) -> dict[str, float]:
    """The largest difference of each output, as a share of its largest number."""
    return {
        name: float((ours[name] - value).abs().max() / value.abs().max()) for name, value in theirs.items()
    }


@pytest.mark.parametrize("text", [None, "red circle"], ids=["a box alone", "a phrase and a box"])
def test_boxes_are_answered_alike(pair: tuple[Any, cs.Segmenter], text: str | None) -> None:
    predictor, segmenter = pair
    words = {} if text is None else {"text": [text]}
    found = theirs(predictor, bboxes=[BOX], labels=[1], **words)
    apart = relative(found, ours(segmenter, text=text, boxes=[BOX], labels=[1]))
    assert len(found["class logits"]) == 200 and max(apart.values()) < 1e-4, apart


def test_words_alone_are_not_because_they_skip_the_exemplar_encoder(pair: tuple[Any, cs.Segmenter]) -> None:
    predictor, segmenter = pair
    apart = relative(theirs(predictor, text=["red circle"]), ours(segmenter, text="red circle"))
    assert min(apart.values()) > 1e-2, apart
