"""What every repair has: options, the model and images it works on, and how a repaired model is written."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from conceptseg.checkpoints.atomic_write import replacing
from conceptseg.checkpoints.config_file import write_config
from conceptseg.checkpoints.folder import FILES, save_model_folder
from conceptseg.checkpoints.loaders import load_checkpoint
from conceptseg.checkpoints.model_card import CARD, write_card
from conceptseg.choices import Matching, RepairLabels, check_choice
from conceptseg.data.concept_data import ConceptDataset
from conceptseg.hub import find_model
from conceptseg.models.config import ModelConfig
from conceptseg.models.cpu.rounding import is_rounded
from conceptseg.segmenter import Segmenter
from conceptseg.train.run_folder import RunFolder
from conceptseg.train.stop import StopRequest

RUN = "run"  # in the folder of the repaired model: what its training leaves


@dataclass(frozen=True)
class RepairOptions:
    """What a repair may use.

    Attributes:
        teacher: name or path; needed by distil, and by calibrate without labels.
        labels: "none": whether a phrase is there is not looked at when fitting; distil then ends with
            stage 2.
        offset_only: of a calibration, keep the scale at 1.
        matching: how a calibration without labels matches the teacher, see `presence.calibration`.
        phrases: of a calibration without labels: file with a phrase per line; the data is then a folder of
            images of which nothing is known.
        fit_images: images that are fitted on, at most; None for all (100 of scenes).
        judge_images: images that judge, at most; likewise.
        threshold: working threshold.
        overrides: entries of the recipes to change, `key=value`; those of one stage as `2.steps=100`.
        resume: go on with an interrupted finetune or distil in the same folder.
        seed: of scenes, and of training.
        device: as for `load`, of what is asked; training chooses for itself.
        dtype: likewise.
    """

    teacher: str | None = None
    labels: RepairLabels = "all"
    offset_only: bool = False
    matching: Matching = "ranks"
    phrases: str | None = None
    fit_images: int | None = None
    judge_images: int | None = None
    threshold: float = 0.5
    overrides: Sequence[str] = ()
    resume: bool = False
    seed: int = 0
    device: str = "auto"
    dtype: str = "auto"

    def __post_init__(self) -> None:
        check_choice("labels", self.labels, RepairLabels)
        check_choice("matching", self.matching, Matching)


@dataclass(frozen=True)
class RepairCase:
    """What a repair works on.

    Attributes:
        path: of the model to repair.
        model: the same, loaded.
        teacher: the one that the options name, loaded.
        data: what `fit` is a part of.
        fit: images to fit on.
        folder: of the repaired model.
        options: see `RepairOptions`.
        stop: as for `run_job`.
    """

    path: Path
    model: Segmenter
    teacher: Segmenter | None
    data: str
    fit: ConceptDataset
    folder: Path
    options: RepairOptions
    stop: StopRequest | None = None


@dataclass(frozen=True)
class Method:
    """One way to repair.

    Attributes:
        run: writes the repaired model, and says how many images, pairs and labels it was fitted on.
        check: refuses options that it cannot use, long before it is begun.
    """

    run: Callable[[RepairCase], dict[str, float]]
    check: Callable[[RepairOptions], None]


def copy_model(run: RunFolder, folder: Path) -> None:
    """The model that a run has trained becomes the repaired one, with its card."""
    for name in (*FILES, CARD):
        with replacing(folder / name) as draft:
            shutil.copyfile(run.model_path / name, draft)


def overrides_of(options: RepairOptions, stage: int | None) -> list[str]:
    """What the caller changes: for this stage, or for all."""
    lines: list[str] = []
    for override in options.overrides:
        first, dot, rest = override.partition(".")
        if not (dot and first.isdecimal()):
            lines.append(override)
        elif stage is not None and first == str(stage):
            lines.append(rest)
    return lines


def labelled_pairs(dataset: ConceptDataset) -> list[int]:
    """Labelled pairs of each image."""
    return [len(image.phrases) + len(image.absent_phrases) for image in dataset]


def write_with(case: RepairCase, config: ModelConfig, how: str) -> None:
    """The same weights under another config; of a folder of ours, the very files."""
    config = _with_provenance(config, how)
    path, folder = case.path, case.folder
    if path.is_dir() and all((path / name).is_file() for name in FILES):
        for name in FILES[1:]:
            with replacing(folder / name) as draft:
                shutil.copyfile(path / name, draft)
        write_config(folder, config)
        write_card(folder, config)
    else:
        detector = case.model.detector
        if is_rounded(detector):  # the case's model is only asked; files get what its own file holds
            detector, _, _ = load_checkpoint(find_model(path))
        save_model_folder(folder, detector, case.model.tokenizer, config)


def _with_provenance(config: ModelConfig, how: str) -> ModelConfig:
    return dataclasses.replace(config, provenance={**config.provenance, "presence_repair": how})
