"""What `segment` and `demo` leave behind: an overlay per image, and one COCO file for all of them.

Results are taken in one image at a time, so that no mask waits in memory for the last image.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from conceptseg.checkpoints.atomic_write import replacing, write_text
from conceptseg.formats import CocoDataset
from conceptseg.plots import draw_results
from conceptseg.result import Result


class ResultsFolder:
    """`results.json` holds images, phrases as categories, scored run-length masks, and presence."""

    def __init__(self, folder: Path) -> None:
        """The folder is made with the first file in it."""
        self.folder = folder
        self.path = folder / "results.json"
        self._dataset = CocoDataset()

    def __len__(self) -> int:
        """Number of images."""
        return len(self._dataset.content["images"])

    def add(self, results: Sequence[Result], file_name: str, overlay: str) -> Path:
        """Draw the results of one image, and keep them for `save`.

        Args:
            results: all those of one image.
            file_name: how the COCO file calls the image.
            overlay: name of the picture to write.

        Returns:
            Path of the overlay.
        """
        with replacing(self.folder / overlay) as draft:
            draw_results(results).save(draft, format="PNG")
        for result in results:
            self._dataset.add(result, file_name, file_name=file_name, overlay=overlay)
        return self.folder / overlay

    def save(self) -> None:
        write_text(self.path, json.dumps(self._dataset.content))
