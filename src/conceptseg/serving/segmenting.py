"""The service's own endpoints: images and prompts in, objects out."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, File, Form, Response, UploadFile
from fastapi.responses import JSONResponse
from pydantic import Json

from conceptseg.segmenter import EncodedImage
from conceptseg.serving import answers
from conceptseg.serving.problems import Problem, documented
from conceptseg.serving.schemas import (
    Answer,
    EncodedImageInfo,
    Examples,
    ExemplarInfo,
    Export,
    Prompt,
)
from conceptseg.serving.service import Service, ServiceOf

PROBLEMS = documented(
    {
        404: "An id that is not, or no longer, kept.",
        413: "Too many bytes or pixels.",
        422: "What is wrong with the image or the prompt.",
        503: "Busy; Retry-After says when to ask again.",
        504: "It took too long.",
    }
)
ImageFile = Annotated[UploadFile, File(description="PNG, JPEG, WebP, TIFF or another known kind.")]

router = APIRouter(prefix="/v1", tags=["segmentation"], responses=PROBLEMS)


@router.post("/segment", response_model=Answer)
async def segment(
    service: ServiceOf,
    image: ImageFile,
    prompt: Annotated[Json[Prompt], Form(description="What to find, as JSON.")],
) -> Response:
    """Find every object in an image that the prompt means."""
    key, encoded = await service.encode(await image.read())
    return await _answer(service, key, encoded, prompt)


@router.post("/images", status_code=201)
async def add_image(service: ServiceOf, image: ImageFile) -> EncodedImageInfo:
    """Encode an image once, for any number of prompts; it is kept while there is room."""
    key, encoded = await service.encode(await image.read())
    if key not in service.cache:
        raise Problem(
            413, "this image takes more memory than the service keeps; ask POST /v1/segment instead"
        )
    return _info(key, encoded)


@router.post("/images/{image_id}/segment", response_model=Answer)
async def segment_image(service: ServiceOf, image_id: str, prompt: Prompt) -> Response:
    """Ask a prompt of an image that was encoded before."""
    return await _answer(service, image_id, service.encoded(image_id), prompt)


@router.post("/exemplars", status_code=201)
async def add_exemplar(
    service: ServiceOf,
    prompt: Annotated[Json[Examples], Form(description="Boxes and labels, as JSON.")],
    image: Annotated[UploadFile | None, File(description="The image that the boxes are on.")] = None,
    image_id: Annotated[str | None, Form(description="Or the id of one that was encoded before.")] = None,
) -> ExemplarInfo:
    """Make a concept of example boxes; its id goes into the `exemplar` of a prompt on any other image."""
    if (image is None) == (image_id is None):
        raise Problem(422, "give the image, or the image_id of one that was sent before")
    if image is not None:
        encoded = (await service.encode(await image.read()))[1]
    else:
        encoded = service.encoded(str(image_id))
    labels = [1] * len(prompt.boxes) if prompt.labels is None else prompt.labels
    key = await service.make_exemplar(encoded, prompt)
    return ExemplarInfo(id=key, positive=sum(labels), negative=len(labels) - sum(labels))


@router.post("/export", response_class=Response)
async def export(service: ServiceOf, wanted: Export) -> Response:
    """Write objects in the format of another tool: COCO, YOLO, LabelMe or Label Studio."""
    if wanted.width * wanted.height > service.settings.max_pixels:
        raise Problem(413, f"this service takes images of at most {service.settings.max_pixels:,} pixels")
    content, media_type, name = await asyncio.to_thread(answers.export, wanted)
    plain = name.encode("ascii", "replace").decode().replace('"', "'").replace("?", "_")
    return Response(
        content, media_type=media_type, headers={"Content-Disposition": f'attachment; filename="{plain}"'}
    )


async def _answer(service: Service, key: str, image: EncodedImage, prompt: Prompt) -> JSONResponse:
    results = await service.ask(key, image, prompt)
    content = {
        "image": _info(key, image).model_dump(),
        "results": await asyncio.to_thread(answers.concepts, results, prompt),
    }
    return JSONResponse(content)


def _info(key: str, image: EncodedImage) -> EncodedImageInfo:
    height, width = image.size_hw
    return EncodedImageInfo(id=key, width=width, height=height)
