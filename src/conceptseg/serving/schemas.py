"""What goes in and out of the service's own endpoints, as OpenAPI describes it.

Values are checked by the library, whose messages say more; here are shapes and types.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from conceptseg.choices import DedupeMode, PresenceMode

Box = list[float]


class Strict(BaseModel):
    """Refuses fields it does not know: a misspelt option is told, not ignored."""

    model_config = ConfigDict(extra="forbid")


class Examples(Strict):
    """Example boxes on an image."""

    boxes: list[Box] = Field(
        description="x0, y0, x1, y1 in pixels of the image.", examples=[[[12, 30, 80, 90]]]
    )
    labels: list[int] | None = Field(
        default=None, description="For each box 1 (like this) or 0 (not like this); all 1 when left out."
    )


class Prompt(Strict):
    """What to find: a phrase or several, example boxes, an exemplar, or any of them together."""

    text: str | list[str] | None = Field(default=None, description="Phrases.", examples=["coin"])
    boxes: list[Box] | None = Field(
        default=None,
        description="Example boxes on this image, x0, y0, x1, y1 in pixels; they go with every phrase.",
    )
    labels: list[int] | None = Field(
        default=None, description="For each box 1 (like this) or 0 (not like this); all 1 when left out."
    )
    exemplar: str | list[str] | None = Field(
        default=None, description="Ids from POST /v1/exemplars: examples on other images."
    )
    threshold: float | list[float] = Field(
        default=0.5, description="Keep scores strictly above this: a number from 0 to 1, or one per phrase."
    )
    presence: PresenceMode | None = Field(
        default=None,
        description="How the belief that the concept is there at all enters the scores; as the model says "
        "when left out.",
    )
    dedupe: DedupeMode | None = Field(
        default=None, description="Which repeated masks are dropped; as the model says when left out."
    )
    max_instances: int | None = Field(
        default=None, description="Keep at most this many per phrase, the best."
    )
    mask_format: Literal["rle", "polygon", "png"] = Field(default="rle", description="How masks are written.")
    tolerance: float = Field(
        default=1.0, ge=0, description="Pixels that polygons may lie off the outline; 0 follows every pixel."
    )


class RleMask(BaseModel):
    """COCO's compressed run lengths."""

    format: Literal["rle"]
    size: list[int] = Field(description="Height and width.")
    counts: str


class PolygonMask(BaseModel):
    """One polygon per part, each a list of x, y in pixels."""

    format: Literal["polygon"]
    polygons: list[list[list[float]]]


class PngMask(BaseModel):
    """A picture of the image's size, white where the object is."""

    format: Literal["png"]
    data: str = Field(description="Base64 of the PNG file.")


class Instance(BaseModel):
    """One object."""

    box: Box = Field(description="x0, y0, x1, y1 in pixels; may reach over the edge of the image.")
    score: float
    class_score: float = Field(description="Before presence.")
    area: int = Field(description="Of the mask, in pixels.")
    mask: RleMask | PolygonMask | PngMask = Field(discriminator="format")


class Concept(BaseModel):
    """The answer to one phrase."""

    phrase: str = Field(description='"visual" when only examples were given.')
    presence: float = Field(description="From 0 to 1: is the concept there at all?")
    presence_logit: float = Field(description="As the model gave it, never calibrated.")
    instances: list[Instance] = Field(description="Best score first.")


class EncodedImageInfo(BaseModel):
    """An image that was encoded; its id is the SHA-256 of the file."""

    id: str
    width: int
    height: int


class Answer(BaseModel):
    """One concept per phrase, in order."""

    image: EncodedImageInfo
    results: list[Concept]


class ExemplarInfo(BaseModel):
    """A concept that can be asked of other images."""

    id: str
    positive: int = Field(description="How many boxes say: like this.")
    negative: int = Field(description="How many say: not like this.")


class ExportedInstance(Strict):
    """One object to write."""

    box: Box = Field(min_length=4, max_length=4)
    score: float = Field(ge=0, le=1)
    counts: list[int] = Field(
        description="COCO's uncompressed run lengths: down the columns, beginning with how many pixels are "
        "outside."
    )


class ExportedConcept(Strict):
    """The objects of one phrase."""

    phrase: str = Field(min_length=1, max_length=1000)
    presence: float = Field(ge=0, le=1)
    instances: list[ExportedInstance]


class Export(Strict):
    """Objects to write in the format of another tool."""

    format: Literal["coco", "yolo", "labelme", "label_studio"]
    file_name: str = Field(default="image", max_length=255, description="As the file is to name its image.")
    width: int = Field(ge=1)
    height: int = Field(ge=1)
    results: list[ExportedConcept] = Field(min_length=1)
