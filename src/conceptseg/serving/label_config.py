"""Label Studio's labelling interface: which tags hold the image, the labels and the text."""

from __future__ import annotations

from dataclasses import dataclass
from xml.etree import ElementTree

from conceptseg.choices import LabelStudioRegion
from conceptseg.errors import OptionError

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
    except ElementTree.ParseError as error:
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
                )
    raise OptionError(
        "the labelling interface has no <BrushLabels>, <PolygonLabels> or <RectangleLabels> for its image"
    )
