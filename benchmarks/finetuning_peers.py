"""What one would otherwise train: Mask R-CNN or Faster R-CNN of torchvision, from scratch, on the same data.

    python benchmarks/finetuning_peers.py data/nuclei --minutes 60 --out peers/nuclei
    python benchmarks/finetuning_peers.py data/cells --minutes 60 --out peers/cells --backbone resnet50

Data with masks trains Mask R-CNN, data with boxes alone Faster R-CNN; one class per phrase. The budget is
processor time of this process with one thread, so that other programs do not take any of it; what is held out
is then asked by `conceptseg.evaluation.evaluate` itself, outside the budget. No weights can be had offline,
so both start from random ones.

Made to do well in little time: rate and schedule for training from scratch (AdamW, warm-up, cosine over the
budget, bfloat16), images and anchors of the size that the objects of the training split ask for, flips and
scales, room for 300 objects, batch norm in pyramid and heads too (He et al. 2019, arXiv:1811.08883).
"mobilenet" has maps at 1/4 and 1/8 of the image, which small objects need and torchvision's own lacks, and
half as wide a pyramid and heads, which are most of the work on a CPU.

Needs the extra `test`. Writes peer.json and peer.md.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import mobilenet_v3_large
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from conceptseg.data.concept_data import ConceptDataset, ConceptImage, open_dataset
from conceptseg.evaluation.evaluate import evaluate
from conceptseg.evaluation.questions import LEAST_SCORE
from conceptseg.images import Pixels, load_image
from conceptseg.result import Result

LEVELS = 4  # maps of different resolution
RATIOS = (0.5, 1.0, 2.0)  # of an anchor's height to its width
MOST_OBJECTS = 300  # that are found in an image
REGIONS = 128  # of an image that the heads learn from, at each step
TYPICAL_OBJECT = 20  # pixels that a median object should have on the image that is read
SIDES = (256, 512)  # shortest and longest side that comes of it
JITTER = (0.8, 0.9, 1.0, 1.1, 1.25)  # scales of an image while training
WEIGHT_DECAY, CLIP_NORM = 0.05, 5.0
MOST_SKIPPED = 100  # steps whose loss or gradient is not finite; they change nothing, as in mixed precision


@dataclass(frozen=True)
class Sizes:
    """What the training split asks for."""

    side: int  # pixels of the shorter side of an image
    anchors: tuple[tuple[int, ...], ...]  # per level

    @classmethod
    def of(cls, dataset: ConceptDataset, side: int | None = None) -> Sizes:
        """From the objects of a split: their sizes relative to the shorter side of their images."""
        relative = np.array(
            [
                math.sqrt((x1 - x0) * (y1 - y0)) / min(image.width, image.height)
                for image in dataset
                for objects in image.phrases.values()
                for x0, y0, x1, y1 in (it.box_xyxy for it in objects)
            ]
        )
        if side is None:
            side = int(np.clip(TYPICAL_OBJECT / np.median(relative), *SIDES)) // 32 * 32
        low, high = np.quantile(relative, (0.05, 0.95)) * side
        # Two anchors per level, evenly from small to large objects, and never less than the finest stride.
        steps = np.geomspace(max(low, 6), max(high, 12), 2 * LEVELS).round().astype(int)
        pairs = tuple((int(steps[2 * i]), int(steps[2 * i + 1])) for i in range(LEVELS))
        return cls(side, pairs)


def build(backbone: str, classes: int, sizes: Sizes, masks: bool) -> nn.Module:
    """Mask R-CNN or Faster R-CNN with random weights; `classes` counts the background."""
    body = BACKBONES[backbone]()
    width, levels = body.out_channels, len(sizes.anchors)
    anchors = AnchorGenerator(sizes.anchors, (RATIOS,) * levels)
    maps = ["0", "1", "2", "3"]
    parts: dict[str, Any] = {
        "min_size": tuple(int(sizes.side * factor) for factor in JITTER),
        "max_size": 2 * SIDES[1],
        "image_mean": [0.5] * 3,
        "image_std": [0.25] * 3,
        "rpn_anchor_generator": anchors,
        "rpn_head": RPNHead(width, anchors.num_anchors_per_location()[0]),
        "rpn_pre_nms_top_n_train": 1000,
        "rpn_post_nms_top_n_train": 1000,
        "box_roi_pool": MultiScaleRoIAlign(maps, 7, 2),
        "box_head": FastRCNNConvFCHead((width, 7, 7), [width] * 2, [4 * width], norm_layer=nn.BatchNorm2d),
        "box_predictor": FastRCNNPredictor(4 * width, classes),
        "box_batch_size_per_image": REGIONS,
        "box_score_thresh": LEAST_SCORE,
        "box_detections_per_img": MOST_OBJECTS,
    }
    if not masks:
        return FasterRCNN(body, **parts)
    return MaskRCNN(
        body,
        **parts,
        mask_roi_pool=MultiScaleRoIAlign(maps, 14, 2),
        mask_head=MaskRCNNHeads(width, [width] * 4, 1, norm_layer=nn.BatchNorm2d),
        mask_predictor=MaskRCNNPredictor(width, width, classes),
    )


def mobilenet() -> nn.Module:
    """MobileNetV3-Large with maps at 1/4, 1/8, 1/16 and 1/32 of the image, 128 channels wide."""
    body = mobilenet_v3_large(weights=None).features
    levels = {"3": 24, "6": 40, "12": 112, "16": 960}  # the last layer of each resolution -> its channels
    return pyramid(body, levels, 128)


def resnet50() -> nn.Module:
    """ResNet-50 with maps at the same resolutions, 256 channels wide, as in the papers."""
    levels = {"layer1": 256, "layer2": 512, "layer3": 1024, "layer4": 2048}
    return pyramid(torchvision.models.resnet50(weights=None), levels, 256)


def pyramid(body: nn.Module, levels: dict[str, int], width: int) -> nn.Module:
    names = {layer: str(level) for level, layer in enumerate(levels)}
    return BackboneWithFPN(body, names, list(levels.values()), width, _NoExtraLevel(), nn.BatchNorm2d)


class _NoExtraLevel(ExtraFPNBlock):
    """Torchvision would add a fifth, coarser map; no object of these sizes is searched there."""

    def forward(
        self, results: list[Tensor], x: list[Tensor], names: list[str]
    ) -> tuple[list[Tensor], list[str]]:
        return results, names


BACKBONES = {"mobilenet": mobilenet, "resnet50": resnet50}


class Examples:
    """Pictures and targets as torchvision's detectors take them; pictures are read once and kept."""

    def __init__(self, dataset: ConceptDataset, classes: Sequence[str], masks: bool, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._classes, self._masks = classes, masks
        self._kept = [(image, load_image(image.path).pixels.copy()) for image in dataset]

    def __len__(self) -> int:
        return len(self._kept)

    def batches(self, size: int) -> Iterator[tuple[list[Tensor], list[dict[str, Tensor]]]]:
        """For ever: shuffled, flipped in both directions at random."""
        size = min(size, len(self._kept))
        while True:
            order = self._random.permutation(len(self._kept))
            for start in range(0, len(order) - size + 1, size):
                chosen = [self._flipped(*self._read(*self._kept[i])) for i in order[start : start + size]]
                yield [image for image, _ in chosen], [target for _, target in chosen]

    def _read(self, image: ConceptImage, pixels: Pixels) -> tuple[Tensor, dict[str, Tensor]]:
        found = [
            (self._classes.index(phrase) + 1, it)
            for phrase, objects in image.phrases.items()
            for it in objects
            if not it.crowd
        ]
        boxes = torch.tensor([it.box_xyxy for _, it in found], dtype=torch.float32).reshape(-1, 4)
        wide = (boxes[:, 2] > boxes[:, 0] + 0.5) & (boxes[:, 3] > boxes[:, 1] + 0.5)
        labels = torch.tensor([label for label, _ in found], dtype=torch.long)
        target = {"boxes": boxes[wide], "labels": labels[wide]}
        if self._masks:
            decoded = [it.decode(image.height, image.width) for _, it in found]
            stacked = np.stack(decoded) if decoded else np.zeros((0, image.height, image.width), bool)
            target["masks"] = torch.from_numpy(stacked.astype(np.uint8))[wide]
        return torch.from_numpy(pixels).permute(2, 0, 1), target

    def _flipped(self, pixels: Tensor, target: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        image, flipped = pixels.float() / 255, dict(target)
        for axis, (low, high) in ((-1, (0, 2)), (-2, (1, 3))):
            if self._random.random() < 0.5:
                continue
            image = image.flip(axis)
            boxes = flipped["boxes"].clone()
            boxes[:, low], boxes[:, high] = (
                image.shape[axis] - flipped["boxes"][:, high],
                image.shape[axis] - flipped["boxes"][:, low],
            )
            flipped["boxes"] = boxes
            if "masks" in flipped:
                flipped["masks"] = flipped["masks"].flip(axis)
        return image, flipped


def train(model: nn.Module, examples: Examples, arguments: argparse.Namespace) -> dict[str, Any]:
    """Until the budget is used up; the rate follows how much of it is left."""
    budget = arguments.minutes * 60
    optimiser = torch.optim.AdamW(model.parameters(), lr=arguments.lr, weight_decay=WEIGHT_DECAY)
    model.train()
    start, wall, shown, steps, skipped = time.process_time(), time.perf_counter(), 0.0, 0, 0
    for images, targets in examples.batches(arguments.batch):
        used = (time.process_time() - start) / budget
        if used >= 1:
            break
        warm = min(1.0, (steps + 1) / arguments.warmup)
        for group in optimiser.param_groups:
            group["lr"] = arguments.lr * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * used)))
        with torch.autocast("cpu", torch.bfloat16):
            losses = model(images, targets)
        total = torch.stack(list(losses.values())).sum()
        optimiser.zero_grad(set_to_none=True)
        total.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
        if torch.isfinite(total) and torch.isfinite(norm):
            optimiser.step()
        else:
            skipped += 1
            if skipped > MOST_SKIPPED:
                raise SystemExit(f"step {steps}: too many losses are not finite; give a lower --lr")
        steps += 1
        if used - shown >= 0.02:
            shown = used
            parts = ", ".join(f"{name.removeprefix('loss_')} {v.item():.3f}" for name, v in losses.items())
            print(f"{used:4.0%} step {steps}: {total.item():.3f} ({parts})", file=sys.stderr, flush=True)
    return {
        "steps": steps,
        "skipped": skipped,
        "epochs": round(steps * arguments.batch / len(examples), 1),
        "processor_seconds": round(time.process_time() - start, 1),
        "wall_seconds": round(time.perf_counter() - wall, 1),
        "last_loss": round(total.item(), 4),
    }


