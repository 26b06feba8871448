"""Label Studio's ML backend, under `/label-studio`: predictions for tasks, and boxes as examples.

Contract: https://github.com/HumanSignal/label-studio-ml-backend, label_studio_ml/api.py. Without a context
every label of the interface is a phrase. With one (a user has just drawn), the rectangles are examples of
their label, negative where `is_positive` is 0, and the phrase is that of a <TextArea>, or else the label.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from conceptseg.errors import OptionError, PromptError
from conceptseg.result import Result
from conceptseg.segmenter import EncodedImage
from conceptseg.serving.label_config import LabelConfig, read_label_config
from conceptseg.serving.label_studio_files import task_image
from conceptseg.serving.schemas import Prompt
from conceptseg.serving.service import Service, ServiceOf

router = APIRouter(prefix="/label-studio", tags=["Label Studio"])


class BackendHealth(BaseModel):
    """As Label Studio asks when a backend is connected."""

    status: str
    model_class: str


class SetupRequest(BaseModel):
    """What Label Studio sends when a project is connected; other fields are not used."""

    schema_: str = Field(default="", alias="schema", description="The labelling interface, XML.")


class SetupAnswer(BaseModel):
    """Which model answers."""

    model_config = ConfigDict(protected_namespaces=())
    model_version: str


class Task(BaseModel):
    """What a project has of one image; other fields are not used."""

    data: dict[str, Any] = {}


class Context(BaseModel):
    """What a user has just drawn and written."""

    result: list[dict[str, Any]] | None = None


class Params(BaseModel):
    """Beside the context there is nothing that is used."""

    context: Context | None = None


class TasksRequest(BaseModel):
    """Tasks, and in `params.context` what a user has just drawn."""

    tasks: list[Task]
    label_config: str
    params: Params | None = None


class TasksAnswer(BaseModel):
    """One prediction per task."""

    results: list[dict[str, Any]]


@dataclass
class Drawn:
    """What a user's regions say about one label."""

    boxes: list[list[float]] = field(default_factory=list)  # x0, y0, x1, y1 in percent of the image
    labels: list[int] = field(default_factory=list)


@router.get("/health")
@router.get("/", include_in_schema=False)
@router.get("", include_in_schema=False)
async def health(service: ServiceOf) -> BackendHealth:
    """Whether the backend answers; 503 until the model is loaded."""
    return BackendHealth(status="UP", model_class=type(service.segmenter).__name__)


@router.post("/setup")
async def setup(service: ServiceOf, wanted: SetupRequest) -> SetupAnswer:
    """Check a project's labelling interface."""
    if wanted.schema_:
        read_label_config(wanted.schema_)
    return SetupAnswer(model_version=_version(service))


@router.post("/predict")
async def predict(service: ServiceOf, wanted: TasksRequest) -> TasksAnswer:
    """Objects of every task, as regions of the interface."""
    config = read_label_config(wanted.label_config)
    context = wanted.params.context if wanted.params else None
    regions = (context.result if context else None) or []
    predictions = []
    for task in wanted.tasks:
        content = await asyncio.to_thread(task_image, task.data.get(config.image_key), service.settings)
        key, image = await service.encode(content)
        if regions:
            results = await _ask_drawn(service, key, image, regions, config.threshold)
        else:
            results = await _ask_labels(service, key, image, config)
        predictions.append(await asyncio.to_thread(_prediction, results, config, _version(service)))
    return TasksAnswer(results=predictions)


async def _ask_labels(service: Service, key: str, image: EncodedImage, config: LabelConfig) -> list[Result]:
    if not config.labels:
        raise OptionError("the labelling interface has no <Label>, so there is nothing to find")
    return await service.ask(key, image, Prompt(text=list(config.labels), threshold=config.threshold))


async def _ask_drawn(
    service: Service, key: str, image: EncodedImage, regions: list[dict[str, Any]], threshold: float
) -> list[Result]:
    text, drawn = read_context(regions)
    height, width = image.size_hw
    results = []
    for label, examples in drawn.items():
        boxes = [
            [x0 * width / 100, y0 * height / 100, x1 * width / 100, y1 * height / 100]
            for x0, y0, x1, y1 in examples.boxes
        ]
        prompt = Prompt(
            text=text or label,
            boxes=boxes or None,
            labels=examples.labels or None,
            threshold=threshold,
        )
        (result,) = await service.ask(key, image, prompt)
        results.append(replace(result, phrase=label, phrases=(label,) * len(result)))
    return results


def read_context(regions: list[dict[str, Any]]) -> tuple[str | None, dict[str, Drawn]]:
    """What a user drew and wrote.

    Returns:
        The text of a <TextArea>, and the examples of each label.

    Raises:
        PromptError: a region cannot be read, or is of another kind.
    """
    text: str | None = None
    drawn: dict[str, Drawn] = {}
    for region in regions:
        kind, value = region.get("type"), region.get("value") or {}
        try:
            if kind == "textarea":
                written = value["text"]
                text = " ".join(written) if isinstance(written, list) else str(written)
                continue
            if kind != "rectanglelabels":
                raise PromptError(f"regions of type {kind!r} are no examples; draw rectangles")
            x, y = float(value["x"]), float(value["y"])
            box = [x, y, x + float(value["width"]), y + float(value["height"])]
            (label,) = value["rectanglelabels"]
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            if isinstance(error, PromptError):
                raise
            raise PromptError(f"a region of type {kind!r} lacks or garbles {error}") from error
        examples = drawn.setdefault(str(label), Drawn())
        examples.boxes.append(box)
        examples.labels.append(int(bool(region.get("is_positive", 1))))
    if text is not None and not drawn:
        drawn[text] = Drawn()
    return text, drawn


def _prediction(results: list[Result], config: LabelConfig, version: str) -> dict[str, Any]:
    """Label Studio's own form, its labels and tags being those of the interface."""
    joined = Result.concat(results)
    task = joined.to_label_studio(
        regions=config.regions, from_name=config.labels_tag, to_name=config.image_tag
    )
    prediction: dict[str, Any] = task["predictions"][0]
    prediction.setdefault("score", 0.0)
    prediction["model_version"] = version
    return prediction


def _version(service: Service) -> str:
    return f"conceptseg-{service.model_id}-{service.segmenter.fingerprint}"
