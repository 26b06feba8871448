"""What every training run says, whatever is learned: recipes of each task add to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from conceptseg.errors import ConfigError


@dataclass(frozen=True)
class OptimiserConfig:
    """AdamW with a warm-up and a cosine decay."""

    lr: float = 4e-4
    vision_lr: float | None = None  # of the vision encoder; None: as the rest
    part_rates: dict[str, float] = field(default_factory=dict)  # factor on the rate by part: {decoder: 0.1}
    weight_decay: float = 0.05  # not for biases, norms, embeddings and positions
    betas: tuple[float, ...] = (0.9, 0.98)
    # A bias that no softmax sees, of attention keys for one, has a gradient of rounding alone, 1e-9 to 1e-8.
    # This keeps Adam from making whole steps of it. Of nano's other gradients, when it is tuned, one in forty
    # is as small.
    eps: float = 1e-7
    warmup_steps: int = 300
    schedule_steps: int | None = None  # length of the schedule; None: the run's. A longer one is left early
    final_lr: float = 0.01  # share of `lr` that is left at the last step
    clip_norm: float = 1.0  # gradients are scaled down to this L2 norm

    def __post_init__(self) -> None:
        check(self.lr > 0, "optimiser.lr", self.lr, "above 0")
        check(self.vision_lr is None or self.vision_lr > 0, "optimiser.vision_lr", self.vision_lr, "above 0")
        for part, factor in self.part_rates.items():
            number = isinstance(factor, (int, float)) and not isinstance(factor, bool) and factor > 0
            check(number, f"optimiser.part_rates.{part}", factor, "above 0; `trainable` leaves parts out")
        check(self.weight_decay >= 0, "optimiser.weight_decay", self.weight_decay, "0 or more")
        two = len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas)
        check(two, "optimiser.betas", list(self.betas), "two numbers from 0 to below 1")
        check(self.eps > 0, "optimiser.eps", self.eps, "above 0")
        check(self.warmup_steps >= 0, "optimiser.warmup_steps", self.warmup_steps, "0 or more")
        check(0 <= self.final_lr <= 1, "optimiser.final_lr", self.final_lr, "a share from 0 to 1")
        check(self.clip_norm > 0, "optimiser.clip_norm", self.clip_norm, "above 0")


@dataclass(frozen=True)
class LoraConfig:
    """Low-rank tuning of attention in place of its matrices, for models too large to train whole."""

    rank: int = 0  # of what is added to each matrix; 0: no low-rank tuning
    scale: float = 2.0  # factor on what is added: alpha / rank of the paper
    parts: tuple[str, ...] = ("vision_encoder", "text_encoder", "fusion_encoder", "decoder")

    def __post_init__(self) -> None:
        check(self.rank >= 0, "lora.rank", self.rank, "0 or more")
        check(self.scale > 0, "lora.scale", self.scale, "above 0")
        check(bool(self.parts), "lora.parts", list(self.parts), "the name of a part or several")


@dataclass(frozen=True)
class RunConfig:
    """What the loop reads of a recipe; that of a task extends this, and says how many steps there are."""

    task: str = ""  # which task the recipe is for; each recipe class fixes its own
    name: str = "run"
    seed: int = 0
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    trainable: tuple[str, ...] = ()  # parts of the detector that are trained; none named: all of it
    frozen: tuple[str, ...] = ()  # parts of these that are not
    rest_batch_norm: bool = False  # keep the running statistics that training starts with
    lora: LoraConfig = field(default_factory=LoraConfig)  # with a rank, only that and `trainable` are trained
    precision: Literal["bf16", "float32"] = "bf16"
    accumulate: int = 1  # work through each batch in so many parts: the same step in less memory
    checkpoint_activations: bool = False  # compute them again on the way back: less memory, slower
    ema_decay: float = 0.999  # of the averaged weights that the run ends with; 0 keeps the last ones
    save_every: int = 200  # steps between checkpoints
    log_every: int = 10  # steps between lines of metrics.jsonl
    validate_every: int = 1000  # steps between looks at held-out data
    patience: int | None = None  # validations in a row without a better one that end the run; None: no end
    licence: str | None = None  # of the trained weights; `conceptseg models info` shows it
    weights_dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"  # on disk

    def __post_init__(self) -> None:
        plain = self.name not in ("", ".", "..") and not set("/\\") & set(self.name)
        check(plain, "name", self.name, "fit to be the name of a folder")
        check(self.seed >= 0, "seed", self.seed, "0 or more")
        check(0 <= self.ema_decay < 1, "ema_decay", self.ema_decay, "from 0 to below 1")
        for name in ("accumulate", "save_every", "log_every", "validate_every"):
            check(getattr(self, name) >= 1, name, getattr(self, name), "1 or more")
        check(self.patience is None or self.patience >= 1, "patience", self.patience, "1 or more, or null")

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        raise NotImplementedError


def check(right: bool, name: str, value: Any, wanted: str) -> None:
    """Refuse a value of a recipe.

    Raises:
        ConfigError: names the entry, its value and what it must be.
    """
    if not right:
        raise ConfigError(f"{name} is {value!r}; it must be {wanted}")