class PeerSegmenter:
    """A trained detector with the methods of `Segmenter` that an evaluation calls."""

    fingerprint, dtype = "torchvision", torch.float32

    def __init__(self, model: nn.Module, name: str, classes: Sequence[str], sizes: Sizes) -> None:
        self.model, self.classes = model.eval(), list(classes)
        self.resolution = sizes.side
        # Evaluated at the size in the middle of those it was trained at.
        model.transform.min_size = (sizes.side,)
        self.config = SimpleNamespace(provenance={"name": name}, presence_mode="multiply")

    @torch.no_grad()
    def encode(self, path: Path) -> SimpleNamespace:
        """Everything that is found in an image; phrases are then read off it."""
        pixels = load_image(path).pixels
        image = torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255
        (found,) = self.model([image])
        return SimpleNamespace(size_hw=pixels.shape[:2], found=found)

    def segment(self, encoded: SimpleNamespace, text: Sequence[str], **options: Any) -> list[Result]:
        """One result per phrase; a phrase that is no class of the training split is nowhere."""
        return [self._of(phrase, encoded) for phrase in text]

    def _of(self, phrase: str, encoded: SimpleNamespace) -> Result:
        found, (height, width) = encoded.found, encoded.size_hw
        label = self.classes.index(phrase) + 1 if phrase in self.classes else -1
        kept = found["labels"] == label  # best score first, as they are
        scores = found["scores"][kept].numpy()
        if "masks" in found:
            masks = (found["masks"][kept, 0] > 0.5).numpy()
        else:
            masks = np.zeros((len(scores), height, width), bool)
        presence = float(scores.max(initial=0.0))
        return Result(
            phrase=phrase,
            image_size=(height, width),
            masks=masks,
            boxes=found["boxes"][kept].numpy(),
            scores=scores,
            class_scores=scores,
            presence=presence,
            presence_logit=math.log(max(presence, 1e-6) / max(1 - presence, 1e-6)),
        )


