"""A folder written with `--format hf`, opened by `transformers` itself: nothing to download, same outputs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from conceptseg.checkpoints.convert import convert
from conceptseg.checkpoints.folder import save_model_folder
from conceptseg.checkpoints.loaders import load_checkpoint, open_checkpoint
from conceptseg.images import model_input
from conceptseg.models.build import build_detector
from conceptseg.models.config import (
    DetectorConfig,
    MobileClipTextConfig,
    ModelConfig,
    PreprocessingConfig,
    TextConfig,
)
from conceptseg.models.text.tokenizer import Tokenizer
from conceptseg.models.text.tokenizer_files import clip_tokenizer
from tests.models.text.clip_files import learn
from tests.models.tiny import randomise
from tests.parity.cases import CONTEXT, RESOLUTION, Case, differences, run_ours, run_transformers, tiny_pair

transformers = pytest.importorskip("transformers")

# Without padding, which transformers masks in LiteText and the released code does not.
FULL = (1, 5, 64, 33, 71, 80, 12, 2)
PROMPT = Case("words and boxes", [FULL], [[(0.3, 0.4, 0.2, 0.3, 1), (0.7, 0.6, 0.15, 0.25, 0)]])
PREPROCESSING = PreprocessingConfig(resolution=RESOLUTION, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.5))
PHRASES = ["red circle", "a café's yellow bus", "50% of 21 stars"]


def written(
    folder: Path,
    architecture: DetectorConfig,
    context: int = CONTEXT,
    preprocessing: PreprocessingConfig = PREPROCESSING,
) -> Path:
    """Random weights in our folder, and converted for `transformers`."""
    vocabulary, merges = learn()
    text = dataclasses.replace(architecture.text, vocab_size=len(vocabulary))
    config = ModelConfig(
        architecture=dataclasses.replace(architecture, text=text),
        preprocessing=preprocessing,
    )
    detector = build_detector(config.architecture).eval()
    randomise(detector)
    with torch.no_grad():  # this layout has no points
        for name, value in detector.named_parameters():
            if "exemplar_encoder.point_" in name:
                value.zero_()
    save_model_folder(
        folder / "own", detector, Tokenizer(clip_tokenizer(vocabulary, merges), context), config
    )
    done = convert(open_checkpoint(folder / "own"), folder / "hf", "hf")
    assert done.lost == []
    return folder / "hf"


@pytest.fixture(scope="module", params=["Sam3Model", "Sam3LiteTextModel"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """(class of transformers, folder)."""
    architecture = tiny_pair()[1].config
    text: Any = TextConfig(context_length=CONTEXT, width=48, depth=2, heads=4, mlp_width=80)
    if request.param == "Sam3LiteTextModel":
        text = MobileClipTextConfig(
            context_length=CONTEXT, positions=CONTEXT, width=128, depth=2, heads=2, mlp_width=80
        )
    path = written(tmp_path_factory.mktemp("written"), dataclasses.replace(architecture, text=text))
    return getattr(transformers, request.param), path


def test_transformers_finds_every_weight_and_answers_as_we_do(
    folder: tuple[Any, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    kind, path = folder
    theirs, report = kind.from_pretrained(path, output_loading_info=True)
    assert not any(report.values()), report
    ours = load_checkpoint(path)[0]
    found = run_ours(ours, PROMPT)
    assert found["class logits"].std() > 20 * 1e-4  # were all answers alike, they would be equal anyway
    for name, difference in differences(run_transformers(theirs, PROMPT), found).items():
        assert difference <= (2e-3 if name == "mask logits" else 1e-4), f"{name} differ by {difference}"


def test_its_processor_sees_the_same_pixels_and_reads_the_same_words(folder: tuple[Any, Path]) -> None:
    _, path = folder
    processor = transformers.Sam3Processor.from_pretrained(path)
    _, tokenizer, config = load_checkpoint(path.parent / "own")
    assert load_checkpoint(path)[2].preprocessing == config.preprocessing
    pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    for phrase in PHRASES:
        asked = processor(images=Image.fromarray(pixels), text=phrase, return_tensors="pt")
        (ids,) = tokenizer([phrase])
        length = int((ids != 0).sum())
        if length < CONTEXT:  # longer ones are cut, and it always pads to 32
            assert asked["input_ids"][0, :length].tolist() == ids[:length].tolist()
            assert asked["attention_mask"][0].sum() == length
    mean, std = config.preprocessing.mean, config.preprocessing.std
    seen = model_input(pixels, RESOLUTION, mean, std)
    grey_level = 1 / 255 / min(std)
    assert (asked["pixel_values"][0] - seen).abs().max() <= grey_level + 1e-6
