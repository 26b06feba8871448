"""A dataset of a few flat pictures on which coloured rectangles lie, and a model that has never seen any."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from conceptseg.checkpoints.folder import save_model_folder
from tests.conftest import make_tiny_segmenter

WIDTH, HEIGHT = 80, 60
COLORS = {1: (220, 40, 40), 2: (40, 200, 60)}
NAMES = {1: "red tile", 2: "leaf"}


def write_tiles(folder: Path, split: str, images: int = 6, seed: int = 0, masks: bool = True) -> Path:
    """Pictures of up to three red and two green rectangles; the last one shows nothing."""
    rng = np.random.default_rng(seed)
    (folder / split).mkdir(parents=True)
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(images):
        pixels = np.full((HEIGHT, WIDTH, 3), 120, np.uint8)
        counts = {1: 1 + number % 3, 2: number % 3} if number < images - 1 else {1: 0, 2: 0}
        for category, count in counts.items():
            for _ in range(count):
                w, h = (int(v) for v in rng.integers(14, 26, 2))
                x, y = int(rng.integers(0, WIDTH - w)), int(rng.integers(0, HEIGHT - h))
                pixels[y : y + h, x : x + w] = COLORS[category]
                corners = [x, y, x + w, y, x + w, y + h, x, y + h]
                shape = {"segmentation": [[float(v) for v in corners]]} if masks else {}
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": number,
                        "category_id": category,
                        "bbox": [x, y, w, h],
                        "area": w * h,
                        "iscrowd": 0,
                        **shape,
                    }
                )
        name = f"{split}_{number}.png"
        Image.fromarray(pixels).save(folder / split / name)
        entries.append({"id": number, "file_name": name, "width": WIDTH, "height": HEIGHT})
    content = {
        "images": entries,
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for number, name in NAMES.items()],
    }
    (folder / split / "_annotations.coco.json").write_text(json.dumps(content))
    return folder


def write_model(folder: Path) -> Path:
    """A model of 60 thousand random weights."""
    segmenter = make_tiny_segmenter()
    save_model_folder(folder, segmenter.detector, segmenter.tokenizer, segmenter.config)
    return folder
