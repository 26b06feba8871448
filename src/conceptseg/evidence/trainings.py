"""Train the variants of a recipe and judge each; resumable by the clock, several processes at once.

WORK/study.json            what the work is about
WORK/VARIANT/0002.json     what the variant gave with seed 2: a row for every picture, and one of the run
OUT/GROUP-trainings-*.json the tables of a group's variants that are done with every seed

All variants see the same prompts in the same order and are judged by the same questions. Where the vision
encoder is frozen its features are computed once for all of them.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from conceptseg.checkpoints.folder import save_model_folder
from conceptseg.checkpoints.loaders import load_checkpoint
from conceptseg.errors import ConfigError, DataError
from conceptseg.evidence.measurement import Row
from conceptseg.evidence.pictures import DrawnScenes, Photographs, shown
from conceptseg.evidence.training_judge import JudgedPictures, judge, trace_example
from conceptseg.evidence.trainings_recipe import TrainingsRecipe, Variant
from conceptseg.exemplars.align_recipe import FEATURES, AlignRecipe
from conceptseg.exemplars.align_run import AlignJob, KeptPool, align_task, keep_pool
from conceptseg.exemplars.conflict import gradient_conflict
from conceptseg.hub import find_model
from conceptseg.losses.alignment import AlignmentLoss
from conceptseg.models.build import build_detector
from conceptseg.models.config import DetectorConfig, ModelConfig
from conceptseg.models.detector import Detector
from conceptseg.models.text.tokenizer import Tokenizer
from conceptseg.segmenter import Segmenter
from conceptseg.study.pinned import load_pinned, weights_digest
from conceptseg.study.table import Table
from conceptseg.study.work import STUDY, Piece, begin_work, do_pieces, done_rows, with_helpers
from conceptseg.train.job import run_job
from conceptseg.train.recipe_file import laid_over
from conceptseg.train.run_folder import RunFolder
from conceptseg.train.start import take_weights
from conceptseg.train.task import in_part

RUN = "run"  # key of the row that is about a run and not about a picture
TRACED = 200  # examples whose gates and kernels are kept


@dataclass(frozen=True)
class TrainingsRun:
    """What one command does.

    Attributes:
        recipe: variants, seeds, pictures.
        names: the variants that are wanted, in order.
        data: folder of the photographs.
        work: folder of the pieces.
        out: folder of the tables.
    """

    recipe: TrainingsRecipe
    names: tuple[str, ...]
    data: Path
    work: Path
    out: Path


def run_trainings(run: TrainingsRun, *, minutes: float | None = None, processes: int = 1) -> dict[str, int]:
    """Train and judge what is not done yet, and write the tables of what is.

    Returns:
        How many seeds of each variant are done.

    Raises:
        CheckpointError: the weights are not those of the recipe.
        DataError: the folder of the work is about something else, or photographs cannot be read.
        ModelNotFoundError: a variant starts from a model that is not there; said before anything is trained.
        KeyboardInterrupt: stopped; what is done is kept.
    """
    segmenter = load_pinned(run.recipe.model, run.recipe.weights)
    for name in run.names:
        for seed in run.recipe.seeds:
            find_model(model_of(run.recipe, name, seed))
    shared = ("model", "weights", "scenes", "photographs", "recipe")  # variants and seeds may be added
    setup = {name: getattr(run.recipe, name) for name in shared} | {"resolution": segmenter.resolution}
    begin_work(run.work, setup)
    stop_at = float("inf") if minutes is None else time.time() + 60 * minutes
    with_helpers(processes - 1, train_pieces, (run, stop_at))
    write_tables(run.recipe, run.work, run.out)
    return {name: sum(p.file(run.work).is_file() for p in _pieces(run.recipe, name)) for name in run.names}


def train_pieces(run: TrainingsRun, stop_at: float) -> None:
    """What every process does: one free variant and seed after the other."""
    torch.set_num_threads(1)
    bench = Bench(run)
    for name in run.names:
        do_pieces(run.work, _pieces(run.recipe, name), bench.work, stop_at)


def write_tables(recipe: TrainingsRecipe, work: Path, out: Path) -> list[Path]:
    """For every group and kind of pictures a table, of the variants that are done with every seed.

    Raises:
        DataError: the folder holds no such work.
    """
    if not (work / STUDY).is_file():
        raise DataError(f"{work} holds no trainings yet; run them first")
    setup, written = json.loads((work / STUDY).read_text(encoding="utf-8")), []
    for group in dict.fromkeys(variant.group for variant in recipe.variants.values()):
        rows: list[Row] = []
        runs: list[dict[str, Any]] = []
        for name, variant in recipe.variants.items():
            found = done_rows(work, _pieces(recipe, name)) if variant.group == group else None
            for row in found or []:
                if RUN in row:  # the last row of each piece
                    runs.append({"variant": name, "seed": row["seed"], **row[RUN]})
                else:
                    rows.append({"variant": name, **row})
        for source in dict.fromkeys(row["pictures"] for row in rows):
            own = [
                {k: v for k, v in row.items() if k != "pictures"} for row in rows if row["pictures"] == source
            ]
            about = {**setup, "claim": group, "pictures": source, "dtype": "float32"}
            about |= {"runs": runs} if source == DrawnScenes.name else {}
            written.append(out / f"{group}-trainings-{source}.json")
            Table(about, own).save(written[-1])
    return written


def model_of(recipe: TrainingsRecipe, name: str, seed: int) -> str:
    """What a variant starts from with a seed."""
    return (recipe.variants[name].model or recipe.model).replace("{seed}", str(seed))


def _pieces(recipe: TrainingsRecipe, name: str) -> list[Piece]:
    return [Piece(name, seed) for seed in recipe.seeds]


class Bench:
    """What the trainings of one process share; each part is made when it is needed."""

    def __init__(self, run: TrainingsRun) -> None:
        self.recipe, self.data, self.home = run.recipe, run.data, run.work
        self.segmenter = load_pinned(run.recipe.model, run.recipe.weights)
        self._judges: list[JudgedPictures] = []
        self._pools: dict[str, KeptPool] = {}

    def work(self, piece: Piece) -> list[Row]:
        """Train one variant with one seed, and judge it."""
        variant, align = self.recipe.variants[piece.group], self.recipe.of(piece.group, piece.number)
        model = model_of(self.recipe, piece.group, piece.number)
        trains = any(part.split(".")[0] in FEATURES for part in align.trainable)
        began = time.process_time()
        with tempfile.TemporaryDirectory(dir=self.home) as scratch:
            start = Path(scratch) / "start"
            torch.manual_seed(piece.number)
            save_start(model, variant, start)
            align = dataclasses.replace(align, model=str(start))
            begun = Segmenter(*load_checkpoint(start), device="cpu")
            before = self._about(begun, variant, piece.number, moved=variant.model is not None)
            folder = RunFolder(Path(scratch) / "run")
            run_job(AlignJob(align, folder, self._pool(align, model)))
            trained = Segmenter(*load_checkpoint(folder.model_path), device="cpu")
            loss = trained_losses(align, folder, trained.config)
            lines = folder.metrics()
        moved = trains or variant.model is not None
        rows: list[Row] = []
        for pictures in self.judges():
            rows += judge(trained, pictures, variant.asks, loss, moved)
        after = self._about(trained, variant, piece.number, moved)
        rows = [{"seed": piece.number, **row} for row in rows]
        about = {
            **curves(lines, align),
            "before": before,
            "after": after,
            "cpu_seconds": round(time.process_time() - began),
            "model": weights_digest(model),
        }
        print(f"{piece.group}, seed {piece.number}: {about['cpu_seconds']} CPU seconds", flush=True)
        return [*rows, {"seed": piece.number, RUN: about}]

    def judges(self) -> list[JudgedPictures]:
        """Held-out scenes, and photographs."""
        if not self._judges:
            size, recipe = self.segmenter.resolution, self.recipe
            for pictures in (
                DrawnScenes(recipe.scenes, size),
                Photographs(self.data, recipe.photographs, size),
            ):
                self._judges.append(JudgedPictures(self.segmenter, pictures))
        return self._judges

    def _pool(self, align: AlignRecipe, model: str) -> KeptPool:
        key = str((align.pool.scenes, align.pool.seed, align.keep_features, align.teacher))
        if model != self.recipe.model:
            detector, _, config = load_checkpoint(find_model(model))
            return keep_pool(align, detector, config)
        if key not in self._pools:
            self._pools[key] = keep_pool(align, self.segmenter.detector, self.segmenter.config)
        return self._pools[key]

    def _about(self, segmenter: Segmenter, variant: Variant, seed: int, moved: bool) -> dict[str, Any]:
        """What is looked at before and after: gates of the exemplar encoder, and the conflict."""
        about: dict[str, Any] = {}
        judged = self.judges()[0]
        traces = []
        for place, it in enumerate(judged.asked[:TRACED]):
            here, _ = judged.encoded(segmenter, place, moved)
            traces.append((it.example, trace_example(segmenter, here, it.example)))
        first = traces[0][1]
        if first.level_weights is not None:
            about["level_weights"] = _short(first.level_weights)
        if first.gate is not None:
            gates = torch.stack([trace.gate[0, 0] for _, trace in traces if trace.gate is not None])
            about["gate"] = _short(gates.mean(0))  # (D,)
        if first.branch_weights is not None:
            x = self.segmenter.resolution
            about["kernels"] = [
                [round(_side(it.box_xyxy) / x, 3), *_short(trace.branch_weights[0, 0])]
                for it, trace in traces
                if trace.branch_weights is not None
            ]
        if variant.gradients:
            torch.manual_seed(seed)
            conflict = [
                gradient_conflict(segmenter, [shown(it.scene)], [(0, it.example)])[0]["cosine"]
                for it in judged.asked[: variant.gradients]
            ]
            about["conflict"] = [round(cosine, 3) for cosine in conflict]
        return about


def save_start(model: str, variant: Variant, folder: Path) -> None:
    """The model that a variant starts from, as a folder; some of its parts are fresh or at nothing."""
    detector, tokenizer, config = load_start(model, variant)
    save_model_folder(folder, detector, tokenizer, config, torch.float32)


def load_start(model: str, variant: Variant) -> tuple[Detector, Tokenizer, ModelConfig]:
    """As `save_start`, in memory; random numbers are torch's.

    Raises:
        ConfigError: parts that do not go together, or that the model does not have.
    """
    detector, tokenizer, config = load_checkpoint(find_model(model))
    values = laid_over(config.architecture.to_dict(), variant.architecture)
    architecture = DetectorConfig.from_dict(values)
    changed = build_detector(architecture)
    take_weights(changed, detector.state_dict(), variant.fresh)
    for part in variant.zero:
        found = [weight for name, weight in changed.named_parameters() if in_part(name, part)]
        if not found:
            raise ConfigError(f"zero names {part!r}, which this model does not have")
        for weight in found:
            nn.init.zeros_(weight)
    return changed, tokenizer, dataclasses.replace(config, architecture=architecture)


def trained_losses(align: AlignRecipe, folder: RunFolder, config: ModelConfig) -> AlignmentLoss:
    """The alignment losses with what their projections learned, from the last checkpoint."""
    task = align_task(align, build_detector(config.architecture), config)
    state = torch.load(folder.checkpoint_path, map_location="cpu", weights_only=True)["task"]
    own = {name: value for name, value in state.items() if name.startswith("alignment.")}
    missing = task.load_state_dict(own, strict=False)
    assert not missing.unexpected_keys
    return task.alignment.loss.eval()


def curves(lines: list[dict[str, Any]], align: AlignRecipe) -> dict[str, Any]:
    """Of every step the weighed detection losses and the gradient's length; and the looks while training."""
    weights = align.weights.by_name()
    train = [line for line in lines if line["kind"] == "train"]
    looks = [line for line in lines if line["kind"] == "validation"]
    detection = [
        sum(weights[name[5:]] * value for name, value in line.items() if name[5:] in weights)
        for line in train
    ]
    aligned = [[line.get(f"loss/{name}") for line in train] for name in align.alignment.names]
    return {
        "losses": [round(value, 3) for value in detection],
        "gradient": [round(line["gradient_norm"], 3) for line in train],
        "alignment": {
            name: [_mean(values[:10]), _mean(values[-10:])]
            for name, values in zip(align.alignment.names, aligned, strict=True)
        },
        "box_f1": [[line["step"], round(line["box_f1"], 4)] for line in looks],
    }


def _mean(values: list[float | None]) -> float:
    return round(float(np.mean([value for value in values if value is not None])), 4)


def _short(values: torch.Tensor) -> list[float]:
    return [round(float(value), 3) for value in values]


def _side(box_xyxy: tuple[float, float, float, float]) -> float:
    """Side of the square of the same area."""
    x0, y0, x1, y1 = box_xyxy
    return float(np.sqrt((x1 - x0) * (y1 - y0)))
