"""SA-Co: one entry of `images` per image and noun phrase; without annotations the phrase is absent.

A phrase that is not asked of an image is unknown there, so nothing is sampled. Entries with
`is_instance_exhaustive` 0 miss objects or hold crowds: their phrase is incomplete, or, without annotations,
unknown. Boxes are fractions of the image's size.
Source: https://github.com/facebookresearch/sam3/blob/main/scripts/eval/gold/README.md
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from conceptseg.data.concept_image import ConceptImage, ConceptObject
from conceptseg.data.formats.annotation import all_have_masks, entries, parse_object
from conceptseg.data.formats.coco import as_phrase, by_image, file_names, size_of_image
from conceptseg.data.formats.image_files import ImageFiles
from conceptseg.data.formats.split import Split
from conceptseg.errors import DataError


class SacoSplit(Split):
    """One SA-Co file.

    Args:
        content: of the file, as `read_json` gives it.
        source: its path.
        images: where file names are looked for.

    Raises:
        DataError: it is not in SA-Co layout.
    """

    layout = "SA-Co"
    samples_absent = False

    def __init__(self, content: dict[str, Any], source: Path, images: Path) -> None:
        self.source = source
        pairs = entries(content, "images", source)
        self._annotations = by_image(pairs, entries(content, "annotations", source), source)
        for pair in pairs:
            if not isinstance(pair.get("text_input"), str) or not pair["text_input"].strip():
                raise DataError(f"{source}: image {pair['id']} has no text_input, its noun phrase")
        self.phrases = tuple(sorted({as_phrase(pair["text_input"]) for pair in pairs}))
        grouped: dict[str, list[dict[str, Any]]] = {}
        for name, pair in zip(file_names(pairs, source), pairs, strict=True):
            grouped.setdefault(name, []).append(pair)
        self._pairs = list(grouped.values())
        files = ImageFiles(images)
        self._files = [(name, files.find(name)) for name in grouped]
        self._normalised = self._boxes_are_fractions()

    def __len__(self) -> int:
        return len(self._pairs)

    def image_files(self) -> Sequence[tuple[str, Path | None]]:
        return self._files

    def has_masks(self) -> bool:
        return all_have_masks(annotation for own in self._annotations.values() for annotation in own)

    def read(self, index: int) -> ConceptImage:
        pairs, (name, file) = self._pairs[index], self._files[index]
        height, width = size_of_image(pairs[0], file, self.source)
        phrases: dict[str, list[ConceptObject]] = {}
        absent: dict[str, None] = {}
        incomplete = set()
        for pair in pairs:
            phrase = as_phrase(pair["text_input"])
            annotations = self._annotations.get(pair["id"], [])
            exhaustive = bool(pair.get("is_instance_exhaustive", True))
            try:
                objects = [parse_object(raw, height, width, self._normalised) for raw in annotations]
            except DataError as error:
                raise DataError(f"{self.source}: image {name}: {error}") from error
            if objects:
                phrases.setdefault(phrase, []).extend(objects)
                incomplete |= set() if exhaustive else {phrase}
            elif exhaustive:
                absent[phrase] = None
        return ConceptImage(
            path=file or Path(name),
            width=width,
            height=height,
            phrases=phrases,
            absent_phrases=tuple(phrase for phrase in absent if phrase not in phrases),
            incomplete_phrases=frozenset(incomplete),
        )

    def _boxes_are_fractions(self) -> bool:
        """As the format says; some tools that write it give pixels, and no dataset has only 1-pixel boxes."""
        boxes = [it.get("bbox") for own in self._annotations.values() for it in own]
        values = [value for box in boxes if isinstance(box, list) for value in box]
        return all(value <= 2.0 for value in values if isinstance(value, (int, float)))  # over 1 by rounding
