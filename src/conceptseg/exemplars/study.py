"""Train every exemplar encoder with every choice of losses, measure all of them alike, and write the report.

    run_study(load_study_recipe("exemplar-study"), Path("study"))

FOLDER/recipe.json              the resolved recipe
FOLDER/weights.json             which weights of the model it is about
FOLDER/reference.json           the model that all runs start from, with its own encoder
FOLDER/runs/NAME/               one run folder per cell, with measured.json
FOLDER/study.json, study.md     after every cell, of the cells there are
FOLDER/locks/                   which process is at what

The vision encoder is frozen in all runs, so the features of the pool are computed once and shared. A cell
that is measured is not run again; one that was interrupted goes on from its last checkpoint. Several
processes may work on one folder: each takes the next cell that none of the others has.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from conceptseg.checkpoints.atomic_write import write_text
from conceptseg.checkpoints.loaders import load_checkpoint
from conceptseg.data.scenes import Scene
from conceptseg.errors import ConfigError, TrainingError
from conceptseg.exemplars.align_run import AlignJob, KeptPool, align_task, keep_pool, start_model
from conceptseg.exemplars.costs import answer_costs, training_costs
from conceptseg.exemplars.few_shot import score_robustness, score_settings
from conceptseg.exemplars.gap import measure_gap
from conceptseg.exemplars.gap_pictures import images_of_scenes
from conceptseg.exemplars.pool import PoolBatches, draw_pool
from conceptseg.exemplars.smoothness import roughness
from conceptseg.exemplars.study_folder import MEASURED, RECIPE, REFERENCE, STUDY, measured_cells
from conceptseg.exemplars.study_recipe import Cell, StudyRecipe
from conceptseg.exemplars.study_report import SPLITS, write_study_report
from conceptseg.extras import require
from conceptseg.hub import find_model
from conceptseg.losses.alignment import CONTRASTIVE, DISTILLATION
from conceptseg.report import report_json
from conceptseg.segmenter import Segmenter
from conceptseg.study.pinned import keep_to_weights
from conceptseg.study.shared_work import LOCKS, claim, refuse_others
from conceptseg.train.job import run_job
from conceptseg.train.run_folder import RunFolder

COSTED_STEPS = 3  # batches that the cost of a step is measured on


def run_study(
    recipe: StudyRecipe,
    folder: Path,
    resume: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Run all cells that are not there yet and that no other process is at.

    Args:
        recipe: see `StudyRecipe`.
        folder: for the runs and the report; several processes may share it, each with `resume`.
        resume: go on with the study that the folder holds, or begin it where it holds none.
        progress: called with the number of cells that are measured and the number wanted.

    Returns:
        Path of the report, which holds the cells that are measured.

    Raises:
        ConfigError: the recipe cannot be used.
        MissingDependencyError: a package of the extra `train` is not installed.
        TrainingError: the folder holds a study and `resume` is not given, or another one.
        CheckpointError: it was begun with other weights of the model.
        KeyboardInterrupt: Ctrl-C; go on with `resume`.
    """
    require("train", "training")
    return Study(recipe, folder, progress).run(resume)


