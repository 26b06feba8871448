"""G12: what the remedies cost, beside a whole answer and a whole training step, vision encoder included.

Every variant answers the same box on the same picture, turn by turn in one process, so that whatever else the
machine does falls on all of them; and trains one step of the same batch with everything trainable. Times are
processor time; arithmetic is what torch counts. Memory is what autograd keeps of one step, each tensor once,
weights left out. Weights are as they are loaded or fresh: costs do not depend on their values.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.optim import AdamW

from conceptseg.benchmark.flops import counting_flops
from conceptseg.data.batch import Batch
from conceptseg.data.question_config import QuestionConfig
from conceptseg.data.scenes import Scene
from conceptseg.evidence.measurement import Line, Measurement, Options, Row, Verdict
from conceptseg.evidence.pictures import Pictures, choose_object, shown
from conceptseg.exemplars.align_run import with_encoder
from conceptseg.exemplars.pool import PoolBatches, PoolConfig
from conceptseg.images import model_input
from conceptseg.losses.alignment import ANALYSED, AlignmentConfig
from conceptseg.losses.detection import DetectionLoss, LossWeights
from conceptseg.models.boxes import pixels_to_cxcywh
from conceptseg.models.config import (
    AdaptiveConfig,
    AnyExemplarConfig,
    BridgeConfig,
    RoiTransformerConfig,
    UnifiedConfig,
)
from conceptseg.models.detector import Detector
from conceptseg.models.prompts import GeometricPrompt
from conceptseg.prompts import VISUAL
from conceptseg.segmenter import Segmenter
from conceptseg.study.intervals import Bootstrap, numbers
from conceptseg.study.table import Table
from conceptseg.train.exemplar_alignment import AlignTask, ExemplarAlignment

OTHERS: tuple[type[AnyExemplarConfig], ...] = (
    RoiTransformerConfig,
    UnifiedConfig,
    BridgeConfig,
    AdaptiveConfig,
)
LOSSES = {
    "no alignment": AlignmentConfig(contrastive="none", distillation=False),
    "contrastive": dataclasses.replace(ANALYSED, distillation=False),
    "distillation": dataclasses.replace(ANALYSED, contrastive="none"),
    "both": ANALYSED,
}
NONE, BOTH = "no alignment", "both"
# What the analysis expects: (low, high) of the increase.
EXPECTED = {
    "both losses: time of a training step": (0.05, 0.08),
    "both losses: memory of activations": (0.15, 0.20),
    "both losses: memory of gradients": (0.10, 0.15),
    "unified: arithmetic of a whole answer": (0.10, 0.15),
    "adaptive: time of a whole answer": (0.08, 0.12),
}


class ComponentCosts(Measurement):
    claim = "G12"
    changed = "the exemplar encoder, and the alignment losses"
    least = 30
    pictures = 40  # rounds
    together = 4
    photographs = False

    def measure(
        self, segmenter: Segmenter, pictures: Pictures, numbers: range, options: Options
    ) -> list[Row]:
        encoders = all_encoders(segmenter)
        tasks = {name: whole_task(segmenter, config) for name, config in LOSSES.items()}
        optimisers = {
            name: AdamW(task.parameters(), lr=0.0, weight_decay=0.0) for name, task in tasks.items()
        }
        rows: list[Row] = []
        for number in numbers:
            scene = pictures.scene(number)
            rng = np.random.default_rng([options.seed, 71, number])
            it = choose_object(shown(scene), rng)
            if it is None:
                continue
            asked = question(segmenter, scene, it.box_xyxy)
            row: Row = {"scene": number}
            answers = {name: _answering(detector, asked) for name, detector in encoders.items()}
            for name, seconds in turn_by_turn(answers, rng, warm=not rows).items():
                row[f"answer, seconds: {name}"] = seconds
            for name, detector in encoders.items():  # what hardly differs is counted once per piece
                row[f"answer, gigaflop: {name}"] = None if rows else gigaflop(detector, answers[name])
            beside = pictures.another(number)
            data = PoolBatches(
                PoolConfig(
                    scenes=2,
                    pairs=1,
                    questions_per_image=2,
                    resolution=segmenter.resolution,
                    render_size=max(64, segmenter.resolution),
                    questions=QuestionConfig(
                        phrase=0.0, absent_phrase=0.0, boxes=1.0, phrase_and_boxes=0.0, other_image=0.0
                    ),
                ),
                [scene, beside],
                segmenter.tokenizer,
                seed=number,
                steps=1,
            )
            batch = data[0]
            steps = {name: _training(task, batch, optimisers[name]) for name, task in tasks.items()}
            for name, seconds in turn_by_turn(steps, rng, warm=not rows).items():
                row[f"step, seconds: {name}"] = seconds
            for name, task in tasks.items():
                kept, gradients = (None, None) if rows else step_memory(task, batch)
                row[f"step, activations in MB: {name}"], row[f"step, gradients in MB: {name}"] = (
                    kept,
                    gradients,
                )
            rows.append(row)
        return rows

    def lines(self, table: Table) -> list[Line]:
        draws = Bootstrap(table.column("scene"))
        first, *others = [name.split(": ")[1] for name in table.rows[0] if name.startswith("answer, seconds")]

        def more(what: str, name: str, base: str, words: str) -> Line:
            value = draws.ratio(
                numbers(table.column(f"{what}: {name}")) - numbers(table.column(f"{what}: {base}")),
                table.column(f"{what}: {base}"),
            )
            return Line(words, value, "+.1%", group="beside the baseline")

        lines = [
            Line(
                f"{first}: seconds of a whole answer",
                draws.mean(table.column(f"answer, seconds: {first}")),
                ".3f",
                True,
            ),
            Line(
                f"{first}: gigaflop of a whole answer",
                draws.mean(table.column(f"answer, gigaflop: {first}")),
                ".3f",
                True,
            ),
            Line(
                "no alignment: seconds of a whole training step",
                draws.mean(table.column(f"step, seconds: {NONE}")),
                ".3f",
                True,
            ),
        ]
        for name in others:
            lines.append(more("answer, gigaflop", name, first, f"{name}: arithmetic of a whole answer"))
            lines.append(more("answer, seconds", name, first, f"{name}: time of a whole answer"))
        for name in list(LOSSES)[1:]:
            words = "both losses" if name == BOTH else name
            lines.append(more("step, seconds", name, NONE, f"{words}: time of a training step"))
            lines.append(more("step, activations in MB", name, NONE, f"{words}: memory of activations"))
            lines.append(more("step, gradients in MB", name, NONE, f"{words}: memory of gradients"))
        return lines

    def verdict(self, lines: dict[str, Line]) -> Verdict:
        effect = tuple(EXPECTED)
        held = {
            name: low <= lines[name].estimate.high and lines[name].estimate.low <= high
            for name, (low, high) in EXPECTED.items()
        }
        below = all(lines[name].estimate.below(low) for name, (low, _) in EXPECTED.items())
        expected = "; ".join(f"{name} +{low:.0%} to +{high:.0%}" for name, (low, high) in EXPECTED.items())
        if all(held.values()):
            return Verdict("confirmed", f"all as expected ({expected})", effect)
        if not any(held.values()):
            less = "all cost less" if below else "none costs what was expected"
            return Verdict("refuted", f"{less} ({expected})", effect)
        right = ", ".join(name for name, ok in held.items() if ok)
        return Verdict("depends", f"on the cost: as expected {right} (expected: {expected})", effect)


@dataclasses.dataclass(frozen=True)
class Question:
    """One box on one picture, as tensors."""

    pixels: Tensor  # (1, 3, R, R)
    token_ids: Tensor  # (1, T)
    geometry: GeometricPrompt


def all_encoders(segmenter: Segmenter) -> dict[str, Detector]:
    """The model with its own encoder, and with every other of the same sizes."""
    own = segmenter.config.architecture.exemplar
    found: dict[str, Detector] = {own.kind: segmenter.detector}
    sizes = {name: getattr(own, name) for name in ("layers", "heads", "mlp_width", "roi_size", "dropout")}
    for kind in OTHERS:
        config = kind(**sizes)
        if config.kind not in found:
            detector, changed = with_encoder(segmenter.trainable(), segmenter.config, config, fresh=True)
            found[config.kind] = Segmenter(
                detector,
                segmenter.tokenizer,
                changed,
                device=segmenter.device,
                resolution=segmenter.resolution,
            ).detector
    return found


def whole_task(segmenter: Segmenter, alignment: AlignmentConfig) -> AlignTask:
    """Detection from example boxes with these alignment losses, everything trainable."""
    config = segmenter.config
    detector, config = with_encoder(segmenter.trainable(), config, config.architecture.exemplar, fresh=False)
    losses = ExemplarAlignment(config.architecture.width, alignment)
    task = AlignTask(detector, DetectionLoss(), config.preprocessing, LossWeights(), losses)
    task.use_one_to_many(config.architecture.decoder.one_to_many)
    return task


def question(segmenter: Segmenter, scene: Scene, box_xyxy: tuple[float, float, float, float]) -> Question:
    preprocessing = segmenter.config.preprocessing
    pixels = model_input(scene.image, segmenter.resolution, preprocessing.mean, preprocessing.std)
    boxes = pixels_to_cxcywh([box_xyxy], scene.image.shape[:2])[None]
    return Question(
        pixels[None],
        segmenter.tokenizer([VISUAL]),
        GeometricPrompt(boxes, torch.ones(1, 1, dtype=torch.long)),
    )


def turn_by_turn(
    variants: dict[str, Callable[[], object]], rng: np.random.Generator, warm: bool = False
) -> dict[str, float]:
    """Processor seconds of each, in an order drawn anew.

    Args:
        variants: what is timed.
        rng: draws the order.
        warm: run all once before, uncounted: first runs set things up.
    """
    names = list(variants)
    order = [names[i] for i in rng.permutation(len(names))]
    for name in (*(order if warm else ()), order[-1]):  # what ran before has left its traces in the caches
        variants[name]()
    seconds = {}
    for name in order:
        began = time.process_time()
        variants[name]()
        seconds[name] = time.process_time() - began
    return {name: seconds[name] for name in names}


def gigaflop(detector: Detector, work: Callable[[], object]) -> float:
    """As torch counts it."""
    with counting_flops(detector) as counter:
        work()
    return float(counter.get_total_flops()) / 1e9


def step_memory(task: AlignTask, batch: Batch) -> tuple[float, float]:
    """Megabytes that autograd keeps between the way forth and back, and of gradients."""
    own = {parameter.untyped_storage().data_ptr() for parameter in task.parameters()}
    kept: dict[int, int] = {}
    alive = []  # storages that are freed on the way would give their addresses to others

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
            alive.append(storage)
        return tensor.detach()  # itself would hold the step that holds it, and neither were ever freed

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        _backward(task, batch)
    gradients = sum(p.grad.nbytes for p in task.parameters() if p.grad is not None)
    task.zero_grad(set_to_none=True)
    return sum(kept.values()) / 1e6, gradients / 1e6


def _answering(detector: Detector, asked: Question) -> Callable[[], object]:
    def answer() -> object:
        with torch.inference_mode():
            return detector(asked.pixels, asked.token_ids, asked.geometry)

    return answer


def _training(task: AlignTask, batch: Batch, optimiser: AdamW) -> Callable[[], object]:
    """One whole step: forth, back and the optimiser, at a rate of 0 so that every step is the first."""

    def step() -> None:
        _backward(task, batch)
        optimiser.step()
        optimiser.zero_grad()

    return step


def _backward(task: AlignTask, batch: Batch) -> None:
    task.train()
    torch.manual_seed(0)
    losses = task(batch, batch.targets.valid.sum().clamp(min=1).float())
    weights = task.loss_weights(0)
    total = torch.stack([weights[name] * value for name, value in losses.items()]).sum()
    total.backward()  # type: ignore[no-untyped-call]
