"""The protocol of X-AnyLabeling-Server: its client connects here as to its own server.

Contract: https://github.com/CVHub520/X-AnyLabeling-Server, docs/router.md and docs/user_guide.md. Errors
about a request come with status 200, `success: false` and a code. Its client takes an answer without shapes
for "nothing there" and deletes what was annotated, unless the data says `replace: false`; errors do.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field, ValidationError

from conceptseg.errors import ConceptSegError, ImageError
from conceptseg.polygons import mask_polygons
from conceptseg.result import Result
from conceptseg.serving.base64_image import decode_base64_image
from conceptseg.serving.problems import Problem, validation_message
from conceptseg.serving.schemas import Prompt
from conceptseg.serving.service import Service, ServiceOf

UNNAMED = "AUTOLABEL_OBJECT"  # what its client asks the user to name
PHRASES_END = re.compile("[,.]")
USUAL_THRESHOLD = 0.5
USUAL_FINENESS = 0.001  # epsilon of its polygons, as a share of the outline

router = APIRouter(tags=["X-AnyLabeling"])


class Health(BaseModel):
    """Of the server."""

    status: str
    models_loaded: int
    timestamp: str


class Envelope(BaseModel):
    """What its answers come in."""

    success: bool
    data: dict[str, Any] = {}
    error: dict[str, str] | None = None


class Mark(BaseModel):
    """A rectangle that the user drew."""

    type: str
    data: list[float] = []
    label: int = 1  # 0: not like this


class Parameters(BaseModel):
    """What its client sends; others are for other models."""

    text_prompt: str = ""
    marks: list[Mark] = []
    conf_threshold: float = USUAL_THRESHOLD
    epsilon_factor: float = Field(default=USUAL_FINENESS, ge=0)
    show_boxes: bool = False
    show_masks: bool = True


class PredictRequest(BaseModel):
    """An image in base64, and what to find."""

    model: str
    image: str
    params: dict[str, Any] = {}


@router.get("/health")
async def health(service: ServiceOf) -> Health:
    """As X-AnyLabeling asks; see `/readyz` for clusters."""
    now = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    loaded = int(service.ready)
    return Health(status="healthy", models_loaded=loaded, timestamp=now)


@router.get("/v1/models", response_model_exclude_none=True)
async def models(service: ServiceOf) -> Envelope:
    """What is served: under `data`, by id, with the widgets that X-AnyLabeling shows."""
    return Envelope(success=True, data={service.model_id: describe(service)})


@router.get("/v1/models/{model_id}/info", response_model_exclude_none=True)
async def model_info(service: ServiceOf, model_id: str) -> Envelope:
    """One model."""
    if model_id != service.model_id:
        return _error("MODEL_NOT_FOUND", _not_here(model_id, service))
    return Envelope(success=True, data={"model_id": model_id, **describe(service)})


@router.post("/v1/predict", response_model_exclude_none=True)
async def predict(service: ServiceOf, wanted: PredictRequest) -> Envelope:
    """Phrases (several with commas between them), positive and negative rectangles, or both."""
    if wanted.model != service.model_id:
        return _error("MODEL_NOT_FOUND", _not_here(wanted.model, service))
    try:
        params = Parameters.model_validate(wanted.params)
        key, image = await service.encode(await asyncio.to_thread(decode_base64_image, wanted.image))
        prompt = _prompt(params)
        results = await service.ask(key, image, prompt)
    except ImageError as error:
        return _error("INVALID_IMAGE", str(error))
    except ValidationError as error:
        return _error("INFERENCE_ERROR", validation_message(error.errors()))
    except ConceptSegError as error:
        return _error("INFERENCE_ERROR", str(error))
    except Problem as problem:
        if problem.status == 503:
            raise
        return _error("INVALID_IMAGE", problem.detail)
    named = prompt.text is not None
    shapes = await asyncio.to_thread(_shapes, results, params, named)
    return Envelope(success=True, data={"shapes": shapes, "description": ""})


def describe(service: Service) -> dict[str, Any]:
    """The model, for people and for X-AnyLabeling's widgets."""
    segmenter = service.segmenter
    config = segmenter.config
    calibration = config.presence_calibration
    return {
        "display_name": f"conceptseg {service.model_id}",
        "batch_processing_mode": "text_prompt",
        "widgets": [
            {"name": "edit_text", "value": None},
            {"name": "button_send", "value": None},
            {"name": "add_pos_rect", "value": None},
            {"name": "add_neg_rect", "value": None},
            {"name": "button_run_rect", "value": None},
            {"name": "button_clear", "value": None},
            {"name": "button_finish_object", "value": None},
            {"name": "input_conf", "value": None},
            {"name": "edit_conf", "value": USUAL_THRESHOLD},
            {"name": "mask_fineness_slider", "value": 10},
            {"name": "mask_fineness_value_label", "value": None},
            {"name": "toggle_preserve_existing_annotations", "value": True},
        ],
        "params": {"conf_threshold": USUAL_THRESHOLD, "epsilon_factor": USUAL_FINENESS},
        "fingerprint": segmenter.fingerprint,
        "resolution": segmenter.resolution,
        "device": str(segmenter.device),
        "dtype": str(segmenter.dtype).removeprefix("torch."),
        "licence": config.provenance.get("licence", "not stated"),
        "prompts": ["text", "boxes", "exemplar"],
        "presence": {
            "mode": config.presence_mode,
            "scale": calibration.scale,
            "offset": calibration.offset,
        },
        "limits": {
            "upload_bytes": service.settings.max_upload_bytes,
            "pixels": service.settings.max_pixels,
            "phrases": service.settings.max_phrases,
            "boxes": service.settings.max_boxes,
        },
    }


