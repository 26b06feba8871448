"""What a run leaves on disk, and how it goes on after it was stopped at any moment.

recipe.yaml       every value, defaults included
tokenizer.json    the tokenizer of the run
metrics.jsonl     one line per logged step
events.*          the same for TensorBoard
losses.png        the same as a figure
last.pt           everything a resume needs; replaced in one step
best.safetensors  averaged weights of the best look at held-out data so far
model/            the trained model, once the run has ended
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from conceptseg.checkpoints.atomic_write import replacing, write_text
from conceptseg.errors import ConfigError, TrainingError
from conceptseg.report import save_chart
from conceptseg.train.recipe_file import differences, dump_recipe, read_recipe
from conceptseg.train.run_config import RunConfig

CHECKPOINT_KEYS = {"task", "optimiser", "step", "best"}  # and "average", where weights are averaged


class RunFolder:
    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @property
    def recipe_path(self) -> Path:
        return self.path / "recipe.yaml"

    @property
    def metrics_path(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def checkpoint_path(self) -> Path:
        return self.path / "last.pt"

    @property
    def tokenizer_path(self) -> Path:
        return self.path / "tokenizer.json"

    @property
    def best_path(self) -> Path:
        return self.path / "best.safetensors"

    @property
    def model_path(self) -> Path:
        return self.path / "model"

    def check(self, resume: bool) -> None:
        """Stop before any work is done if the folder cannot be used.

        Raises:
            TrainingError: it already holds (parts of) a run, or is a file; or, to resume, holds none.
        """
        if self.path.exists() and not self.path.is_dir():
            raise TrainingError(f"{self.path} is a file; give a folder for the run")
        if resume:
            if not self.recipe_path.is_file():
                raise TrainingError(f"{self.path} holds no run to resume")
            return
        ours = (
            self.recipe_path,
            self.tokenizer_path,
            self.metrics_path,
            self.checkpoint_path,
            self.best_path,
            self.model_path,
        )
        found = [path.name for path in ours if path.exists()]
        if found:
            raise TrainingError(
                f"{self.path} already holds a run ({', '.join(found)}); "
                "go on with --resume or give another --out"
            )

    def start(self, recipe: RunConfig) -> None:
        """Begin a new run.

        Raises:
            TrainingError: the folder already holds (parts of) a run, or is a file.
        """
        self.check(resume=False)
        write_text(self.recipe_path, dump_recipe(recipe))

    def abandon(self) -> None:
        """Forget a run that could not begin, so that the mended command may use the same folder."""
        for path in (self.recipe_path, self.tokenizer_path):
            path.unlink(missing_ok=True)
        if not any(self.path.iterdir()):
            self.path.rmdir()

    def load(self, recipe: RunConfig) -> dict[str, Any] | None:
        """The last checkpoint; None when the run was stopped before its first one. Changes nothing.

        Raises:
            TrainingError: there is no run, or its recipe is another one, or the checkpoint is damaged.
        """
        self.check(resume=True)
        try:
            begun = read_recipe(type(recipe), self.recipe_path)
        except ConfigError as error:
            raise TrainingError(f"cannot resume: {self.recipe_path}: {error}") from error
        # Recipes and not texts are compared: a run begun before a new key came in keeps that key's default.
        changed = differences(begun, recipe)
        if changed:
            raise TrainingError(
                f"{self.path} was begun with another recipe: {changed[0]}"
                f"{f' and {len(changed) - 1} more' if changed[1:] else ''}; resume with the same one"
            )
        if not self.checkpoint_path.is_file():
            return None
        try:
            state = torch.load(self.checkpoint_path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises many types for damaged files
            raise TrainingError(f"cannot read the checkpoint {self.checkpoint_path}: {error}") from error
        missing = CHECKPOINT_KEYS - set(state) if isinstance(state, dict) else CHECKPOINT_KEYS
        if missing:
            raise TrainingError(
                f"{self.checkpoint_path} is no checkpoint of a run: no {', '.join(sorted(missing))}"
            )
        return dict(state)

    def rewind(self, step: int) -> None:
        """Drop what was logged after the checkpoint, for those steps are run again, and what a kill left half
        written."""
        for leftover in self.path.glob(".*.part"):
            leftover.unlink()
        kept = [line for line in self.metrics() if line["step"] <= step]
        if self.metrics_path.exists():
            write_text(self.metrics_path, "".join(json.dumps(line) + "\n" for line in kept))

    def save(self, state: dict[str, Any]) -> None:
        """Replace the last checkpoint; it survives a power cut too."""
        with replacing(self.checkpoint_path) as path:
            torch.save(state, path)
            with path.open("r+b") as file:
                os.fsync(file.fileno())

    def save_best(self, task: torch.nn.Module) -> None:
        with replacing(self.best_path) as path:
            state = task.state_dict()
            save_file({name: value.detach().cpu().contiguous() for name, value in state.items()}, path)

    def load_best(self, task: torch.nn.Module) -> None:
        """Give a task the weights of the best validation; without any it keeps its own."""
        if self.best_path.is_file():
            task.load_state_dict(load_file(self.best_path))

    def log(self, values: dict[str, float | int | str]) -> None:
        with self.metrics_path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """All logged lines; one that a kill cut in half is left out."""
        if not self.metrics_path.is_file():
            return []
        lines = []
        for line in self.metrics_path.read_text(encoding="utf-8").splitlines():
            try:
                lines.append(json.loads(line))
            except json.JSONDecodeError:
                continue
        return lines

    def draw_losses(self) -> None:
        """Draw `losses.png` from the metrics: every loss of training, and of held-out data as points."""
        from matplotlib.figure import Figure

        lines = self.metrics()
        names = sorted({name for line in lines for name in line if name.startswith("loss/")})
        if not names:
            return
        columns = 4
        rows = -(-len(names) // columns)
        figure = Figure(figsize=(4 * columns, 2.4 * rows), layout="constrained")
        for i, name in enumerate(names):
            axis = figure.add_subplot(rows, columns, i + 1)
            values = []
            for kind, style in (("train", "-"), ("validation", "o")):
                points = [
                    (line["step"], line[name]) for line in lines if line["kind"] == kind and name in line
                ]
                if points:
                    axis.plot(*zip(*points, strict=True), style, linewidth=0.8, markersize=3)
                    values += [value for _, value in points]
            axis.set_title(name.removeprefix("loss/"), fontsize=9)
            axis.set_yscale("log" if all(value > 0 for value in values) else "linear")
            axis.tick_params(labelsize=7)
        save_chart(figure, self.path / "losses.png")
