"""COCO: one file per split, categories are phrases, one annotation per phrase and object.

Beside the usual fields an image may have `absent_phrases` (ours), or `neg_category_ids` and
`not_exhaustive_category_ids` (LVIS, where a category is annotated in some images only).
Source: https://cocodataset.org/#format-data, https://www.lvisdataset.org/dataset
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from conceptseg.data.concept_image import ConceptImage, ConceptObject
from conceptseg.data.formats.annotation import all_have_masks, entries, parse_object
from conceptseg.data.formats.image_files import ImageFiles
from conceptseg.data.formats.roboflow import grouping_ids
from conceptseg.data.formats.split import Split, first_of, size_of_file
from conceptseg.errors import DataError

NAMED_ABSENT = ("absent_phrases", "neg_category_ids")


class CocoSplit(Split):
    """One COCO file.

    Args:
        content: of the file, as `read_json` gives it.
        source: its path.
        images: where file names are looked for.

    Raises:
        DataError: it is not in COCO layout, or names images or categories that it does not list.
    """

    layout = "COCO"

    def __init__(self, content: dict[str, Any], source: Path, images: Path) -> None:
        self.source = source
        self._images = entries(content, "images", source)
        annotations = entries(content, "annotations", source)
        self._phrase_of = phrases_by_id(entries(content, "categories", source), annotations, source)
        self.phrases = tuple(sorted(set(self._phrase_of.values())))
        self._annotations = by_image(self._images, annotations, source)
        _refuse_unknown_categories(annotations, self._phrase_of, source)
        self.samples_absent = not any(key in image for image in self._images for key in NAMED_ABSENT)
        files = ImageFiles(images)
        self._files = [(name, files.find(name)) for name in file_names(self._images, source)]

    def __len__(self) -> int:
        return len(self._images)

    def image_files(self) -> Sequence[tuple[str, Path | None]]:
        return self._files

    def has_masks(self) -> bool:
        return all_have_masks(annotation for own in self._annotations.values() for annotation in own)

    def read(self, index: int) -> ConceptImage:
        entry, (name, file) = self._images[index], self._files[index]
        height, width = size_of_image(entry, file, self.source)
        phrases: dict[str, list[ConceptObject]] = {}
        try:
            for raw in self._annotations.get(entry["id"], []):
                phrase = self._phrase_of[raw["category_id"]]
                phrases.setdefault(phrase, []).append(parse_object(raw, height, width))
            absent = self._absent(entry)
        except DataError as error:
            raise DataError(f"{self.source}: image {name}: {error}") from error
        both = sorted(set(absent) & set(phrases))
        if both:
            raise DataError(f'{self.source}: image {name}: "{both[0]}" is named as absent, but has objects')
        return ConceptImage(
            path=file or Path(name),
            width=width,
            height=height,
            phrases=phrases,
            absent_phrases=absent,
            incomplete_phrases=frozenset(self._named(entry, "not_exhaustive_category_ids")) & phrases.keys(),
        )

    def _absent(self, entry: dict[str, Any]) -> tuple[str, ...]:
        named = entry.get("absent_phrases", [])
        if not isinstance(named, list) or not all(isinstance(phrase, str) for phrase in named):
            raise DataError(f"absent_phrases is {named!r:.60}; give a list of phrases")
        return tuple(dict.fromkeys([*map(as_phrase, named), *self._named(entry, "neg_category_ids")]))

    def _named(self, entry: dict[str, Any], key: str) -> list[str]:
        """The phrases of a list of category ids."""
        return [self._phrase_of[number] for number in entry.get(key) or [] if number in self._phrase_of]


def as_phrase(name: str) -> str:
    """A category's name as a prompt: without spaces too many, otherwise as it is."""
    return " ".join(name.split())


def phrases_by_id(
    categories: Sequence[dict[str, Any]], annotations: Sequence[dict[str, Any]], source: Path
) -> dict[Any, str]:
    """Category id -> phrase, without categories that only group others.

    Raises:
        DataError: a category has no id or no name, or there is none at all.
    """
    for category in categories:
        if not isinstance(category.get("id"), (int, str)):
            raise DataError(f"{source}: a category has no id: {category!r:.80}")
        if not isinstance(category.get("name"), str) or not category["name"].strip():
            raise DataError(f"{source}: category {category['id']} has no name; names are the phrases")
    grouping = grouping_ids(categories, {annotation.get("category_id") for annotation in annotations})
    phrases = {it["id"]: as_phrase(it["name"]) for it in categories if it["id"] not in grouping}
    if not phrases:
        raise DataError(f"{source} has no categories; their names are the phrases")
    return phrases


def by_image(
    images: Sequence[dict[str, Any]], annotations: Sequence[dict[str, Any]], source: Path
) -> dict[Any, list[dict[str, Any]]]:
    """Image id -> its annotations.

    Raises:
        DataError: there is no image, an id is missing or given twice, or an annotation belongs to no image.
    """
    if not images:
        raise DataError(f"{source} lists no images")
    ids = [image.get("id") for image in images]
    for position, number in enumerate(ids):
        if not isinstance(number, (int, str)):
            raise DataError(f"{source}: images[{position}] has no id")
    twice = [str(number) for number, count in Counter(ids).items() if count > 1]
    if twice:
        raise DataError(f"{source}: {len(twice):,} image ids are given twice: {first_of(twice)}")
    known, lost = set(ids), []
    grouped: dict[Any, list[dict[str, Any]]] = {}
    for annotation in annotations:
        image_id = annotation.get("image_id")
        if isinstance(image_id, (int, str)) and image_id in known:
            grouped.setdefault(image_id, []).append(annotation)
        else:
            lost.append(f"{annotation.get('id', 'without id')} (image_id {image_id!r:.40})")
    if lost:
        raise DataError(
            f"{source}: {len(lost):,} annotations belong to no image that is listed: {first_of(lost)}"
        )
    return grouped


def file_names(images: Sequence[dict[str, Any]], source: Path) -> list[str]:
    """The name of each image's file; LVIS has web addresses instead, which end in it.

    Raises:
        DataError: an image has neither.
    """
    names = [image.get("file_name") or image.get("coco_url") for image in images]
    for image, name in zip(images, names, strict=True):
        if not isinstance(name, str):
            raise DataError(f"{source}: image {image.get('id')} has no file_name")
    return [str(name) for name in names]


def size_of_image(entry: dict[str, Any], file: Path | None, source: Path) -> tuple[int, int]:
    """Height and width as they are annotated, or else from the file.

    Raises:
        DataError: neither says it.
    """
    height, width = entry.get("height"), entry.get("width")
    if isinstance(height, int) and isinstance(width, int) and height > 0 and width > 0:
        return height, width
    if file is None:
        raise DataError(f"{source}: image {entry.get('file_name')} has neither width and height nor a file")
    return size_of_file(file)


def _refuse_unknown_categories(
    annotations: Sequence[dict[str, Any]], phrase_of: dict[Any, str], source: Path
) -> None:
    lost = [
        f"{it.get('id', 'without id')} (category_id {it.get('category_id')!r:.40})"
        for it in annotations
        if not isinstance(it.get("category_id"), (int, str)) or it["category_id"] not in phrase_of
    ]
    if lost:
        raise DataError(
            f"{source}: {len(lost):,} annotations have a category that is not listed: {first_of(lost)}"
        )