def _prompt(params: Parameters) -> Prompt:
    phrases = list(dict.fromkeys(p.strip() for p in PHRASES_END.split(params.text_prompt) if p.strip()))
    marks = [mark for mark in params.marks if mark.type == "rectangle" and len(mark.data) == 4]
    boxes = [
        [min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)] for x0, y0, x1, y1 in (m.data for m in marks)
    ]
    return Prompt(
        text=phrases or None,
        boxes=boxes or None,
        labels=[mark.label for mark in marks] or None,
        threshold=params.conf_threshold,
    )


def _shapes(results: Sequence[Result], params: Parameters, named: bool) -> list[dict[str, Any]]:
    shapes = []
    group = 0
    for result in results:
        label = result.phrase if named else UNNAMED
        for number, (x0, y0, x1, y1) in enumerate(result.boxes.tolist()):
            score = float(result.scores[number])
            group += 1
            if params.show_masks:
                # Its share is of the outline's length, which that of the box stands for.
                tolerance = params.epsilon_factor * 2 * (x1 - x0 + y1 - y0)
                parts = mask_polygons(result.compact_masks, number, tolerance)
                for part in parts:
                    closed = [*part.tolist(), part[0].tolist()]
                    shapes.append(_shape(label, "polygon", closed, score, group if len(parts) > 1 else None))
            if params.show_boxes:
                corners = [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]
                shapes.append(_shape(label, "rectangle", corners, score, None))
    return shapes


def _shape(
    label: str, kind: str, points: list[list[float]], score: float, group: int | None
) -> dict[str, Any]:
    return {
        "label": label,
        "shape_type": kind,
        "points": points,
        "score": score,
        "attributes": {},
        "description": None,
        "difficult": False,
        "direction": 0,
        "flags": None,
        "group_id": group,
        "kie_linking": [],
    }


def _not_here(model_id: str, service: Service) -> str:
    return f"model {model_id!r} is not served here; choose {service.model_id!r}"


def _error(code: str, message: str) -> Envelope:
    kept = {"shapes": [], "description": "", "replace": False}
    return Envelope(success=False, data=kept, error={"code": code, "message": message})
