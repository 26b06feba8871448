"""Call the public API with images, prompts, options and model folders drawn at random, most of them wrong.

    python scripts/fuzz.py --cases 10000
    python scripts/fuzz.py --seed 3 --only 4711      # one case again, with its traceback

Every call must give an answer that holds together, or raise a `ConceptSegError` of one line; any other
exception, any warning and any answer that does not hold together is printed with its number, and the command
ends in 1. The model is a tiny one with random weights.
"""

from __future__ import annotations

import argparse
import copy
import io
import json
import random
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import conceptseg as cs  # noqa: E402  # after the path, as below
from conceptseg.checkpoints.folder import save_model_folder  # noqa: E402
from tests.conftest import make_tiny_segmenter  # noqa: E402

LONGEST_MESSAGE = 1000  # characters
ODD: list[Any] = [
    None, True, False, 0, 1, -1, 2, 7, 10**9, 10**400, -(10**400), 0.0, 0.5, -0.5, 1e-320, 1e300, 1j,
    float("nan"), float("inf"), -float("inf"), np.float32(0.5), np.int64(1), np.bool_(True), np.complex64(1),
    "", " ", "1", "nan", "cat", "\0", "\ud800", "x" * 5000, b"", b"\x89PNG", Path("."), Path("nowhere.png"),
    [], (), {}, set(), [None], [[]], [1], [1, 0], [[1, 0]], [0.5, 0.5], ["1"], {"a": 1}, range(3), iter([1]),
    np.zeros(0), np.zeros((2, 2)), np.array(1), np.array([None, "a"]), np.array([1, 0]), torch.tensor(1),
    torch.tensor([1.0, 0.0]), torch.zeros(0), torch.zeros(2, 2, requires_grad=True), object(), object, len,
]  # fmt: skip
WORDS = [
    "cat",
    "red circle",
    "Über 12 naïve cafés",
    "猫",
    "&nbsp;",
    "e\u0301" * 9,
    "😀" * 40,
    "a\nb\tc",
    "visual",
]
MODES = ["RGB", "L", "P", "RGBA", "LA", "CMYK", "YCbCr", "HSV", "LAB", "1", "I", "F", "I;16"]
FORMATS = ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "ICO", "TGA"]


