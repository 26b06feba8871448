"""What `segment` answers: every object that the prompt means, on the pixels of the user's own image."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, overload

import numpy as np
import numpy.typing as npt

from conceptseg.checkpoints.atomic_write import replacing, write_text
from conceptseg.compact_masks import CompactMasks
from conceptseg.errors import InstanceIndexError, OptionError, ShapeError, shown
from conceptseg.same_image import check_same_image

if TYPE_CHECKING:
    import supervision
    from PIL.Image import Image

    from conceptseg.choices import LabelStudioRegion
    from conceptseg.models.detector import RawOutput
    from conceptseg.prompts import BoxPrompt

Choice: TypeAlias = "int | slice | Sequence[int] | Sequence[bool] | npt.NDArray[Any]"

PICTURE_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WebP"}


class _MasksField:
    """Takes masks whole or compact, keeps them compact, and gives them whole."""

    @overload
    def __get__(self, result: None, owner: type) -> npt.NDArray[np.bool_]: ...

    @overload
    def __get__(self, result: Result, owner: type) -> npt.NDArray[np.bool_]: ...

    def __get__(self, result: Result | None, owner: type) -> npt.NDArray[np.bool_]:
        if result is None:
            raise AttributeError("masks")  # so that the field has no default
        return result.compact_masks.whole()

    def __set__(self, result: Result, masks: npt.NDArray[np.bool_] | CompactMasks) -> None:
        compact = masks if isinstance(masks, CompactMasks) else CompactMasks.from_whole(masks)
        vars(result)["compact_masks"] = compact


@dataclass(frozen=True, eq=False)
class Result:
    """All objects of one concept in one image, best score first; numpy arrays, N may be 0.

    It is a sequence of its objects: `result[0]`, `result[:3]`, `result[result.scores > 0.8]` and iteration
    give `Result`s with some of them.

    Attributes:
        masks: (N, H, W), True = object. Kept compact, and made whole anew each time it is asked for: of large
            images take `result[i].masks`, or `compact_masks`.
        compact_masks: the same masks as they are kept.
    """

    phrase: str  # "visual" when only examples were given
    image_size: tuple[int, int]  # (height, width) in pixels
    masks: _MasksField = _MasksField()
    _: KW_ONLY
    boxes: npt.NDArray[np.float32]  # (N, 4) x0, y0, x1, y1 in pixels; may reach over the edge of the image
    scores: npt.NDArray[np.float32]  # (N,) in [0, 1], descending
    class_scores: npt.NDArray[np.float32]  # (N,) before presence
    presence: float  # in [0, 1]: is the concept there at all? Calibrated when it was asked for so
    presence_logit: float  # as the model gave it, never calibrated
    image: npt.NDArray[np.uint8] | None = field(default=None, repr=False)  # (H, W, 3) RGB, for `plot`
    path: Path | None = None  # of the image, when it came from a file
    examples: BoxPrompt | None = field(default=None, repr=False)  # boxes that were drawn on this image
    raw: RawOutput | None = field(default=None, repr=False)  # with return_raw=True: every raw output, B = 1
    phrases: tuple[str, ...] = ()  # (N,), of each object; they differ only where several results were joined

    if TYPE_CHECKING:
        compact_masks: CompactMasks = field(init=False)

    def __post_init__(self) -> None:
        count = len(self.scores)
        if not self.phrases:
            object.__setattr__(self, "phrases", (self.phrase,) * count)
        for name in ("compact_masks", "boxes", "class_scores", "phrases"):
            if len(getattr(self, name)) != count:
                got = len(getattr(self, name))
                raise ShapeError(f"a result has {count} scores and {got} {name.removeprefix('compact_')}")

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[Result]:
        return (self[number] for number in range(len(self)))

    def __getitem__(self, which: Choice) -> Result:
        """Some of the objects, as a `Result`.

        Args:
            which: a number, a slice, numbers, or (N,) bool.

        Raises:
            InstanceIndexError: there is no such object, or it is none of these.
        """
        rows = self._rows(which)
        return replace(
            self,
            masks=self.compact_masks.take(rows),
            boxes=self.boxes[rows],
            scores=self.scores[rows],
            class_scores=self.class_scores[rows],
            phrases=tuple(self.phrases[row] for row in rows),
        )

    def _rows(self, which: Choice) -> npt.NDArray[np.int64]:
        numbers = np.arange(len(self))
        if isinstance(which, slice):
            return numbers[which]
        given = np.asarray(which)
        given = given.astype(np.int64) if given.shape == (0,) else given
        if given.ndim > 1 or given.dtype.kind not in "iub" or (given.ndim == 0 and given.dtype.kind == "b"):
            raise InstanceIndexError(
                f"{which!r} chooses no objects; give a number, a slice, numbers, or one bool for each"
            )
        try:
            return np.atleast_1d(numbers[given])
        except IndexError as error:
            what = f"{given.size} bools do" if given.dtype.kind == "b" else f"{which!r} does"
            raise InstanceIndexError(f"{what} not fit a result of {len(self)} objects") from error

    @staticmethod
    def concat(results: Iterable[Result]) -> Result:
        """Join results on one image, of one phrase or several; best score first.

        Each object keeps its phrase in `phrases`; `phrase` names them all. Presence is that of the result
        that is surest of its concept; `raw` is left out.

        Raises:
            OptionError: no result, or results on different images.
        """
        from conceptseg.prompts import join_boxes

        parts = list(results)
        check_same_image(parts, "join")
        surest = max(parts, key=lambda part: part.presence)
        joined = Result(
            phrase=", ".join(dict.fromkeys(part.phrase for part in parts)),
            image_size=parts[0].image_size,
            masks=CompactMasks.concat([part.compact_masks for part in parts]),
            boxes=np.concatenate([part.boxes for part in parts]),
            scores=np.concatenate([part.scores for part in parts]),
            class_scores=np.concatenate([part.class_scores for part in parts]),
            presence=surest.presence,
            presence_logit=surest.presence_logit,
            image=next((part.image for part in parts if part.image is not None), None),
            path=next((part.path for part in parts if part.path is not None), None),
            examples=join_boxes([part.examples for part in parts if part.examples is not None]),
            phrases=tuple(phrase for part in parts for phrase in part.phrases),
        )
        return joined[np.argsort(-joined.scores, kind="stable")]

    def __repr__(self) -> str:
        height, width = self.image_size
        best = f", best score {self.scores.max():.2f}" if len(self) else ""
        found = f"{len(self)} in {width} x {height} image{best}"
        return f"Result({self.phrase!r}: {found}, presence {self.presence:.2f})"

    def to_coco(self) -> dict[str, Any]:
        """COCO dataset: the phrase as category, compressed RLE masks, a `score` on every annotation."""
        from conceptseg.formats import coco_dataset

        return coco_dataset([self])

    def to_supervision(self, compact: bool = False) -> supervision.Detections:
        """`supervision.Detections` with masks, scores and the phrases as `data["class_name"]`.

        Args:
            compact: masks as `supervision.CompactMask`, which stays small; otherwise (N, H, W) bool.

        Raises:
            MissingDependencyError: the package `supervision` is not installed, or is too old for `compact`.
        """
        from conceptseg.formats import supervision_detections

        return supervision_detections(self, compact)

    def to_yolo(
        self, classes: Sequence[str] | None = None, *, boxes: bool = False, tolerance: float = 1.0
    ) -> str:
        """The lines of a YOLO label file: class number, then a polygon, in fractions of the image.

        The format has one polygon per object, so the parts of a mask hang together by lines without width;
        objects with an empty mask are left out.

        Args:
            classes: the `names` of data.yaml, in order; None: the phrases of this result, as they appear.
            boxes: centre and size of each box instead of polygons, for detection.
            tolerance: how far in pixels a polygon may lie off the mask's outline; 0 follows every pixel.

        Raises:
            OptionError: a phrase is none of the classes, or the tolerance is below 0.
        """
        from conceptseg.labelling_formats import yolo_lines

        return yolo_lines(self, classes, boxes, tolerance)

    def to_labelme(self, image_path: str | Path | None = None, *, tolerance: float = 1.0) -> dict[str, Any]:
        """The content of a LabelMe file: polygons named by their phrase; parts of a mask share a `group_id`.

        Args:
            image_path: as seen from where the file will lie; None: the name of the image's own file.
            tolerance: as for `to_yolo`.
        """
        from conceptseg.labelling_formats import labelme_content

        return labelme_content(self, image_path, tolerance)

    def to_label_studio(
        self,
        image: str | None = None,
        *,
        regions: LabelStudioRegion = "polygons",
        from_name: str = "label",
        to_name: str = "image",
        tolerance: float = 1.0,
    ) -> dict[str, Any]:
        """A Label Studio task with these objects as its prediction.

        Args:
            image: where Label Studio finds the image; None: the name of the image's own file.
            regions: "polygons", "brush" (every pixel, for BrushLabels) or "boxes", as its labelling interface
                says.
            from_name: name of its labels tag.
            to_name: name of its image tag; the task's data calls the image so too.
            tolerance: as for `to_yolo`.

        Raises:
            OptionError: an option has an impossible value.
        """
        from conceptseg.labelling_formats import label_studio_task

        return label_studio_task(self, image, regions, from_name, to_name, tolerance)

    def plot(self) -> Image:
        """The image with masks, outlines, scores and the example boxes drawn on it.

        Raises:
            OptionError: the result was stripped of its image.
        """
        from conceptseg.plots import draw_results

        return draw_results([self])

    def save(self, path: str | Path) -> Path:
        """Write the overlay (.png, .jpg, .webp) or the COCO JSON (.json); folders on the way are made.

        Raises:
            OptionError: another kind of file, or it cannot be written.
        """
        path = Path(path)
        suffix = path.suffix.lower()
        if suffix not in (*PICTURE_FORMATS, ".json"):
            raise OptionError(f"{path} must end in {', '.join(PICTURE_FORMATS)} (overlay) or .json (COCO)")
        try:
            if suffix == ".json":
                write_text(path, json.dumps(self.to_coco()))
            else:
                picture = self.plot()
                with replacing(path) as draft:
                    picture.save(draft, format=PICTURE_FORMATS[suffix])
        except OptionError:
            raise
        except (OSError, ValueError) as error:  # no such file can be, or not of this size or name
            reason = getattr(error, "strerror", None) or error
            raise OptionError(f"{shown(str(path))} cannot be written: {reason}") from error
        return path
