"""What `segment` answers: every object that the prompt means, on the pixels of the user's own image."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from conceptseg.checkpoints.atomic_write import replacing, write_text
from conceptseg.errors import OptionError

if TYPE_CHECKING:
    import supervision
    from PIL.Image import Image

    from conceptseg.models.detector import RawOutput
    from conceptseg.prompts import BoxPrompt

PICTURE_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WebP"}


@dataclass(frozen=True, eq=False)
class Result:
    """All objects of one concept in one image, best score first; numpy arrays, N may be 0."""

    phrase: str  # "visual" when only examples were given
    image_size: tuple[int, int]  # (height, width) in pixels
    masks: npt.NDArray[np.bool_]  # (N, H, W), True = object
    boxes: npt.NDArray[np.float32]  # (N, 4) x0, y0, x1, y1 in pixels; may reach over the edge of the image
    scores: npt.NDArray[np.float32]  # (N,) in [0, 1], descending
    class_scores: npt.NDArray[np.float32]  # (N,) before presence
    presence: float  # in [0, 1]: is the concept there at all? Calibrated when it was asked for so
    presence_logit: float  # as the model gave it, never calibrated
    image: npt.NDArray[np.uint8] | None = field(default=None, repr=False)  # (H, W, 3) RGB, for `plot`
    path: Path | None = None  # of the image, when it came from a file
    examples: BoxPrompt | None = field(default=None, repr=False)  # boxes that were drawn on this image
    raw: RawOutput | None = field(default=None, repr=False)  # with return_raw=True: every raw output, B = 1

    def __len__(self) -> int:
        return len(self.scores)

    def __repr__(self) -> str:
        height, width = self.image_size
        best = f", best score {self.scores[0]:.2f}" if len(self) else ""
        found = f"{len(self)} in {width} x {height} image{best}"
        return f"Result({self.phrase!r}: {found}, presence {self.presence:.2f})"

    def to_coco(self) -> dict[str, Any]:
        """COCO dataset: the phrase as category, compressed RLE masks, a `score` on every annotation."""
        from conceptseg.formats import coco_dataset

        return coco_dataset([self])

    def to_supervision(self) -> supervision.Detections:
        """`supervision.Detections` with masks, scores and the phrase as `data["class_name"]`.

        Raises:
            MissingDependencyError: the package `supervision` is not installed.
        """
        from conceptseg.formats import supervision_detections

        return supervision_detections(self)

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
        except OSError as error:
            raise OptionError(f"{path} cannot be written: {error.strerror or error}") from error
        return path