class Fuzz:
    """What all cases share: two models, a folder, and what the first model makes."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.segmenter, self.other = make_tiny_segmenter(), make_tiny_segmenter(seed=1)
        picture = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
        self.encoded = [model.encode(picture) for model in (self.segmenter, self.other)]
        boxes = [[4, 4, 30, 30], [10, 10, 50, 35]]
        self.kinds = [model.exemplar(picture, boxes, [1, 0]) for model in (self.segmenter, self.other)]
        self.model = scratch / "model"
        save_model_folder(
            self.model, self.segmenter.detector, self.segmenter.tokenizer, self.segmenter.config
        )
        self.calls: list[tuple[int, Callable[[random.Random], None]]] = [
            (50, self.segment),
            (10, self.segment_many),
            (10, self.exemplar),
            (15, self.processor),
            (5, self.result),
            (10, self.folder),
            (2, self.load),
        ]

    def case(self, draw: random.Random) -> bool:
        """One call; whether it was answered, and not refused.

        Raises:
            Exception: whatever the library lets through that it should not.
        """
        weights, calls = zip(*self.calls, strict=True)
        try:
            draw.choices(calls, weights)[0](draw)
            return True
        except cs.ConceptSegError as error:
            message = str(error)
            assert message and "\n" not in message, f"an error of several lines: {message!r}"
            assert len(message) <= LONGEST_MESSAGE, f"an error of {len(message)} characters: {message!r}"
            return False

    def segment(self, draw: random.Random) -> None:
        given = self.question(draw)
        found = self.segmenter.segment(self.image(draw), **given)
        assert isinstance(found, list) == isinstance(given.get("text"), (list, tuple))
        for result in found if isinstance(found, list) else [found]:
            check(result)

    def segment_many(self, draw: random.Random) -> None:
        images = (
            draw.choice(ODD) if draw.random() < 0.1 else [self.image(draw) for _ in range(draw.randint(0, 3))]
        )
        given = self.question(draw)
        for name in ("batch_size", "on_error"):
            if draw.random() < 0.2:
                given[name] = draw.choice(["skip", "raise", 1, 2, *ODD])
        for found in self.segmenter.segment_many(images, **given):
            for result in found if isinstance(found, list) else [found]:
                assert result is not None or given.get("on_error") == "skip"
                if result is not None:
                    check(result)

    def exemplar(self, draw: random.Random) -> None:
        kind = self.segmenter.exemplar(self.image(draw), self.boxes(draw), self.labels(draw))
        assert len(kind.tokens) == len(kind.labels) + 1 and bool(kind.tokens.isfinite().all())
        path = self.scratch / draw.choice(["kind.safetensors", "a/b.safetensors", "model"])
        read = cs.Exemplar.load(kind.save(path))
        assert torch.equal(read.tokens, kind.tokens) and read.labels == kind.labels
        content = bytearray(path.read_bytes())
        for _ in range(draw.randint(1, 4)):
            content[draw.randrange(len(content))] = draw.randrange(256)
        path.write_bytes(content[: draw.choice([len(content), draw.randrange(len(content))])])
        check(self.segmenter.segment(self.encoded[0], exemplar=cs.Exemplar.load(path), threshold=0))

    def processor(self, draw: random.Random) -> None:
        processor = cs.Sam3Processor(
            self.segmenter, confidence_threshold=draw.choice([0.0, 0.5, draw.choice(ODD)])
        )
        state: Any = draw.choice([None, {}, draw.choice(ODD)]) if draw.random() < 0.1 else None
        state = processor.set_image(self.image(draw), state)
        for _ in range(draw.randint(1, 3)):
            box = draw.choice([[0.5, 0.5, 0.4, 0.4], [draw.choice(ODD) for _ in range(4)], draw.choice(ODD)])
            label = draw.choice([True, False, draw.choice(ODD)])
            call = draw.randrange(5)
            if call == 0:
                state = processor.set_text_prompt(draw.choice([*WORDS, draw.choice(ODD)]), state)
            elif call == 1:
                state = processor.add_geometric_prompt(box, label, state)
            elif call == 2:
                state = processor.add_point_prompt(draw.choice([[3, 3], draw.choice(ODD)]), label, state)
            elif call == 3:
                processor.reset_all_prompts(state)
            else:
                processor.set_confidence_threshold(draw.choice([0.2, draw.choice(ODD)]), state)
            if "scores" in state:
                count = len(state["scores"])
                size = (count, 1, state["original_height"], state["original_width"])
                assert tuple(state["masks"].shape) == size and state["boxes"].shape == (count, 4)

    def result(self, draw: random.Random) -> None:
        found = self.segmenter.segment(
            self.encoded[0], draw.choice(WORDS[:3]), threshold=draw.choice([0.0, 0.2, 1.0])
        )
        json.dumps(found.to_coco())
        found.to_supervision()
        name = draw.choice(
            [
                "a.png",
                "a.json",
                "b/c.jpg",
                "a.webp",
                "a.gif",
                "",
                ".",
                "a",
                "\0.png",
                "x" * 300 + ".png",
                "model",
            ]
        )
        found.save(
            self.scratch / name
            if draw.random() < 0.8
            else draw.choice([f"{self.scratch}/nowhere/\0.png", ".png"])
        )

    def folder(self, draw: random.Random) -> None:
        """A model folder with a few values of its config, or bytes of a file, changed."""
        folder = self.scratch / "changed"
        shutil.copytree(self.model, folder, dirs_exist_ok=True)
        if draw.random() < 0.7:
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            for _ in range(draw.randint(1, 3)):
                change(draw, config)
            (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
        else:
            path = folder / draw.choice(["config.json", "tokenizer.json", "model.safetensors"])
            content = bytearray(path.read_bytes())
            start = draw.choice([0, draw.randrange(len(content))])
            for place in range(start, min(len(content), start + draw.randint(1, 200))):
                content[place] = draw.choice([0, 255, draw.randrange(256)])
            path.write_bytes(
                content[: draw.choice([len(content), len(content), draw.randrange(len(content))])]
            )
        options = {"device": "cpu", "dtype": "float32", "resolution": draw.choice([None, 64])}
        if draw.random() < 0.2:
            options[draw.choice(list(options))] = draw.choice(ODD)
        segmenter = cs.load(folder, **options)
        if segmenter.resolution <= 512:  # larger ones are right, and take long
            check(segmenter.segment(self.encoded[0].image.pixels, "cat", threshold=0.0))

    def load(self, draw: random.Random) -> None:
        cs.load(draw.choice(ODD), geometry_from=draw.choice([None, draw.choice(ODD)]))

    def question(self, draw: random.Random) -> dict[str, Any]:
        """Arguments of `segment`; most of them right, so that the others are reached."""
        given: dict[str, Any] = {}
        if draw.random() < 0.8:
            given["text"] = self.text(draw)
        if draw.random() < 0.4:
            given["boxes"] = self.boxes(draw)
        if draw.random() < 0.25:
            given["labels"] = self.labels(draw)
        if draw.random() < 0.15:
            given["exemplar"] = draw.choice([*self.kinds, self.kinds[0] + self.kinds[0], draw.choice(ODD)])
        for name, right in (
            ("threshold", [0.0, 0.2, 0.5, 1, [0.1, 0.2]]),
            ("presence", ["multiply", "ignore", "calibrated"]),
            ("dedupe", ["none", "nms", "containment"]),
            ("max_instances", [1, 3, None]),
            ("return_raw", [True, False]),
        ):
            if draw.random() < 0.25:
                given[name] = draw.choice(ODD if draw.random() < 0.2 else right)
        return given

    def text(self, draw: random.Random) -> Any:
        kind = draw.random()
        if kind < 0.6:
            return draw.choice(WORDS)
        if kind < 0.8:
            return [draw.choice(WORDS) for _ in range(draw.randint(0, 20))]
        if kind < 0.9:
            return "".join(chr(draw.randrange(1, 0xD800)) for _ in range(draw.randint(0, 60)))
        return draw.choice([draw.choice(ODD), [draw.choice(ODD)]])

    def boxes(self, draw: random.Random) -> Any:
        def box() -> list[Any]:
            x, y = draw.uniform(-2, 40), draw.uniform(-2, 25)
            return [x, y, x + draw.uniform(3, 20), y + draw.uniform(3, 15)]

        kind = draw.random()
        rows = [box() for _ in range(draw.choice([0, 1, 1, 2, 2, 4]))]
        if kind < 0.6:
            return rows
        if kind < 0.8:
            array = np.array(rows, dtype=draw.choice([np.float64, np.float32, np.int32]))
            return draw.choice([array, torch.from_numpy(array), array.tolist()])
        if kind < 0.95 and rows:
            rows[0][draw.randrange(4)] = draw.choice(ODD)
            return rows
        return draw.choice(ODD)

    def labels(self, draw: random.Random) -> Any:
        row = [draw.randint(0, 1) for _ in range(draw.randint(1, 2))]
        return draw.choice(
            [row, np.array(row), torch.tensor(row), [draw.choice(ODD), *row], draw.choice(ODD)]
        )

    def image(self, draw: random.Random) -> Any:
        height, width = draw.randint(1, 80), draw.randint(1, 80)
        bits = np.random.default_rng(draw.randrange(2**32))
        array = bits.integers(0, 256, (height, width, 3), dtype=np.uint8)
        kind = draw.randrange(16)
        if kind > 7:  # half of all are right, so that the prompts are reached
            return draw.choice([array, array, self.encoded[0], self.encoded[0].image.pixels])
        if kind < 2:
            return array
        if kind == 2:
            return draw.choice([*self.encoded, draw.choice(ODD)])
        if kind == 3:
            return odd_array(draw, array)
        picture = Image.fromarray(array)
        if kind == 4:
            mode = draw.choice(MODES)
            return (
                Image.new(mode, (width, height)) if mode in ("I;16", "LAB", "HSV") else picture.convert(mode)
            )
        stream = io.BytesIO()
        exif = Image.Exif()
        exif[0x0112] = draw.choice([1, 3, 6, 8, 9, 0])
        more = {"exif": exif} if draw.random() < 0.3 else {}
        picture.save(
            stream, format=(form := draw.choice(FORMATS)), **(more if form in ("PNG", "JPEG", "WEBP") else {})
        )
        content = bytearray(stream.getvalue())
        if kind > 5:
            for _ in range(draw.randint(0, 8)):
                content[draw.randrange(min(len(content), draw.choice([40, 10**6])))] = draw.randrange(256)
            content = content[: draw.choice([len(content), len(content), draw.randrange(len(content))])]
        if draw.random() < 0.5:
            return draw.choice([bytes(content), io.BytesIO(content)])
        path = self.scratch / f"image.{draw.choice(['png', 'jpg', 'tif', 'txt'])}"
        path.write_bytes(content)
        return draw.choice([path, str(path)])


def odd_array(draw: random.Random, array: np.ndarray[Any, Any]) -> Any:
    """An array or tensor that is an image in some other form, or none."""
    height, width, _ = array.shape
    values = draw.choice(
        [
            array[:, :, 0], array[:, :, :1], array[:, :, :2], array.transpose(2, 0, 1), array[None],
            array.astype(draw.choice([np.float32, np.int64, np.uint16, bool, object])), array[::-2, ::-1],
            array[:0],
            np.concatenate((array, array), axis=2), np.concatenate((array, array[:, :, :1]), axis=2),
            np.asfortranarray(array), np.broadcast_to(array[:1, :1], (height, width, 3)), array.reshape(-1),
            array.view(np.ma.MaskedArray),
        ]
    )  # fmt: skip
    if values.dtype == object or draw.random() < 0.5:
        return values
    tensor = torch.from_numpy(np.ascontiguousarray(values))
    tensor = tensor.permute(2, 0, 1) if tensor.ndim == 3 and draw.random() < 0.5 else tensor
    return tensor.requires_grad_() if tensor.is_floating_point() else tensor


def change(draw: random.Random, config: dict[str, Any]) -> None:
    """Put something else into one place of a config."""
    section: Any = config
    while True:
        name = draw.choice(list(section) if isinstance(section, dict) else range(len(section)))
        inside = section[name]
        if not (isinstance(inside, (dict, list)) and inside) or draw.random() < 0.1:
            break
        section = inside
    number = isinstance(inside, (int, float))
    near = [inside * 2, inside + 1, -inside, 0, inside // 2] if number else [inside]
    far = [
        10**7,
        10**12,
        10**400,
        1e-30,
        float("nan"),
        float("inf"),
        None,
        "x",
        "",
        [],
        {},
        [1],
        True,
        [[]],
        {"kind": "vit"},
    ]
    section[name] = copy.deepcopy(draw.choice(near if draw.random() < 0.5 else far))
    if isinstance(section, dict) and draw.random() < 0.1:
        del section[name]


def check(result: cs.Result) -> None:
    """An answer holds together."""
    count, (height, width) = len(result), result.image_size
    assert result.masks.shape == (count, height, width) and result.masks.dtype == np.bool_
    assert result.boxes.shape == (count, 4) and bool(np.isfinite(result.boxes).all())
    for scores in (result.scores, result.class_scores, np.array([result.presence])):
        assert bool(((scores >= 0) & (scores <= 1)).all())
    assert bool((np.diff(result.scores) <= 0).all()) and np.isfinite(result.presence_logit)


@dataclass
class Report:
    failures: list[str] = field(default_factory=list)  # a line for each
    answered: int = 0  # cases; the others were refused, as they should be
    slowest: tuple[float, int] = (0.0, 0)  # seconds, number


def run(cases: Sequence[int], seed: int, tell: Callable[[str], None] = lambda line: None) -> Report:
    """Go through some cases, and tell of each failure as it comes."""
    report = Report()
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "OpenCV")  # supervision says that it goes without
        fuzz = Fuzz(Path(scratch))
        for number in cases:
            began = time.process_time()
            try:
                report.answered += fuzz.case(random.Random(f"{seed}.{number}"))
            except Exception as error:  # each of them is a finding
                where = traceback.extract_tb(error.__traceback__)[-1]
                said = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
                report.failures.append(f"{number}: {said} ({where.filename}:{where.lineno})")
                tell(report.failures[-1])
                if len(cases) == 1:
                    traceback.print_exc()
            report.slowest = max(report.slowest, (time.process_time() - began, number))
    return report


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="this case alone")
    given = parser.parse_args()
    torch.set_num_threads(1)
    cases = range(given.cases) if given.only is None else [given.only]
    report = run(cases, given.seed, tell=lambda line: print(line, flush=True))
    seconds, number = report.slowest
    print(
        f"{len(cases):,} cases: {report.answered:,} answered, {len(report.failures)} failed, others refused"
    )
    print(f"slowest: number {number}, {seconds:.1f} s of processor time")
    return int(bool(report.failures))


if __name__ == "__main__":
    sys.exit(main())