class Study:
    """One study in its folder; what all of its cells read is made once, when it is needed."""

    def __init__(
        self, recipe: StudyRecipe, folder: Path, progress: Callable[[int, int], None] | None = None
    ) -> None:
        if not recipe.align.keep_features:
            raise ConfigError("a study shares the features of its pool; align.keep_features must be true")
        *_, config = start_model(recipe.align)  # before anything is written: it loads, and the sizes fit
        pool = recipe.align.pool.of_model(config)
        self.recipe = dataclasses.replace(recipe, align=dataclasses.replace(recipe.align, pool=pool))
        self.folder = folder
        self._progress = progress
        self._pool: KeptPool | None = None
        self._scenes: dict[str, list[Scene]] = {}

    def run(self, resume: bool = False) -> Path:
        """See `run_study`."""
        folder = self.folder
        refuse_others(folder, RECIPE)
        with claim(folder / LOCKS / RECIPE, wait=True):
            _begin(self.recipe, folder, resume)
            keep_to_weights(folder, self.recipe.align.model)
        with claim(folder / LOCKS / REFERENCE) as ours:
            if ours and not (folder / REFERENCE).is_file():
                _write(folder / REFERENCE, self.measure_reference())
        report = self._report()
        for cell in self.recipe.cells():
            run = folder / "runs" / cell.name
            with claim(folder / LOCKS / cell.name) as ours:
                if not ours or (run / MEASURED).is_file():
                    continue
                _write(run / MEASURED, self.measure_cell(cell, run))
            report = self._report()
        return report

    def _report(self) -> Path:
        """Write the report of what is measured so far, by any process."""
        # One that has seen fewer cells could be written last, if they did not wait for each other.
        with claim(self.folder / LOCKS / STUDY, wait=True):
            report = write_study_report(self.recipe, self.folder)
        if self._progress is not None:
            measured = measured_cells(self.recipe, self.folder)
            self._progress(len(measured), len(list(self.recipe.cells())))
        return report

    def pool(self) -> KeptPool:
        if self._pool is None:
            detector, _, config = start_model(self.recipe.align)
            self._pool = keep_pool(self.recipe.align, detector, config)
        return self._pool

    def scenes(self, split: str) -> list[Scene]:
        if split not in self._scenes:
            pool = dataclasses.replace(
                self.recipe.align.pool,
                dataset=None,
                scenes=max(self.recipe.scenes, 2 * self.recipe.align.pool.pairs),
                seed=self.recipe.align.pool.seed + 1,  # validation looks at those of the pool's own seed
                difficulty=(self.recipe.least_difficulty, 1.0),
            )
            self._scenes[split] = draw_pool(pool, split)[: self.recipe.scenes]
        return self._scenes[split]

    def measure_reference(self) -> dict[str, Any]:
        """Of the model as it is loaded, at the resolution of the study."""
        parts = load_checkpoint(find_model(self.recipe.align.model))
        return self._measure(Segmenter(*parts, device="cpu", resolution=self.recipe.align.pool.resolution))

    def measure_cell(self, cell: Cell, run: Path) -> dict[str, Any]:
        """Train a cell, unless that is done, and measure it."""
        align, pool, folder = self.recipe.run_recipe(cell), self.pool(), RunFolder(run)
        seconds = run / "cpu_seconds.json"
        if not folder.model_path.is_dir():
            resume, began = folder.recipe_path.is_file(), time.process_time()
            run_job(AlignJob(align, folder, pool), resume)
            if not resume:  # what an interrupted attempt took is not known
                _write(seconds, {"cpu_seconds": time.process_time() - began})
        parts = load_checkpoint(folder.model_path)
        measured = self._measure(Segmenter(*parts, device="cpu", resolution=align.pool.resolution))
        lines = folder.metrics()
        weights = align.weights.by_name()
        detection = [
            sum(weights[name[5:]] * value for name, value in line.items() if name[5:] in weights)
            for line in lines
            if line["kind"] == "train"
        ]
        cpu = json.loads(seconds.read_text())["cpu_seconds"] if seconds.is_file() else None
        started, tokenizer, config = start_model(align)
        task = align_task(align, started, config)
        task.train_only(align.trainable)
        data = PoolBatches(align.pool, pool.scenes, tokenizer, 0, align.steps, pool.levels)
        batches = [data[step] for step in range(min(COSTED_STEPS, align.steps))]
        return measured | {
            "roughness": roughness(detection),
            "box_f1": [[line["step"], line["box_f1"]] for line in lines if line["kind"] == "validation"],
            "last_losses": {name: _last(lines, f"loss/{name}") for name in (CONTRASTIVE, DISTILLATION)},
            "training": training_costs(task, batches),
            "train_cpu_seconds": cpu,
        }

    def _measure(self, segmenter: Segmenter) -> dict[str, Any]:
        """Everything that is measured of a model, however it was trained."""
        recipe, held_out = self.recipe, self.scenes("held_out")
        gap = measure_gap(
            segmenter,
            list(images_of_scenes(held_out))[: recipe.gap_images],
            per_concept=1,
            changed=recipe.gap_images,
            gradients=min(8, recipe.gap_images),
        )
        figures = {name: value for name, value in gap.figures.items() if name != "statistics"}
        few = ("mean_offset", "log_variance_ratio")
        figures["statistics"] = {name: gap.figures["statistics"][name] for name in few}
        return {
            "settings": {split: score_settings(segmenter, self.scenes(split)) for split in SPLITS},
            "robustness": score_robustness(segmenter, held_out[: recipe.robustness_scenes]),
            "gap": figures,
            "answering": answer_costs(segmenter, held_out[0]),
        }


def _last(lines: list[dict[str, Any]], name: str) -> float | None:
    """The last logged value of a training loss; None where there was no such loss."""
    values = [line[name] for line in lines if line["kind"] == "train" and name in line]
    return float(values[-1]) if values else None


def _begin(recipe: StudyRecipe, folder: Path, resume: bool) -> None:
    path = folder / RECIPE
    wanted = json.loads(json.dumps(dataclasses.asdict(recipe)))
    if not path.is_file():
        _write(path, wanted)
        return
    if not resume:
        raise TrainingError(f"{folder} already holds a study; go on with --resume or give another --out")
    if json.loads(path.read_text()) != wanted:
        raise TrainingError(f"{folder} holds the study of another recipe; resume with the same one")


def _write(path: Path, values: dict[str, Any]) -> None:
    write_text(path, report_json(values))
