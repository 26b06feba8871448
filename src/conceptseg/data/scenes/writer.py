"""Scenes on disk: a dataset in COCO layout that any tool reads.

    FOLDER/SPLIT/_annotations.coco.json
    FOLDER/SPLIT/000000.jpg ...

Categories are phrases, and there is one annotation per (phrase, object). Beside the usual fields an image has
`absent_phrases` (true of nothing in it), `families` (look in full -> annotation ids: what one example box
means), `theme` (pairs of neighbours share one) and `greyscale`.
"""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from conceptseg.data.scenes.scene import Scene, render_scene
from conceptseg.errors import DataError, OptionError

ANNOTATIONS = "_annotations.coco.json"
_GENERATOR = "conceptseg scenes"
_CHUNK = 25  # scenes that a worker makes before it reports
# Seeds of a dataset do not run into those of the next one before this many scenes.
_SEED_STEP = 1_000_000_000


@dataclass(frozen=True)
class _Job:
    """Some neighbouring scenes of a dataset."""

    numbers: range
    folder: str
    seed: int
    size: int
    split: str
    difficulty: float
    image_format: str


def make_scenes(
    folder: str | os.PathLike[str],
    count: int,
    seed: int,
    *,
    size: int = 256,
    split: str = "train",
    workers: int = 1,
    image_format: str = "jpg",
    difficulty: float = 1.0,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write a dataset of scenes; the same arguments write the same bytes, whatever the number of workers.

    The split's folder appears when it is complete; an interrupted run leaves the one before it as it was.

    Args:
        folder: the split becomes a folder in it.
        workers: processes; 0 takes one per core.
        image_format: "jpg", or "png" without loss.
        overwrite: replace a folder that holds something else too. One that holds scenes is always replaced.
        progress: called with the number of scenes that are done and the number wanted.

    Returns:
        The file of annotations.

    Raises:
        OptionError: an argument is out of its range.
        DataError: the split's folder holds something else, or cannot be written.
    """
    if count < 1:
        raise OptionError(f"count is {count}; make at least one scene")
    if workers < 0:
        raise OptionError(f"workers is {workers}; give a number of processes, or 0 for one per core")
    if image_format not in ("jpg", "png"):
        raise OptionError(f'unknown image format "{image_format}"; choose jpg or png')
    # Wrong sizes, splits and difficulties are refused here, before any folder is touched.
    render_scene(seed * _SEED_STEP, size=size, split=split, difficulty=difficulty)

    target = Path(folder) / split
    _refuse_foreign(target, overwrite)
    partial = target.with_name(f".{split}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        images: list[dict[str, Any]] = []
        jobs = [
            _Job(numbers, str(partial), seed, size, split, difficulty, image_format)
            for numbers in _chunks(count)
        ]
        for records in _run(jobs, workers or os.cpu_count() or 1):
            images += records
            if progress is not None:
                progress(len(images), count)
        info = {
            "description": f"scenes, split {split}, seed {seed}, {size} px, difficulty {difficulty:g}",
            "generator": _GENERATOR,
        }
        text = json.dumps(_assemble(images, info), separators=(",", ":"), ensure_ascii=True)
        (partial / ANNOTATIONS).write_text(text + "\n", encoding="utf-8")
        _swap(partial, target)
    except OSError as error:
        raise DataError(f"cannot write scenes to {target}: {error.strerror or error}") from error
    except BrokenProcessPool as error:
        raise DataError(f"a process that made scenes for {target} was ended from outside") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target / ANNOTATIONS


def _chunks(count: int) -> list[range]:
    return [range(start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK)]


def _refuse_foreign(target: Path, overwrite: bool) -> None:
    """Stop before a folder is replaced that this writer did not make."""
    if not target.exists() or overwrite:
        return
    if not target.is_dir():
        raise DataError(f"{target} is a file; scenes need a folder")
    if not any(target.iterdir()):
        return
    try:
        info = json.loads((target / ANNOTATIONS).read_text(encoding="utf-8"))["info"]
        own = info["generator"] == _GENERATOR
    except (OSError, ValueError, KeyError, TypeError):
        own = False
    if not own:
        raise DataError(
            f"{target} is not empty and does not hold scenes; choose another folder or pass overwrite=True"
        )


def _swap(partial: Path, target: Path) -> None:
    """Put the finished folder in place of the one before it."""
    former = target.with_name(f".{target.name}.former")
    shutil.rmtree(former, ignore_errors=True)
    if target.exists():
        target.rename(former)
    partial.rename(target)
    shutil.rmtree(former, ignore_errors=True)


def _run(jobs: list[_Job], workers: int) -> Iterator[list[dict[str, Any]]]:
    """The records of all jobs, in order."""
    if workers == 1 or len(jobs) == 1:
        yield from map(_write_chunk, jobs)
        return
    # Spawned, not forked: a fork would copy the locks of threads the caller has running (torch).
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(jobs)), mp_context=context) as pool:
        yield from pool.map(_write_chunk, jobs)


def _write_chunk(job: _Job) -> list[dict[str, Any]]:
    records = []
    for number in job.numbers:
        own_seed = job.seed * _SEED_STEP + number
        scene = render_scene(
            own_seed, size=job.size, theme=own_seed // 2, difficulty=job.difficulty, split=job.split
        )
        name = f"{number:06d}.{job.image_format}"
        (Path(job.folder) / name).write_bytes(_encoded(scene.image, job.image_format))
        records.append(_record(scene, name, own_seed))
    return records


def _encoded(pixels: np.ndarray[Any, np.dtype[np.uint8]], image_format: str) -> bytes:
    buffer = io.BytesIO()
    if image_format == "jpg":
        Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
    else:
        Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _record(scene: Scene, name: str, seed: int) -> dict[str, Any]:
    """All of a scene but its pixels, small enough to travel between processes."""
    shapes = []
    for it in scene.objects:
        encoded = coco_mask.encode(np.asfortranarray(it.mask.astype(np.uint8)))
        x0, y0, x1, y1 = it.box_xyxy
        shapes.append(
            {
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "area": int(np.count_nonzero(it.mask)),
                "iscrowd": 0,
                "segmentation": {"size": list(it.mask.shape), "counts": encoded["counts"].decode("ascii")},
            }
        )
    image = {
        "file_name": name,
        "width": scene.image.shape[1],
        "height": scene.image.shape[0],
        "absent_phrases": scene.absent_phrases,
        "seed": seed,
        "theme": scene.theme,
        "greyscale": scene.greyscale,
    }
    return {"image": image, "shapes": shapes, "phrases": scene.phrases, "families": scene.families}


def _assemble(records: list[dict[str, Any]], info: dict[str, str]) -> dict[str, Any]:
    """The COCO file: categories in the order of the alphabet, numbered from 1 as all COCO files are."""
    phrases = sorted({phrase for record in records for phrase in record["phrases"]})
    category = {phrase: number for number, phrase in enumerate(phrases, start=1)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, record in enumerate(records, start=1):
        ids: dict[tuple[str, int], int] = {}
        for phrase, members in record["phrases"].items():
            for member in members:
                ids[phrase, member] = len(annotations) + 1
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": image_id,
                        "category_id": category[phrase],
                        **record["shapes"][member],
                    }
                )
        families = {
            family: [ids[family, member] for member in members]
            for family, members in record["families"].items()
        }
        images.append({"id": image_id, **record["image"], "families": families})
    return {
        "info": info,
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": [{"id": number, "name": phrase} for phrase, number in category.items()],
    }
