"""The training loop: fetch, loss, backward, clip, step, log, save.

Everything random in step n is drawn from (seed, n), and a checkpoint holds weights, averaged weights,
optimiser and step. So a run that was killed and resumed ends with the same weights as one that was not.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from textwrap import shorten
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.tensorboard import SummaryWriter

from conceptseg.data.batch import Batch
from conceptseg.data.scene_batches import SceneBatches, batches_from
from conceptseg.errors import TrainingError
from conceptseg.evaluation.grounding import in_scene_auroc, split_objects
from conceptseg.train.progress import TrainingProgress
from conceptseg.train.recipe import Recipe
from conceptseg.train.run_folder import RunFolder
from conceptseg.train.schedule import build_optimiser, rate_factor
from conceptseg.train.stop import StopRequest, stop_requests
from conceptseg.train.task import DetectionTask


@dataclass
class Trainer:
    """All that the steps of one run share. Each of several processes has one; the main one writes files."""

    recipe: Recipe
    task: DetectionTask
    data: SceneBatches
    validation: list[Batch]
    folder: RunFolder
    accelerator: Accelerator

    def run(self, state: dict[str, Any] | None) -> DetectionTask:
        """Train to the recipe's last step.

        Args:
            state: a checkpoint to go on from; None starts at step 0.

        Returns:
            The task with averaged weights (the last ones when the recipe averages nothing).

        Raises:
            TrainingError: a loss or gradient is not finite, names the loss; or the checkpoint does not fit.
            KeyboardInterrupt: the run was asked to stop; everything up to the last step is saved.
        """
        recipe, accelerator = self.recipe, self.accelerator
        average = _average(self.task, recipe.ema_decay).to(accelerator.device)
        optimiser = build_optimiser(self.task, recipe.optimiser)
        start, best = 0, float("inf")
        # `task` is `self.task`, wrapped where several processes share their gradients.
        task, optimiser = accelerator.prepare(self.task, optimiser)
        if state is not None:
            _restore(state, {"task": self.task, "average": average, "optimiser": optimiser})
            start, best = int(state["step"]), float(state["best"])
        weights = recipe.weights.by_name()

        with contextlib.ExitStack() as stack:
            stop = stack.enter_context(stop_requests())
            writer = stack.enter_context(self._event_writer(start)) if accelerator.is_main_process else None
            batches = stack.enter_context(contextlib.closing(batches_from(self.data, start)))
            progress = stack.enter_context(TrainingProgress(start, recipe.steps, accelerator.is_main_process))
            stack.enter_context(_training_attention(accelerator.device))
            for step in range(start, recipe.steps):
                began = time.perf_counter()
                torch.manual_seed(_seed(recipe.seed, step, accelerator.process_index))
                batch = next(batches).to(accelerator.device)
                stage, _ = recipe.data.stage_of(step)
                factor = stage.rate * rate_factor(step, recipe.steps, recipe.optimiser)
                for group in optimiser.param_groups:
                    group["lr"] = group["peak_lr"] * factor
                task.train()
                self.task.use_one_to_many(stage.one_to_many)
                losses = self._losses(task, batch, self._num_boxes(batch), step)
                total = torch.stack([weights[name] * value for name, value in losses.items()]).sum()
                _check_finite(total, losses, step)
                optimiser.zero_grad(set_to_none=True)
                accelerator.backward(total)
                norm = accelerator.clip_grad_norm_(task.parameters(), recipe.optimiser.clip_norm)
                if not torch.isfinite(norm):
                    raise TrainingError(f"step {step + 1}: the gradient is not finite, though every loss is")
                optimiser.step()
                average.update_parameters(self.task)

                done = step + 1
                last = done == recipe.steps
                rate = len(batch.phrases) * accelerator.num_processes / (time.perf_counter() - began)
                progress.advance(done, float(total.detach()), rate)
                if writer is not None and (done % recipe.log_every == 0 or last):
                    values = {f"loss/{name}": float(value.detach()) for name, value in losses.items()}
                    values |= {"loss/total": float(total.detach()), "gradient_norm": float(norm)}
                    values |= {"lr": optimiser.param_groups[0]["lr"], "pairs_per_second": rate}
                    self._log(writer, done, "train", values)
                if writer is not None and (done % recipe.validate_every == 0 or last):
                    best = self._validate(average.module, writer, done, best)
                    self.folder.draw_losses()
                stopping = self._agreed(stop)
                if writer is not None and (done % recipe.save_every == 0 or last or stopping):
                    # What was logged goes to disk first: a resume from this checkpoint does not log it again.
                    writer.flush()
                    states = {"task": self.task.state_dict(), "average": average.state_dict()}
                    progressed = {"step": done, "best": best, "processes": accelerator.num_processes}
                    self.folder.save({**states, "optimiser": optimiser.state_dict(), **progressed})
                if stopping:
                    raise KeyboardInterrupt(f"stopped after step {done}; go on with --resume")
        averaged = average.module
        assert isinstance(averaged, DetectionTask)
        return averaged if recipe.ema_decay else self.task

    def _losses(self, task: torch.nn.Module, batch: Batch, num_boxes: Tensor, step: int) -> dict[str, Tensor]:
        try:
            with _autocast(self.accelerator.device, self.recipe):
                losses: dict[str, Tensor] = task(batch, num_boxes)
        except TrainingError as error:  # matching meets what is not finite before any loss does
            raise TrainingError(f"step {step + 1}: {error}") from error
        return losses

    def _num_boxes(self, batch: Batch) -> Tensor:
        """Objects in the batch, mean over processes, at least one."""
        count: Tensor = self.accelerator.reduce(batch.targets.valid.sum().float(), reduction="mean")
        return count.clamp(min=1)

    def _agreed(self, stop: StopRequest) -> bool:
        """Whether any process was asked to stop: all leave after the same step, or some would wait on."""
        if self.accelerator.num_processes == 1:
            return stop.requested
        asked = torch.tensor(float(stop.requested), device=self.accelerator.device)
        return bool(self.accelerator.reduce(asked, reduction="sum") > 0)

    @torch.no_grad()
    def _validate(self, task: torch.nn.Module, writer: SummaryWriter, step: int, best: float) -> float:
        """Log the averaged weights' loss on held-out scenes and keep the best; returns the lowest loss."""
        if not self.validation:
            return best
        task.eval()
        weights = self.recipe.weights.by_name()
        sums: dict[str, float] = {}
        grounding: list[float] = []
        for batch in self.validation:
            batch = batch.to(self.accelerator.device)
            torch.manual_seed(0)
            count = batch.targets.valid.sum().clamp(min=1).float()
            for name, value in self._losses(task, batch, count, step - 1).items():
                sums[f"loss/{name}"] = sums.get(f"loss/{name}", 0.0) + float(value) / len(self.validation)
            grounding += self._grounding(task, batch)
        total = sum(weights[name.removeprefix("loss/")] * value for name, value in sums.items())
        values = {**sums, "loss/total": total}
        if grounding:
            values["in_scene_auroc"] = sum(grounding) / len(grounding)
        self._log(writer, step, "validation", values)
        if total < best:
            self.folder.save_best(task)
        return min(best, total)

    def _grounding(self, task: torch.nn.Module, batch: Batch) -> list[float]:
        """Asked objects against the others of their scene, where the batch knows all objects."""
        if batch.regions is None or not batch.phrases:
            return []
        assert isinstance(task, DetectionTask)
        with _autocast(self.accelerator.device, self.recipe):
            output = task.predict(batch)
        regions, targets = batch.regions, batch.targets
        asked = [boxes[valid] for boxes, valid in zip(targets.boxes_cxcywh, targets.valid, strict=True)]
        objects = [regions.boxes_cxcywh[regions.image_index == image] for image in batch.image_index]
        others = [split_objects(own, mine) for own, mine in zip(objects, asked, strict=True)]
        return in_scene_auroc(output.class_logits[-1], output.boxes_cxcywh[-1], asked, others)

    def _event_writer(self, start: int) -> SummaryWriter:
        """TensorBoard then hides what an earlier attempt logged after the checkpoint."""
        return SummaryWriter(str(self.folder.path), purge_step=start + 1)

    def _log(self, writer: SummaryWriter, step: int, kind: str, values: dict[str, float]) -> None:
        self.folder.log({"step": step, "kind": kind, **values})
        for name, value in values.items():
            writer.add_scalar(f"{kind}/{name}", value, step)


