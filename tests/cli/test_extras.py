"""Without an extra a command says which one it needs, in one line, before it writes anything."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from conceptseg.checkpoints.onnx_folder import FILES, OnnxInfo, write_onnx_config
from conceptseg.extras import EXTRAS, Extra
from conceptseg.segmenter import Segmenter
from tests.cli.finished import Run, assert_one_error

COMMANDS: list[tuple[Extra, str]] = [
    ("serve", "serve"),
    ("serve", "review labels"),
    ("train", "train nano --out out"),
    ("train", "train align --out out"),
    ("train", "finetune TILES --model MODEL --out out"),
    ("train", "distill --teacher MODEL --student nano-student --stage 1 --data scenes --out out"),
    ("train", "presence repair --model MODEL --method finetune --data TILES --out out"),
    ("train", "presence repair --model MODEL --teacher MODEL --method distill --data TILES --out out"),
    ("train", "presence study --recipe presence-study --out out"),
    ("train", "exemplar study --recipe exemplar-study --out out"),
    ("train", "segment photo.png --box 5,5,40,40 --model MODEL --explain --out out"),
    ("onnx", "export onnx --model MODEL --out out"),
    ("onnx", "segment photo.png --text coin --model EXPORTED --out out"),
    ("ray", "label photo.png --text coin --model MODEL --ray auto --out out"),
    ("openvino", "segment photo.png --text coin --model EXPORTED --runtime openvino --out out"),
]


@pytest.fixture
def exported(tmp_path: Path, tiny_segmenter: Segmenter) -> Path:
    """An exported model as far as it is read before it runs."""
    folder = tmp_path / "exported"
    folder.mkdir()
    for name in FILES:
        (folder / name).touch()
    write_onnx_config(folder, tiny_segmenter.config, OnnxInfo(96, 18, "", "none", {}))
    return folder


@pytest.mark.parametrize(("extra", "command"), COMMANDS)
def test_without_its_extra_a_command_says_how_to_install_it_and_writes_nothing(
    extra: Extra,
    command: str,
    run: Run,
    photo: Path,
    tiny_model_folder: Path,
    tiles: Path,
    exported: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for package in EXTRAS[extra]:
        monkeypatch.setitem(sys.modules, package, None)
    places = {"MODEL": tiny_model_folder, "TILES": tiles, "EXPORTED": exported}
    finished = run(*(places.get(word, word) for word in command.split()))
    assert_one_error(finished, "not installed", f'pip install "conceptseg[{extra}]"')
    assert not Path("out").exists()


@pytest.mark.parametrize(("extra", "package"), [(extra, name) for extra in EXTRAS for name in EXTRAS[extra]])
def test_each_missing_package_is_named(
    extra: Extra,
    package: str,
    run: Run,
    photo: Path,
    tiny_model_folder: Path,
    exported: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    commands = {
        "onnx": ("export", "onnx", "--model", tiny_model_folder, "--out", "out"),
        "ray": (
            "label",
            photo,
            "--text",
            "coin",
            "--model",
            tiny_model_folder,
            "--ray",
            "auto",
            "--out",
            "out",
        ),
        "openvino": ("segment", photo, "--text", "coin", "--model", exported, "--runtime", "openvino"),
        "serve": ("serve",),
        "train": ("train", "nano"),
    }
    monkeypatch.setitem(sys.modules, package, None)
    assert_one_error(run(*commands[extra]), f" needs {package}, ")