def row(report: dict[str, Any]) -> str:
    """A line of a Markdown table, with its head."""
    masks, boxes, run = report["metrics"]["masks"], report["metrics"]["boxes"], report["training"]
    cells = [
        f"{report['detector']}, {report['backbone']}",
        f"{report['parameters'] / 1e6:.1f} M",
        f"{run['processor_seconds'] / 60:.0f} min, {run['epochs']:g} epochs",
        *(_percent(value) for value in (masks["map50"], masks["map"], boxes["map50"], boxes["map"])),
        *(_percent(value) for value in (boxes["precision_50"], boxes["recall_50"])),
    ]
    head = (
        "| peer | parameters | trained for | mask AP50 | mask AP | box AP50 | box AP | precision | recall |"
    )
    return f"{head}\n|{' --- |' * len(cells)}\n| {' | '.join(cells)} |\n"


def _percent(value: float) -> str:
    return "" if math.isnan(value) else f"{100 * value:.1f}"


def markdown(report: dict[str, Any]) -> str:
    return (
        f"# {report['detector']} on {report['data']}\n\n"
        "From random weights. The time is processor time of one thread. Figures x100, on the held-out split; "
        "AP is a mean over phrases, precision and recall are of boxes, at IoU 0.5 and score 0.5.\n\n"
        f"{row(report)}\n"
        f"Made by `{report['command']}`.\n"
    )


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder of a dataset, as `conceptseg finetune` takes it")
    parser.add_argument("--backbone", choices=BACKBONES, default="mobilenet")
    parser.add_argument("--minutes", type=float, default=60, help="of processor time, training alone")
    parser.add_argument("--train", default="train", help="split to train on")
    parser.add_argument("--split", default=None, help="split to evaluate on (default: the held-out one)")
    parser.add_argument("--size", type=int, help="shorter side of images, pixels (default: by the objects)")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--lr", type=float, default=3e-4)
    parser.add_argument("--warmup", type=int, default=50, help="steps")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    words = sys.argv[1:] if words is None else words
    arguments = parser.parse_args(words)
    torch.set_num_threads(1)
    torch.manual_seed(arguments.seed)

    training = open_dataset(arguments.data, arguments.train)
    held_out = open_dataset(arguments.data, arguments.split)
    classes, masks = training.phrases, training.has_masks
    sizes = Sizes.of(training, arguments.size)
    model = build(arguments.backbone, len(classes) + 1, sizes, masks)
    print(f"images of {sizes.side} pixels, anchors {sizes.anchors}", file=sys.stderr)
    trained = train(model, Examples(training, classes, masks, arguments.seed), arguments)
    peer: Any = PeerSegmenter(model, arguments.backbone, classes, sizes)
    found = evaluate(peer, held_out, worst=0)
    report = {
        "detector": "Mask R-CNN" if masks else "Faster R-CNN",
        "backbone": arguments.backbone,
        "data": held_out.name,
        "split": held_out.split,
        "command": f"python {' '.join(['benchmarks/finetuning_peers.py', *words])}",
        "parameters": sum(p.numel() for p in model.parameters()),
        "side": sizes.side,
        "anchors": sizes.anchors,
        "threads": torch.get_num_threads(),
        "versions": {"torch": torch.__version__, "torchvision": torchvision.__version__},
        "machine": platform.machine(),
        "training": trained,
        "metrics": found.metrics,
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "peer.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    (arguments.out / "peer.md").write_text(markdown(report), encoding="utf-8")
    print(row(report))
    print(f"wrote {arguments.out}", file=sys.stderr)


if __name__ == "__main__":
    main()
