"""Model folders: what is written is what is read, and nothing else is accepted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from conceptseg.checkpoints.folder import FILES, load_model_folder, save_model_folder
from conceptseg.checkpoints.model_card import CARD
from conceptseg.errors import CheckpointError
from conceptseg.models.config import ModelConfig, PreprocessingConfig, PresenceCalibration
from conceptseg.models.detector import Detector
from conceptseg.models.text.tokenizer import Tokenizer, train_tokenizer
from tests.models.tiny import pixels, tiny_config, tiny_detector, token_ids

ARCHITECTURE = tiny_config(text={"vocab_size": 300})
CONFIG = ModelConfig(
    architecture=ARCHITECTURE,
    preprocessing=PreprocessingConfig(resolution=28, mean=(0.1, 0.2, 0.3)),
    presence_calibration=PresenceCalibration(1.25, -0.5),
    presence_mode="calibrated",
    provenance={"name": "tiny", "licence": "Apache-2.0"},
)


@pytest.fixture(scope="module")
def detector() -> Detector:
    return tiny_detector(text={"vocab_size": 300})


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(train_tokenizer(["red circle"], 300), ARCHITECTURE.text.context_length)


@pytest.fixture(scope="module")
def written(detector: Detector, tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_model_folder(folder, detector, tokenizer, CONFIG)
    return folder


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(written, tmp_path / "tiny"))


def test_a_folder_holds_exactly_the_documented_files(written: Path) -> None:
    assert sorted(p.name for p in written.iterdir()) == sorted([*FILES, CARD])


def test_weights_config_and_tokenizer_come_back_bit_for_bit(
    written: Path, detector: Detector, tokenizer: Tokenizer
) -> None:
    loaded, words, config = load_model_folder(written)
    assert config == CONFIG and not loaded.training
    expected = detector.state_dict()
    assert set(loaded.state_dict()) == set(expected)
    assert all(torch.equal(value, expected[name]) for name, value in loaded.state_dict().items())
    assert torch.equal(words(["red circle"]), tokenizer(["red circle"]))
    with torch.no_grad():
        one, other = loaded(pixels(), token_ids()), detector(pixels(), token_ids())
    assert torch.equal(one.class_logits, other.class_logits) and torch.equal(
        one.mask_logits, other.mask_logits
    )


def test_loaded_weights_can_be_trained(written: Path) -> None:
    loaded, _, _ = load_model_folder(written)
    loaded.train()(pixels(), token_ids()).class_logits.sum().backward()
    assert loaded.decoder.query_embedding.grad is not None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_on_disk_loads_as_the_float32_of_the_rounded_weights(
    detector: Detector, tokenizer: Tokenizer, written: Path, tmp_path: Path, dtype: torch.dtype
) -> None:
    save_model_folder(tmp_path, detector, tokenizer, CONFIG, dtype=dtype)
    on_disk = load_file(tmp_path / "model.safetensors")
    assert {value.dtype for value in on_disk.values()} == {dtype}
    size = (tmp_path / "model.safetensors").stat().st_size
    assert size < 0.6 * (written / "model.safetensors").stat().st_size
    loaded, _, _ = load_model_folder(tmp_path)
    for name, value in detector.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value.to(dtype).float())
    # Saving what was loaded changes nothing more.
    save_model_folder(tmp_path / "again", loaded, tokenizer, CONFIG, dtype=dtype)
    again = load_file(tmp_path / "again" / "model.safetensors")
    assert all(torch.equal(again[name], value) for name, value in on_disk.items())


def test_saving_over_a_model_replaces_it(folder: Path, tokenizer: Tokenizer) -> None:
    other = tiny_detector(seed=1, text={"vocab_size": 300})
    save_model_folder(folder, other, tokenizer, CONFIG)
    loaded, _, _ = load_model_folder(folder)
    assert torch.equal(loaded.decoder.query_embedding, other.decoder.query_embedding)
    assert sorted(p.name for p in folder.iterdir()) == sorted([*FILES, CARD])


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=f"it has no {name}"):
        load_model_folder(folder)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_a_truncated_file_is_an_error_that_names_it(folder: Path, name: str, kept: float) -> None:
    path = folder / name
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(CheckpointError, match=name):
        load_model_folder(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_noise_is_an_error_that_names_it(folder: Path, name: str) -> None:
    (folder / name).write_bytes(bytes(range(256)) * 40)
    with pytest.raises(CheckpointError, match=name):
        load_model_folder(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "other"}, 'lacks "format": "conceptseg"'),
        ({"version": 99}, "has version 99; this conceptseg reads version 1"),
        ({"surprise": 1}, "unknown key 'surprise'"),
        ({"presence_mode": "maybe"}, "presence_mode is 'maybe'"),
        ({"architecture": {**ARCHITECTURE.to_dict(), "width": 30}}, "width = 30 is not a multiple"),
    ],
)
def test_a_config_that_is_not_ours_is_refused(folder: Path, changes: dict[str, object], message: str) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(CheckpointError, match=message):
        load_model_folder(folder)


NAN, INFINITE = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("architecture.width", 10**9, "width is 1000000000; it must be from 1 to 65536"),
        ("architecture.decoder.layers", 10**7, "decoder.layers is 10000000; it must be from 1 to 200"),
        ("architecture.text.depth", 10**7, "text.depth is 10000000"),
        ("architecture.fusion.heads", 0, "fusion.heads is 0"),
        ("architecture.decoder.queries", -1, "decoder.queries is -1"),
        ("architecture.neck.scales", [1.0] * 10**5, "neck.scales has 100,000 entries; there may be 200"),
        ("architecture.neck.scales", [3.0] * 4, "neck.scales holds 3.0"),
        ("architecture.scoring.logit_limit", NAN, "scoring.logit_limit is nan"),
        ("architecture.decoder.dropout", 10**400, "decoder.dropout is too large a number"),
        (
            "preprocessing.resolution",
            32_000_000,
            "preprocessing.resolution is 32000000",
        ),
        ("preprocessing.std", [0.5, 0.0, 0.5], "preprocessing.std is 0.0; it must be from 0.0001 to 10000"),
        ("preprocessing.mean", [INFINITE, 0.0, 0.0], "preprocessing.mean is inf"),
        ("presence_calibration.scale", NAN, "presence_calibration.scale is nan"),
        ("presence_calibration.offset", -INFINITE, "presence_calibration.offset is -inf"),
    ],
)
def test_a_config_that_lies_is_refused_before_anything_is_built(
    folder: Path, place: str, value: object, message: str
) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    *sections, name = place.split(".")
    section = config
    for one in sections:
        section = section[one]
    section[name] = value
    path.write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=message):
        load_model_folder(folder)


@pytest.mark.parametrize("text", ["[" * 10**6, '{"version": ' + "1" * 5000 + "}"], ids=["nested", "long"])
def test_a_config_that_python_cannot_hold_is_refused(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match="cannot read .*config.json"):
        load_model_folder(folder)


def test_a_config_that_is_no_mapping_is_refused(folder: Path) -> None:
    (folder / "config.json").write_text("[1, 2]")
    with pytest.raises(CheckpointError, match="it holds a list"):
        load_model_folder(folder)


def test_missing_and_unexpected_weights_are_both_named(folder: Path) -> None:
    path = folder / "model.safetensors"
    state = load_file(path)
    del state["decoder.presence_token"]
    state["decoder.presense_token"] = torch.zeros(1)
    save_file(state, path)
    message = r"1 missing \(decoder.presence_token\); 1 unexpected \(decoder.presense_token\)"
    with pytest.raises(CheckpointError, match=message):
        load_model_folder(folder)


def test_a_weight_of_another_shape_is_named_with_both_shapes(folder: Path) -> None:
    path = folder / "model.safetensors"
    state = load_file(path)
    state["decoder.presence_token"] = torch.zeros(1, 5)
    save_file(state, path)
    with pytest.raises(
        CheckpointError, match=r"decoder.presence_token has shape \(1, 5\), the config asks for \(1, 32\)"
    ):
        load_model_folder(folder)


def test_a_tokenizer_with_more_words_than_the_text_encoder_knows_is_refused(folder: Path) -> None:
    train_tokenizer(["red circle"] + [f"word{i} again{i}" for i in range(80)], 400).save(
        str(folder / "tokenizer.json")
    )
    with pytest.raises(CheckpointError, match="the text encoder knows 300"):
        load_model_folder(folder)


def test_a_path_that_is_no_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is no model folder"):
        load_model_folder(tmp_path / "nowhere")
