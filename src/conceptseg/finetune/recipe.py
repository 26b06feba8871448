"""The recipe of fine-tuning: a model, data, and what may be left to the data to decide.

`conceptseg finetune DATA --model M` is the packaged recipe `finetune` with two entries changed. What is left
open (null) is settled before the run begins, and written down in the run folder.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from conceptseg.choices import TrainedPart
from conceptseg.data.concept_batches import BatchConfig
from conceptseg.errors import ConfigError
from conceptseg.finetune.forgetting import KeepConfig
from conceptseg.losses.alignment import AlignmentConfig
from conceptseg.losses.detection import DetectionLossConfig, LossWeights
from conceptseg.train.phases import PROGRESSIVE, AlignmentPhase, check_phases
from conceptseg.train.run_config import RunConfig, check

# What `only` trains; none named: everything.
PARTS: dict[str, tuple[str, ...]] = {
    "presence": ("decoder.presence_head",),
    "exemplar": ("exemplar_encoder",),
    "heads": ("exemplar_encoder", "fusion_encoder", "decoder", "scoring", "mask_head"),
    "all": (),
}


@dataclass(frozen=True)
class FinetuneRecipe(RunConfig):
    """Training on labelled images, from a loaded model."""

    task: Literal["finetune"] = "finetune"
    name: str = "finetune"
    model: str = "nano"  # embedded name, path, or Hugging Face repository
    data: str = ""  # dataset: COCO, Roboflow, SA-Co, YOLO
    split: str | None = None  # to train on; null: "train", or the only one
    held_out: str | None = None  # to judge on; null: the held-out one, or a part of what is trained on
    only: TrainedPart | None = (
        None  # which parts train; null: all of a small network, the heads of a large one
    )
    resolution: int | None = None  # side in pixels; null: chosen so that the data's objects can be seen
    window_resolution: int | None = None  # likewise of steps that see windows; null: the model's own
    queries: int | None = None  # that look for objects; null: more than the model has where images are dense
    query_side: float | None = (
        None  # of the new ones' boxes, a share of the image; null: of the data's objects
    )
    epochs: float | None = None  # passes through the data; null: see `settle`
    step_count: int | None = None  # steps, those that rehearse among them; null: from `epochs`
    batch: BatchConfig = field(default_factory=BatchConfig)
    keep: KeepConfig = field(default_factory=KeepConfig)  # what is done against forgetting
    loss: DetectionLossConfig = field(default_factory=DetectionLossConfig)
    weights: LossWeights = field(default_factory=LossWeights)
    one_to_many: bool = False  # train the auxiliary queries too: half as much time again
    alignment: AlignmentConfig | None = None  # draw example boxes towards the image beside it; null: do not
    alignment_phases: tuple[AlignmentPhase, ...] = PROGRESSIVE  # how much that counts, and the rate
    looks: int | None = 8  # at held-out images in the whole run; null: every `validate_every` steps
    look_images: int = 24  # of these, evenly spread
    held_out_images: int = 100  # that the end of the run is judged on, at most
    scenes: int = 60  # on which the report says what was forgotten; 0: none

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.epochs is None or self.epochs > 0, "epochs", self.epochs, "above 0")
        for name in ("step_count", "resolution", "window_resolution", "queries", "looks"):
            value = getattr(self, name)
            check(value is None or value >= 1, name, value, "1 or more")
        for name in ("look_images", "held_out_images"):
            check(getattr(self, name) >= 1, name, getattr(self, name), "1 or more")
        check(self.only is None or self.only in PARTS, "only", self.only, f"one of {', '.join(PARTS)}")
        check(self.scenes >= 0, "scenes", self.scenes, "0 or more")
        check_phases(self.alignment_phases)
        if self.epochs is not None and self.step_count is not None:
            raise ConfigError("give epochs or step_count, not both")

    @property
    def steps(self) -> int:
        if self.step_count is None:
            raise ConfigError("step_count is open; `settle` the recipe first")
        return self.step_count
