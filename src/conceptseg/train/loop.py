"""The training loop of every task: fetch, loss, backward, clip, step, log, validate, save.

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
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.tensorboard import SummaryWriter

from conceptseg.data.batch import Batch
from conceptseg.data.step_batches import StepBatches, batches_from
from conceptseg.errors import TrainingError
from conceptseg.models.cpu.training import training_kernels
from conceptseg.train.progress import TrainingProgress
from conceptseg.train.run_config import RunConfig
from conceptseg.train.run_folder import RunFolder
from conceptseg.train.schedule import build_optimiser, rate_factor
from conceptseg.train.stop import StopRequest, stop_requests
from conceptseg.train.task import Task
from conceptseg.train.validation import Validate


@dataclass
class Trainer:
    """All that the steps of one run share. Each of several processes has one; the main one writes files."""

    config: RunConfig
    task: Task
    data: StepBatches
    validate: Validate | None  # asked by the main process alone
    folder: RunFolder
    accelerator: Accelerator
    stop: StopRequest | None = None  # asked after every step; None: signals alone are listened to

    def run(self, state: dict[str, Any] | None) -> Task:
        """Train to the last step, or until validation has got no better for as long as the recipe says.

        Args:
            state: a checkpoint to go on from; None starts at step 0.

        Returns:
            The task with averaged weights (the last ones when the recipe averages nothing).

        Raises:
            TrainingError: a loss or gradient is not finite, names the loss; or the checkpoint does not fit.
            KeyboardInterrupt: the run was asked to stop; everything up to the last step is saved.
        """
        config, accelerator = self.config, self.accelerator
        average = _average(self.task, config.ema_decay, accelerator.device)
        optimiser = build_optimiser(self.task, config.optimiser)
        start, history = 0, ValidationHistory()
        # `task` is `self.task`, wrapped where several processes share their gradients.
        task, optimiser = accelerator.prepare(self.task, optimiser)
        if state is not None:
            averaged = {} if average is None else {"average": average}
            _restore(state, {"task": self.task, **averaged, "optimiser": optimiser})
            start = int(state["step"])
            history = ValidationHistory(float(state["best"]), int(state.get("stale", 0)))

        with contextlib.ExitStack() as stack:
            stop = self.stop or stack.enter_context(stop_requests())
            writer = stack.enter_context(self._event_writer(start)) if accelerator.is_main_process else None
            batches = stack.enter_context(contextlib.closing(batches_from(self.data, start)))
            progress = stack.enter_context(TrainingProgress(start, config.steps, accelerator.is_main_process))
            for step in range(start, config.steps):
                if self._agreed(history.enough(config.patience)):
                    break
                began = time.perf_counter()
                torch.manual_seed(_seed(config.seed, step, accelerator.process_index))
                batch = next(batches).to(accelerator.device)
                factor = self.task.rate(step) * rate_factor(step, config.steps, config.optimiser)
                for group in optimiser.param_groups:
                    group["lr"] = group["peak_lr"] * factor
                task.train()
                self.task.begin_step(step)
                optimiser.zero_grad(set_to_none=True)
                with training_kernels(batch.pixels, config.precision == "bf16"):
                    losses, total = self._backward(task, batch, step)
                norm = accelerator.clip_grad_norm_(task.parameters(), config.optimiser.clip_norm)
                if not torch.isfinite(norm):
                    raise TrainingError(f"step {step + 1}: the gradient is not finite, though every loss is")
                optimiser.step()
                if average is not None:
                    average.update_parameters(self.task)

                done = step + 1
                last = done == config.steps
                rate = batch.examples * accelerator.num_processes / (time.perf_counter() - began)
                progress.advance(done, float(total), rate)
                if writer is not None and (done % config.log_every == 0 or last):
                    values = {f"loss/{name}": float(value) for name, value in losses.items()}
                    values |= {"loss/total": float(total), "gradient_norm": float(norm)}
                    values |= {"lr": optimiser.param_groups[0]["lr"], "pairs_per_second": rate}
                    self._log(writer, done, "train", values)
                if writer is not None and (done % config.validate_every == 0 or last):
                    self._validate_now(self._kept(average), writer, done, history)
                stopping = self._agreed(stop.requested)
                if writer is not None and (done % config.save_every == 0 or last or stopping):
                    # What was logged goes to disk first: a resume from this checkpoint does not log it again.
                    writer.flush()
                    states = {"task": self.task.state_dict()}
                    if average is not None:
                        states["average"] = average.state_dict()
                    progressed = {"step": done, "best": history.best, "stale": history.stale}
                    progressed["processes"] = accelerator.num_processes
                    self.folder.save({**states, "optimiser": optimiser.state_dict(), **progressed})
                if stopping:
                    raise KeyboardInterrupt(f"stopped after step {done}; go on with --resume")
        return self._kept(average)

    def _kept(self, average: AveragedModel | None) -> Task:
        """What the run would end with now."""
        if average is None:
            return self.task
        assert isinstance(average.module, Task)
        return average.module

    def _backward(self, task: torch.nn.Module, batch: Batch, step: int) -> tuple[dict[str, Tensor], Tensor]:
        """Gradients of one step, part by part where the recipe accumulates; its losses without gradient."""
        num_boxes = self._num_boxes(batch)
        weights = self.task.loss_weights(step)
        parts = batch.split(self.config.accumulate)
        summed: dict[str, Tensor] = {}
        for number, part in enumerate(parts):
            # Means over pairs are weighed by pairs, sums over boxes divided by those of the whole batch.
            share = part.examples / batch.examples
            is_last = number == len(parts) - 1
            # Processes exchange gradients once per step, with the last part.
            with contextlib.nullcontext() if is_last else self.accelerator.no_sync(task):
                losses = self._losses(task, part, num_boxes * share, step)
                total = torch.stack([weights[name] * value for name, value in losses.items()]).sum()
                _check_finite(total, losses, step)
                self.accelerator.backward(total * share)
            for name, value in losses.items():
                summed[name] = summed.get(name, torch.zeros_like(value)) + value.detach() * share
        return summed, torch.stack([weights[name] * value for name, value in summed.items()]).sum()

    def _losses(self, task: torch.nn.Module, batch: Batch, num_boxes: Tensor, step: int) -> dict[str, Tensor]:
        try:
            with _autocast(self.accelerator.device, self.config):
                losses: dict[str, Tensor] = task(batch, num_boxes)
        except TrainingError as error:  # matching meets what is not finite before any loss does
            raise TrainingError(f"step {step + 1}: {error}") from error
        return losses

    def _num_boxes(self, batch: Batch) -> Tensor:
        """Objects in the batch, mean over processes, at least one."""
        count: Tensor = self.accelerator.reduce(batch.targets.valid.sum().float(), reduction="mean")
        return count.clamp(min=1)

    def _agreed(self, asked: bool) -> bool:
        """Whether any process wants to stop: all leave after the same step, or some would wait on."""
        if self.accelerator.num_processes == 1:
            return asked
        wish = torch.tensor(float(asked), device=self.accelerator.device)
        return bool(self.accelerator.reduce(wish, reduction="sum") > 0)

    @torch.no_grad()
    def _validate_now(self, task: Task, writer: SummaryWriter, step: int, history: ValidationHistory) -> None:
        """Validate, log it, and keep the weights if they are the best so far."""
        if self.validate is not None:
            task.eval()
            try:
                found = self.validate(task, step - 1)
            except TrainingError as error:
                raise TrainingError(f"step {step}: {error}") from error
            self._log(writer, step, "validation", found.values)
            if history.note(found.cost):
                self.folder.save_best(task)
        self.folder.draw_losses()

    def _event_writer(self, start: int) -> SummaryWriter:
        """TensorBoard then hides what an earlier attempt logged after the checkpoint."""
        return SummaryWriter(str(self.folder.path), purge_step=start + 1)

    def _log(self, writer: SummaryWriter, step: int, kind: str, values: dict[str, float]) -> None:
        self.folder.log({"step": step, "kind": kind, **values})
        for name, value in values.items():
            writer.add_scalar(f"{kind}/{name}", value, step)


@dataclass
class ValidationHistory:
    """What validation has found so far."""

    best: float = float("inf")  # lowest cost
    stale: int = 0  # validations since then

    def note(self, cost: float) -> bool:
        """Whether this is the best so far."""
        better = cost < self.best
        self.best, self.stale = (cost, 0) if better else (self.best, self.stale + 1)
        return better

    def enough(self, patience: int | None) -> bool:
        return patience is not None and self.stale >= patience


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


def _autocast(device: torch.device, config: RunConfig) -> torch.autocast:
    """Torch's own: accelerate would keep the precision of a process's first run for all later ones."""
    return torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16")


def _average(task: Task, decay: float, device: torch.device) -> AveragedModel | None:
    """Exponential moving average of the weights; batch norm statistics are copied as they are.

    None where nothing is averaged: a second model would be paid for in memory and in every checkpoint.
    """
    if not decay:
        return None
    average = AveragedModel(task, multi_avg_fn=get_ema_multi_avg_fn(decay))  # type: ignore[no-untyped-call]
    average.module.requires_grad_(False)
    return average.to(device)


def _check_finite(total: Tensor, losses: dict[str, Tensor], step: int) -> None:
    if not torch.isfinite(total):
        bad = [name for name, value in losses.items() if not torch.isfinite(value)]
        raise TrainingError(f"step {step + 1}: loss {', '.join(bad) or 'total'} is not finite")
