"""A whole model that fits in a test: random weights, real code."""

from __future__ import annotations

import dataclasses
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conceptseg.checkpoints.folder import save_model_folder
from conceptseg.models.build import build_detector
from conceptseg.models.config import (
    ConvNetConfig,
    ModelConfig,
    PreprocessingConfig,
    PresenceCalibration,
    TextConfig,
)
from conceptseg.models.presets import NANO
from conceptseg.models.text.tokenizer import Tokenizer, train_tokenizer
from conceptseg.segmenter import Segmenter
from conceptseg.train.run_folder import RunFolder
from tests.hub_server import FakeHub, fake_hub

BROWSER_OPTIONS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]

# Models this small gain nothing from threads, which on a busy machine cost minutes of waiting for each other.
torch.set_num_threads(1)

TINY = dataclasses.replace(
    NANO,
    width=32,
    vision=ConvNetConfig(stem_width=8, widths=(8, 16, 24, 32), blocks=(1, 1, 1, 1), pyramid_width=32),
    text=TextConfig(vocab_size=512, context_length=16, width=32, depth=1, heads=2, mlp_width=32),
    exemplar=dataclasses.replace(NANO.exemplar, layers=1, heads=2, mlp_width=32),
    fusion=dataclasses.replace(NANO.fusion, layers=1, heads=2, mlp_width=32),
    decoder=dataclasses.replace(NANO.decoder, layers=2, heads=2, mlp_width=32, queries=12),
    scoring=dataclasses.replace(NANO.scoring, mlp_width=32),
    mask_head=dataclasses.replace(NANO.mask_head, heads=2),
)


def make_tiny_segmenter(seed: int = 0, **changes: object) -> Segmenter:
    """A segmenter with random weights; `changes` replace fields of its model config."""
    torch.manual_seed(seed)
    detector = build_detector(TINY)
    with torch.no_grad():
        for parameter in detector.parameters():  # also those that start at zero, so that nothing is left out
            parameter.add_(0.15 * torch.randn_like(parameter))
    tokenizer = Tokenizer(
        train_tokenizer(["red circle", "coin", "striped star"], 300), TINY.text.context_length
    )
    config = ModelConfig(
        architecture=TINY,
        preprocessing=PreprocessingConfig(resolution=96),
        presence_calibration=PresenceCalibration(scale=2.0, offset=1.0),
        provenance={"name": "tiny"},
    )
    return Segmenter(detector, tokenizer, dataclasses.replace(config, **changes))  # type: ignore[arg-type]


@pytest.fixture(scope="session", autouse=True)
def no_loss_curves() -> Iterator[None]:
    """Drawing the losses takes longer than a tiny run; `tests.train.tiny.draw_losses` draws them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunFolder, "draw_losses", lambda self: None)
        yield


@pytest.fixture(scope="session")
def make_segmenter() -> Callable[..., Segmenter]:
    return make_tiny_segmenter


@pytest.fixture(scope="session")
def tiny_segmenter() -> Segmenter:
    """Random weights, 96 px, 12 queries; scores lie around 0.2, so ask with a low threshold."""
    return make_tiny_segmenter()


@pytest.fixture(scope="session")
def tiny_model_folder(tiny_segmenter: Segmenter, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model, as a folder on disk."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_model_folder(folder, tiny_segmenter.detector, tiny_segmenter.tokenizer, tiny_segmenter.config)
    return folder


@pytest.fixture(scope="session")
def tiny_onnx_folder(tiny_segmenter: Segmenter, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model, exported; about ten seconds, once."""
    from conceptseg.export.onnx_export import export_onnx

    folder = tmp_path_factory.mktemp("models") / "tiny-onnx"
    export_onnx(tiny_segmenter, folder)
    return folder


@pytest.fixture
def picture() -> np.ndarray:
    """(60, 90, 3) uint8, smooth and different everywhere."""
    y, x = np.mgrid[0:60, 0:90]
    return np.stack((x * 255 / 89, y * 255 / 59, (x + y) * 255 / 148), axis=-1).astype(np.uint8)


@pytest.fixture
def loopback_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A Hub of our own, an empty cache and no token: what the HF_* variables give a new process."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with fake_hub() as server:
        for name, value in {
            "ENDPOINT": server.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": server.url + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_CACHE": str(tmp_path / "hub"),
            "HF_TOKEN_PATH": str(tmp_path / "token"),
            "HF_HUB_OFFLINE": False,
        }.items():
            monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
        yield server


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.tiles import write_model  # which needs this file

    return write_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="session")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Masks, with a held-out split."""
    from tests.tiles import write_tiles

    folder = tmp_path_factory.mktemp("tiles") / "tiles"
    write_tiles(folder, "train")
    return write_tiles(folder, "valid", images=4, seed=1)


@pytest.fixture(scope="session")
def boxed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Boxes only, one split."""
    from tests.tiles import write_tiles

    return write_tiles(tmp_path_factory.mktemp("boxed") / "boxed", "train", images=8, masks=False)


def pytest_runtest_teardown() -> None:
    """Drop the handler for children that ended, which torch's `DataLoader` leaves behind.

    In a worker that had run thousands of tests its delivery was a segmentation fault (Python 3.11, Intel with
    AMX); faulthandler's stack for signals, which is left out too (pyproject.toml), may have been the cause.
    """
    if hasattr(signal, "SIGCHLD") and callable(signal.getsignal(signal.SIGCHLD)):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def find_chromium() -> str | None:
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium, by Playwright."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    found = find_chromium()
    if found is None:
        pytest.skip("there is no Chromium on this machine")
    with playwright.sync_playwright() as running_playwright:
        browser = running_playwright.chromium.launch(executable_path=found, args=BROWSER_OPTIONS)
        yield browser
        browser.close()
