"""A distillation recipe: who learns what from whom, on which images.

`read_recipe(DistilRecipe, "distil-1")` reads the packaged recipe of the first stage; `conceptseg distill`
fills in teacher, student and data.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from conceptseg.data.question_config import QuestionConfig
from conceptseg.data.scene_batches import SCENES, SceneDataConfig, SceneStage
from conceptseg.data.view import AugmentConfig
from conceptseg.losses.alignment import AlignmentConfig
from conceptseg.losses.detection import DetectionLossConfig, LossWeights
from conceptseg.train.phases import PROGRESSIVE, AlignmentPhase, check_phases
from conceptseg.train.run_config import RunConfig, check
from conceptseg.train.trunk_weights import TrunkWeights


@dataclass(frozen=True)
class DistilDataConfig:
    """Images and phrases, labelled or not."""

    source: str = SCENES  # "scenes" (drawn on the way), a labelled dataset, or (stage 1) a folder of images
    split: str | None = None  # of a dataset; None: "train", or the only one
    phrases: str | None = None  # file with a phrase per line, for a folder of images
    images: int = 8  # per step
    questions: int = 2  # per image: (image, prompt) pairs; phrases in stage 1
    absent: int = 3  # phrases sampled per image of a dataset that names no absent ones
    render_size: int = 192  # pixels per side that scenes are drawn at
    mask_size: int = 96  # pixels per side of labelled masks
    difficulty: tuple[float, ...] = (1.0, 1.0)  # of scenes, at the start and the end
    kinds: QuestionConfig = field(default_factory=QuestionConfig)  # how often each kind of prompt is asked
    augment: AugmentConfig = field(
        default_factory=lambda: AugmentConfig(turns=False)
    )  # of a dataset's images
    workers: int = 1  # processes that make batches; 0 makes them in the training process
    cache: str | None = None  # stage 1 on files: keep the teacher's features in this folder
    cache_limit_gb: float = 50.0  # more than that is refused before anything is computed

    def __post_init__(self) -> None:
        check(self.images >= 2 and self.images % 2 == 0, "data.images", self.images, "even, 2 or more")
        check(self.questions >= 1, "data.questions", self.questions, "1 or more")
        check(self.workers >= 0, "data.workers", self.workers, "0 or more")
        check(self.cache_limit_gb > 0, "data.cache_limit_gb", self.cache_limit_gb, "above 0")


@dataclass(frozen=True)
class DistilWeights:
    """What each named loss counts in the total; 0 leaves it out."""

    vision_mse: float = 1.0  # levels of the neck, over their mean square
    vision_cosine: float = 1.0
    text_mse: float = 1.0  # tokens of phrases
    text_cosine: float = 1.0
    memory_mse: float = 1.0  # of the fusion encoder
    memory_cosine: float = 1.0
    hidden_mse: float = 1.0  # decoder states, mean over layers
    hidden_cosine: float = 1.0
    box_l1: float = 5.0  # of queries as far as the teacher means them
    box_giou: float = 2.0
    classes: float = 1.0  # nats, sum over queries
    presence: float = 5.0  # nats
    mask: float = 20.0  # nats per pixel
    mask_dice: float = 5.0


@dataclass(frozen=True)
class DistilRecipe(RunConfig):
    """One stage."""

    task: Literal["distil"] = "distil"
    name: str = "distil"
    stage: Literal[1, 2, 3] = 1
    teacher: str = ""  # name, path or repository
    # a preset (its encoders) in stage 1, or where it inherits in any; or a model, as that of the stage before
    student: str = ""
    architecture: dict[str, Any] = field(default_factory=dict)  # stage 1: laid over the student's
    inherit: bool = False  # from a preset: encoders begin with those weights of the teacher's that fit
    # where it inherits: the blocks of the teacher's ViT that the student's begin as; empty: the first ones
    trunk_blocks: tuple[int, ...] = ()
    trunk_weights: TrunkWeights | None = None  # from a preset: what a trunk of the kind "timm" begins with
    resolution: int | None = (
        None  # pixels per side that the student sees; None: as the teacher, or as its model
    )
    steps: int = 1000
    data: DistilDataConfig = field(default_factory=DistilDataConfig)
    weights: DistilWeights = field(default_factory=DistilWeights)
    masks: int = 8  # queries per pair whose masks are compared, those that the teacher means most
    loss: DetectionLossConfig = field(default_factory=DetectionLossConfig)  # stage 3
    labels: LossWeights = field(default_factory=LossWeights)  # stage 3
    labels_share: float = 0.1  # stage 3: factor on the losses of labels beside those of the teacher
    alignment: AlignmentConfig | None = None  # stages 2 and 3: draw example boxes towards the image beside it
    alignment_phases: tuple[AlignmentPhase, ...] = PROGRESSIVE  # how much that counts, and the rate
    validation_batches: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.steps >= 1, "steps", self.steps, "1 or more")
        check(
            not self.trunk_blocks or self.inherit, "trunk_blocks", self.trunk_blocks, "empty unless inherit"
        )
        check(self.masks >= 1, "masks", self.masks, "1 or more")
        check(self.labels_share > 0, "labels_share", self.labels_share, "above 0; stage 2 needs no labels")
        check(self.validation_batches >= 0, "validation_batches", self.validation_batches, "0 or more")
        check_phases(self.alignment_phases)

    def scenes(self) -> SceneDataConfig:
        """What to draw, where the data are scenes; both models resize the images as in use."""
        data = self.data
        stage = SceneStage(
            steps=self.steps,
            resolution=data.render_size,
            render_size=data.render_size,
            images=data.images,
            questions=data.questions,
            difficulty=data.difficulty,
            mask_size=data.mask_size,
            one_to_many=False,
        )
        return SceneDataConfig((stage,), data.kinds, data.workers)
