"""The loop learns, stops on what is not finite, and leaves what it promises."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from conceptseg.errors import TrainingError
from conceptseg.losses.detection import LossWeights
from conceptseg.train.job import Work
from conceptseg.train.run_folder import RunFolder
from conceptseg.train.task import Task
from tests.train.tiny import STEPS, TINY, Repeated, StopAfter, draw_losses

Train = Callable[..., RunFolder]
ONE_STAGE = TINY["data"]["stages"][0]


def stages(**changes: Any) -> dict[str, Any]:
    return {"workers": 0, "stages": [{**ONE_STAGE, **changes}]}


def spoiled(step: int, change: Callable[[dict[str, Tensor]], None]) -> Callable[[Work], object]:
    """Change the named losses of one step (counted from 1)."""
    calls = iter(range(1, 1000))

    def spoil(task: Task, inputs: tuple[Any, ...], losses: dict[str, Tensor]) -> None:
        if next(calls) == step:
            change(losses)

    return lambda work: work.task.register_forward_hook(spoil)


@pytest.mark.slow
def test_a_tiny_model_learns_a_handful_of_scenes_by_heart(train: Train) -> None:
    def one_batch(work: Work) -> None:
        work.data = Repeated(work.data)

    changes = {
        "data": stages(steps=30, questions=3, difficulty=[0.0, 0.0]),
        "optimiser": {"lr": 3e-3, "warmup_steps": 3, "final_lr": 1.0},
        "validation_batches": 0,
    }
    lines = train(change=one_batch, **changes).metrics()
    first, last = (sum(line["loss/total"] for line in part) / 3 for part in (lines[:3], lines[-3:]))
    assert last < 0.6 * first
    for name in ("semantic_dice", "presence", "mask_dice"):
        first, last = (sum(line[f"loss/{name}"] for line in part) / 3 for part in (lines[:3], lines[-3:]))
        assert last < first, name


def test_a_loss_that_is_not_finite_stops_the_run_and_is_named(train: Train) -> None:
    spoil = spoiled(5, lambda losses: losses.update(box_giou=losses["box_giou"] * math.nan))
    with pytest.raises(TrainingError, match=r"^step 5: loss box_giou is not finite$"):
        train(change=spoil, validation_batches=0)


def test_what_was_saved_before_a_loss_went_wrong_stays(train: Train, tmp_path: Any) -> None:
    spoil = spoiled(5, lambda losses: losses.update(presence=losses["presence"] + math.inf))
    with pytest.raises(TrainingError, match=r"^step 5: loss presence is not finite$"):
        train(change=spoil, validation_batches=0)
    folder = RunFolder(tmp_path / "run")
    assert torch.load(folder.checkpoint_path, weights_only=True)["step"] == 3
    assert [line["step"] for line in folder.metrics()] == [1, 2, 3, 4]


def test_predictions_that_are_not_finite_are_named_with_the_step(train: Train) -> None:
    def no_scores(work: Work) -> None:
        work.task.detector.scoring.register_forward_hook(lambda scoring, inputs, logits: logits * math.nan)

    # Phrases that are there: without an object nothing is matched, and the loss itself is named.
    data = {**stages(), "questions": {"absent_phrase": 0.0, "other_image": 0.0}}
    with pytest.raises(TrainingError, match=r"^step 1: .*class logits NaN or infinite"):
        train(change=no_scores, data=data)


def test_a_gradient_that_is_not_finite_stops_the_run(train: Train) -> None:
    def steep(losses: dict[str, Tensor]) -> None:
        zero = losses["presence"] * 0
        losses["presence"] = losses["presence"] + zero.sqrt()  # value 0, gradient infinite

    with pytest.raises(TrainingError, match=r"^step 2: the gradient is not finite, though every loss is$"):
        train(change=spoiled(2, steep), validation_batches=0)


def test_a_run_that_is_asked_to_stop_saves_its_step_and_goes_on_from_there(
    train: Train, tmp_path: Any
) -> None:
    changes = {"data": stages(steps=3), "save_every": 100, "validation_batches": 0}
    with pytest.raises(KeyboardInterrupt, match="stopped after step 2; go on with --resume"):
        train(stop=StopAfter(2), **changes)
    folder = RunFolder(tmp_path / "run")
    assert torch.load(folder.checkpoint_path, weights_only=True)["step"] == 2
    train(resume=True, **changes)
    assert [line["step"] for line in folder.metrics()] == [1, 2, 3]


def test_the_run_folder_holds_what_it_promises(train: Train) -> None:
    class Drawn(RunFolder):
        def draw_losses(self) -> None:
            draw_losses(self)

    folder = train(folder=Drawn, data=stages(steps=2))
    assert {path.name for path in folder.path.iterdir() if not path.name.startswith("events.")} == {
        "recipe.yaml",
        "tokenizer.json",
        "metrics.jsonl",
        "losses.png",
        "last.pt",
        "best.safetensors",
        "model",
    }
    events = EventAccumulator(str(folder.path)).Reload()
    logged = [line for line in folder.metrics() if line["kind"] == "train"]
    points = events.Scalars("train/loss/total")
    assert [point.step for point in points] == [line["step"] for line in logged] == [1, 2]
    assert [point.value for point in points] == pytest.approx([line["loss/total"] for line in logged])
    assert (folder.path / "losses.png").stat().st_size > 1000


def test_the_total_is_the_weighted_sum_of_the_named_losses(train: Train) -> None:
    folder = train(data=stages(steps=1), weights={"presence": 7.0}, validation_batches=0)
    (line,) = folder.metrics()
    by_name = LossWeights(presence=7.0).by_name()
    named = {name.removeprefix("loss/"): value for name, value in line.items() if name.startswith("loss/")}
    total = named.pop("total")
    assert total == pytest.approx(sum(by_name[name] * value for name, value in named.items()), rel=1e-5)


def test_the_best_weights_are_those_of_the_lowest_validation_loss(train: Train) -> None:
    kept = []

    class Noting(RunFolder):
        def save_best(self, task: Task) -> None:
            kept.append({name: value.clone() for name, value in task.state_dict().items()})
            super().save_best(task)

    folder = train(folder=Noting, data=stages(steps=4), validate_every=1)
    lines = [line for line in folder.metrics() if line["kind"] == "validation"]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    losses = [line["loss/total"] for line in lines]
    assert len(kept) == sum(loss < min(losses[:i], default=math.inf) for i, loss in enumerate(losses))
    best = load_file(folder.best_path)
    assert all(torch.equal(best[name], value) for name, value in kept[-1].items())
    assert torch.load(folder.checkpoint_path, weights_only=True)["best"] == min(losses)


def test_without_averaging_the_run_ends_with_its_last_weights_and_keeps_no_others(train: Train) -> None:
    folder = train(data=stages(steps=2), ema_decay=0.0, weights_dtype="float32", validation_batches=0)
    state = torch.load(folder.checkpoint_path, weights_only=True)
    model = load_file(folder.model_path / "model.safetensors")
    assert all(torch.equal(value, state["task"][f"detector.{name}"]) for name, value in model.items())
    assert "average" not in state


def test_auxiliary_queries_are_trained_in_the_stages_that_say_so(train: Train) -> None:
    folder = train(validation_batches=0)
    with_them = [any(name.startswith("loss/o2m_") for name in line) for line in folder.metrics()]
    assert with_them == [True] * 4 + [False] * (STEPS - 4)


def test_runs_of_either_precision_follow_one_another_in_a_process(train: Train, tmp_path: Any) -> None:
    """Accelerate would keep the first one's precision."""
    seen = []

    def note(scoring: torch.nn.Module, inputs: tuple[Any, ...], logits: Tensor) -> None:
        seen.append(logits.dtype)

    def listen(work: Work) -> None:
        work.task.detector.scoring.register_forward_hook(note)

    for precision in ("float32", "bf16", "float32"):
        data = stages(steps=1, one_to_many=False)  # scores one set of queries, once
        folder = train(change=listen, precision=precision, data=data, validation_batches=0)
        folder.path.rename(tmp_path / f"{len(seen)}")
    assert seen == [torch.float32, torch.bfloat16, torch.float32]


def test_half_precision_attention_is_a_training_step_s_own(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The switch is the process's; whoever trains in a program does not change its other models."""
    # Of a processor on which plain products train faster in float32, too.
    monkeypatch.setattr("conceptseg.models.cpu.choice.cpu_capabilities", lambda: {"avx512_bf16": True})
    allowed = torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed
    before, inside = allowed(), []

    def note(task: Task, inputs: tuple[Any, ...]) -> None:
        inside.append((task.training, allowed()))

    train(change=lambda work: work.task.register_forward_pre_hook(note), data=stages(steps=2))
    assert {is_allowed for training, is_allowed in inside if training} == {True}
    assert {is_allowed for training, is_allowed in inside if not training} <= {before}
    assert allowed() == before