def _seed(seed: int, step: int, process: int) -> int:
    """Of what is random within a step; processes draw apart."""
    return seed * 1_000_003 + step + (process << 40)


def _restore(state: dict[str, Any], parts: dict[str, Any]) -> None:
    for name, part in parts.items():
        try:
            part.load_state_dict(state[name])
        except (RuntimeError, ValueError, KeyError) as error:
            reason = shorten(str(error), 300)
            raise TrainingError(
                f"the checkpoint's {name} does not fit ({reason}); was it saved by another version?"
            ) from error


def _autocast(device: torch.device, recipe: Recipe) -> torch.autocast:
    """Torch's own: accelerate would keep the precision of a process's first run for all later ones."""
    return torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bf16")


def _training_attention(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """On a CPU the plain kernels train two to three times faster than the fused ones at these sizes."""
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else contextlib.nullcontext()


def _average(task: DetectionTask, decay: float) -> AveragedModel:
    """Exponential moving average of the weights; batch norm statistics are copied as they are."""
    average = AveragedModel(task, multi_avg_fn=get_ema_multi_avg_fn(decay))  # type: ignore[no-untyped-call]
    average.module.requires_grad_(False)
    return average


def _check_finite(total: Tensor, losses: dict[str, Tensor], step: int) -> None:
    if not torch.isfinite(total):
        bad = [name for name, value in losses.items() if not torch.isfinite(value)]
        raise TrainingError(f"step {step + 1}: loss {', '.join(bad) or 'total'} is not finite")
