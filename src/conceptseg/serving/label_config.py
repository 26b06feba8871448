"""Label Studio's labelling interface: which tags hold the image, the labels and the text."""

from __future__ import annotations

from dataclasses import dataclass
from xml.etree import ElementTree

from conceptseg.choices import LabelStudioRegion
from conceptseg.errors import OptionError

USUAL_THRESHOLD = 0.5

# What an object may be written as, the most exact first.
OUTPUTS: tuple[tuple[str, LabelStudioRegion], ...] = (
    ("BrushLabels", "brush"),
    ("PolygonLabels", "polygons"),
    ("RectangleLabels", "boxes"),
)


@dataclass(frozen=True)
class LabelConfig:
    """What of an interface the model needs."""

    image_tag: str  # name of <Image>
    image_key: str  # of a task's data
    labels_tag: str  # name of the tag that objects are written for
    regions: LabelStudioRegion  # what that tag takes
    labels: tuple[str, ...]
    threshold: float  # that tag's `model_score_threshold`, which other backends of Label Studio read too


def read_label_config(xml: str) -> LabelConfig:
    """Args:
        xml: as in Label Studio's settings.

    Raises:
        OptionError: no XML, or without an image or labels that objects can be written for.
    """
    if "<!DOCTYPE" in xml or "<!ENTITY" in xml:  # entities can grow without bound
        raise OptionError("the labelling interface may not declare a document type or entities")
    try:
        root = ElementTree.fromstring(xml)
    except (ElementTree.ParseError, UnicodeEncodeError) as error:  # the latter of half a surrogate pair
        raise OptionError(f"the labelling interface is no valid XML: {error}") from error
    image = next(iter(root.iter("Image")), None)
    if image is None:
        raise OptionError("the labelling interface has no <Image>")
    for tag, regions in OUTPUTS:
        for labels in root.iter(tag):
            if labels.get("toName") == image.get("name"):
                return LabelConfig(
                    image_tag=image.get("name", ""),
                    image_key=image.get("value", "").removeprefix("$"),
                    labels_tag=labels.get("name", ""),
                    regions=regions,
                    labels=tuple(label.get("value", "") for label in labels.iter("Label")),
                    threshold=_threshold(labels.get("model_score_threshold")),
                )
    raise OptionError(
        "the labelling interface has no <BrushLabels>, <PolygonLabels> or <RectangleLabels> for its image"
    )


def _threshold(given: str | None) -> float:
    try:
        return USUAL_THRESHOLD if given is None else float(given)
    except ValueError as error:
        raise OptionError(f"model_score_threshold {given!r} is not a number from 0 to 1") from error
