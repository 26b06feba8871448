"""Time and memory of one distillation step with random weights, at the released size or a smaller one.

    python benchmarks/distillation_step.py --teacher sam3 --student sam3-repvit --stage 1 --images 1
    python benchmarks/distillation_step.py --student sam3-repvit --stage 2 --images 1 --checkpoint
    python benchmarks/distillation_step.py --teacher nano --student nano-student --stage 2 --resolution 192

Weights are random, so losses mean nothing; time and memory do not depend on them. Prints a Markdown table of
one row: seconds of a step (mean of those after the first), of processor time, and the highest resident memory
of the process (on CUDA, of the device).
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Sequence

import torch

from conceptseg.data.scene_batches import SceneBatches, scene_vocabulary
from conceptseg.distil.recipe import DistilDataConfig, DistilRecipe
from conceptseg.distil.student import make_student
from conceptseg.distil.tasks import EncoderDistillation, FusionDistillation, LabelledDistillation
from conceptseg.distil.teacher import Teacher
from conceptseg.losses.detection import DetectionLoss
from conceptseg.models.build import build_detector
from conceptseg.models.config import ModelConfig, PreprocessingConfig
from conceptseg.models.detector import Detector
from conceptseg.models.presets import PRESETS
from conceptseg.models.text.tokenizer import Tokenizer, train_tokenizer
from conceptseg.train.recipe_file import read_recipe
from conceptseg.train.recompute import forget_activations
from conceptseg.train.schedule import build_optimiser

HEADINGS = (
    "teacher",
    "student",
    "stage",
    "images",
    "pairs",
    "pixels",
    "device",
    "seconds",
    "processor",
    "GiB",
)


def measure(
    teacher: str,
    student: str,
    stage: int,
    images: int,
    resolution: int,
    steps: int,
    device: str,
    checkpoint: bool = False,
) -> list[str]:
    """One row of the table; `steps` are timed after one that is not."""
    recipe: DistilRecipe = read_recipe(DistilRecipe, f"distil-{stage}")
    made = build_teacher(teacher, resolution)
    detector, tokenizer, config, _ = make_student(
        (made.detector("cpu"), made.tokenizer, made.config), student, {}, None
    )
    task = build_task(recipe, detector, made, config.preprocessing).to(device)
    if recipe.trainable:
        task.train_only(recipe.trainable)
    if checkpoint:
        forget_activations(task.detector)
    optimiser = build_optimiser(task, recipe.optimiser)
    data = DistilDataConfig(
        images=2 * -(-images // 2), questions=1, render_size=min(resolution, 512), workers=0
    )
    batches = SceneBatches(DistilRecipe(data=data, steps=steps + 1).scenes(), tokenizer, seed=0)
    wall, processor, pairs = 0.0, 0.0, 0
    for step in range(steps + 1):
        batch = batches[step].to(device)
        batch = batch.split(2)[0] if images == 1 else batch
        began, busy = time.perf_counter(), time.process_time()
        task.train()
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            losses = task(batch, torch.tensor(1.0, device=device))
        optimiser.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()
        optimiser.step()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        if step:
            wall, processor = wall + time.perf_counter() - began, processor + time.process_time() - busy
        pairs = len(batch.phrases)
    numbers = [f"{wall / steps:.2f}", f"{processor / steps:.2f}", f"{peak_gib(device):.2f}"]
    return [
        teacher,
        student,
        str(stage),
        str(len(batch.pixels)),
        str(pairs),
        str(resolution),
        device,
        *numbers,
    ]


def build_task(
    recipe: DistilRecipe, detector: Detector, teacher: Teacher, given: PreprocessingConfig
) -> EncoderDistillation:
    """What the stage trains, as `conceptseg distill` does."""
    common = (detector, teacher, given, recipe.weights)
    if recipe.stage == 1:
        return EncoderDistillation(*common)
    if recipe.stage == 2:
        task = FusionDistillation(*common, recipe.masks)
    else:
        loss = DetectionLoss(recipe.loss)
        task = LabelledDistillation(*common, recipe.masks, loss, recipe.labels, recipe.labels_share)
    task.use_one_to_many(False)
    return task


def build_teacher(preset: str, resolution: int) -> Teacher:
    """Random weights, and a tokenizer of the words of scenes."""
    architecture = PRESETS[preset]
    vocabulary = train_tokenizer(scene_vocabulary(50), min(architecture.text.vocab_size, 1024))
    tokenizer = Tokenizer(vocabulary, architecture.text.context_length)
    config = ModelConfig(architecture, PreprocessingConfig(resolution))
    return Teacher(build_detector(architecture), tokenizer, config)


def peak_gib(device: str) -> float:
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # KiB on Linux


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--teacher", default="sam3", choices=PRESETS)
    parser.add_argument("--student", default="sam3-repvit", choices=PRESETS)
    parser.add_argument("--stage", type=int, default=1, choices=(1, 2, 3))
    parser.add_argument("--images", type=int, default=1)
    parser.add_argument("--resolution", type=int, default=1008)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--checkpoint", action="store_true", help="as checkpoint_activations=true in a recipe"
    )
    row = measure(**vars(parser.parse_args(arguments)))
    print("| " + " | ".join(HEADINGS) + " |")
    print("| --- |" + " ---: |" * (len(HEADINGS) - 1))
    print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
