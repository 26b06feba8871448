"""What a model is made of: one frozen dataclass per component.

`ModelConfig` is what `config.json` in a model folder holds. Every dataclass refuses unknown keys, so that a
misspelt option is an error and not a silent default, and sizes that no model has, so that a config that lies
costs no hour and no memory before it is compared with weights. The defaults are the sizes of the released
SAM 3 image model; `presets.py` holds others.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from types import UnionType
from typing import Any, Literal, TypeAlias, TypeVar, Union, get_args, get_origin, get_type_hints

from conceptseg.choices import DedupeMode, PresenceMode
from conceptseg.errors import ConfigError

Config = TypeVar("Config")


# From where to where a value may lie: far beyond any model that there is.
WIDTH = (1, 2**16)  # channels, and rows of tables but those of words
LAYERS = (0, 200)
SOME_LAYERS = (1, 200)
WORDS = (3, 2**24)
TOKENS = (1, 256)  # per side of a window or table
RESOLUTION = (1, 8192)  # pixels
SHARE = (0.0, 1.0)
POSITIVE = (1e-12, 1e12)

BRIDGE_JOINTS: tuple[Literal["early", "middle", "late"], ...] = ("early", "middle", "late")

# Of entries that models did not always have: at its default such a one leaves a fingerprint as it was.
LATER = {"later": True}


def _within(part: str, config: object, **bounds: tuple[float, float]) -> None:
    """Refuse values outside their bounds, which NaN is always; those that are None say nothing.

    Raises:
        ConfigError: names the first one.
    """
    for name, (low, high) in bounds.items():
        given = getattr(config, name)
        values = given if isinstance(given, tuple) else (given,)
        if len(values) > LAYERS[1]:
            raise ConfigError(f"{part}{name} has {len(values):,} entries; there may be {LAYERS[1]}")
        for value in values:
            if value is not None and not low <= value <= high:
                raise ConfigError(f"{part}{name} is {str(value):.20}; it must be from {low:g} to {high:g}")
            if isinstance(low, int) and isinstance(value, float):
                raise ConfigError(f"{part}{name} is {value}; it must be a whole number")


def _divides(name: str, value: int, by_name: str, by: int) -> None:
    if value % by:
        raise ConfigError(f"{name} = {value} is not a multiple of {by_name} = {by}")


@dataclass(frozen=True)
class ViTConfig:
    """Plain vision transformer with windowed and global attention (SAM 3's trunk)."""

    kind: Literal["vit"] = "vit"
    patch_size: int = 14
    width: int = 1024
    depth: int = 32
    heads: int = 16
    mlp_width: int = 4736
    window: int = 24  # tokens per side of an attention window
    global_blocks: tuple[int, ...] = (7, 15, 23, 31)  # these attend over the whole image
    position_grid: int = 24  # side of the learned position table, tiled over the image
    rope_theta: float = 10000.0
    drop_path: float = 0.1  # stochastic depth of the last block; earlier blocks less, linearly
    norm_eps: float = 1e-5
    # True: the first product of every feed-forward in bfloat16 and its GELU by tanh, as the official code has
    # them on CUDA since SAM 3.1. False: as before, in what the trunk computes in, and GELU exactly
    rounded_mlp: bool = False

    def __post_init__(self) -> None:
        _within("vision.", self, width=WIDTH, mlp_width=WIDTH, heads=WIDTH, depth=SOME_LAYERS)
        _within("vision.", self, patch_size=TOKENS, window=TOKENS, position_grid=TOKENS, global_blocks=LAYERS)
        _within("vision.", self, rope_theta=POSITIVE, drop_path=SHARE, norm_eps=POSITIVE)
        _divides("vision.width", self.width, "vision.heads", self.heads)
        head_width = self.width // self.heads
        if head_width % 4:
            raise ConfigError(
                f"vision.width / vision.heads = {head_width}; axial rotary positions need a multiple of 4"
            )

    @property
    def stride(self) -> int:
        """Image sides must be a multiple of this many pixels."""
        return self.patch_size


@dataclass(frozen=True)
class ConvNetConfig:
    """Residual network with a top-down path: three maps, at 1/4, 1/8 and 1/16 of the image.

    Trained from scratch it grounds phrases within hundreds of steps, where a transformer needs thousands.
    """

    kind: Literal["convnet"] = "convnet"
    stem_width: int = 32
    widths: tuple[int, ...] = (64, 128, 192, 256)  # at strides 4, 8, 16, 32
    blocks: tuple[int, ...] = (1, 2, 2, 1)
    pyramid_width: int = 128  # channels of the output maps

    def __post_init__(self) -> None:
        _within("vision.", self, stem_width=WIDTH, widths=WIDTH, blocks=LAYERS, pyramid_width=WIDTH)
        if len(self.widths) != 4 or len(self.blocks) != 4:
            raise ConfigError(
                "vision.widths and vision.blocks need four numbers, for strides 4, 8, 16 and 32"
            )

    @property
    def stride(self) -> int:
        """Image sides must be a multiple of this many pixels."""
        return 32


@dataclass(frozen=True)
class TimmConfig:
    """A network of `timm` with a top-down path: three maps, at 1/4, 1/8 and 1/16 of the image."""

    kind: Literal["timm"] = "timm"
    network: str = "efficientnet_lite0"  # its name in timm; it must give maps at strides 4, 8, 16 and 32
    pyramid_width: int = 128  # channels of the output maps
    # blocks of each stage, the first ones, of a network that is written here; empty: all that it has
    blocks: tuple[int, ...] = field(default=(), metadata=LATER)

    def __post_init__(self) -> None:
        _within("vision.", self, pyramid_width=WIDTH, blocks=SOME_LAYERS)

    @property
    def stride(self) -> int:
        """Image sides must be a multiple of this many pixels."""
        return 32


StudentBackbone = Literal[
    "repvit_m0_9",
    "repvit_m1_1",
    "repvit_m2_3",
    "tinyvit_5m",
    "tinyvit_11m",
    "tinyvit_21m",
    "efficientvit_b0",
    "efficientvit_b1",
    "efficientvit_b2",
]


@dataclass(frozen=True)
class StudentConfig:
    """A small backbone that was taught to give what SAM 3's trunk gives (EfficientSAM3): one map."""

    kind: Literal["student"] = "student"
    backbone: StudentBackbone = "repvit_m0_9"
    head_width: int = 1024  # channels of the map
    stride: int = 14  # the map has one cell per this many pixels; image sides are a multiple of it
    fine_map: bool = False  # also read the backbone's map at 1/16: 63 x 63 of 1008 pixels in place of 32 x 32

    def __post_init__(self) -> None:
        if self.backbone not in get_args(StudentBackbone):
            choices = ", ".join(get_args(StudentBackbone))
            raise ConfigError(f"vision.backbone is {self.backbone!r}; choose {choices}")
        _within("vision.", self, head_width=WIDTH, stride=TOKENS)


AnyVisionConfig: TypeAlias = ViTConfig | ConvNetConfig | TimmConfig | StudentConfig
PYRAMIDS = (ConvNetConfig, TimmConfig)  # those that give three maps, from fine to coarse


@dataclass(frozen=True)
class NeckConfig:
    """Feature maps of width D, finest first; the last one is what the detector reads."""

    scales: tuple[float, ...] = (
        4.0,
        2.0,
        1.0,
        0.5,
    )  # resolution of each level relative to the map it is made from
    drop_last: int = 1  # SAM 3 computes a coarsest level and throws it away ("scalp")
    per_level: bool = False  # True: the vision encoder already gives one map per level
    normalise: bool = False  # True: every position has mean 0 and variance 1 over the channels

    def __post_init__(self) -> None:
        _within("neck.", self, scales=POSITIVE, drop_last=LAYERS)


@dataclass(frozen=True)
class TextConfig:
    """CLIP-style causal text transformer; every token is kept."""

    kind: Literal["clip"] = "clip"
    vocab_size: int = 49408
    context_length: int = 32
    width: int = 1024
    depth: int = 24
    heads: int = 16
    mlp_width: int = 4096
    embedding_std: float = 0.02  # of fresh token embeddings; small ones drown in what the first block adds

    def __post_init__(self) -> None:
        _within("text.", self, vocab_size=WORDS, context_length=WIDTH, width=WIDTH, depth=SOME_LAYERS)
        _within("text.", self, heads=WIDTH, mlp_width=WIDTH, embedding_std=POSITIVE)
        _divides("text.width", self.width, "text.heads", self.heads)


@dataclass(frozen=True)
class MobileClipTextConfig:
    """MobileCLIP's text transformer: every token, padding too, reads every other."""

    kind: Literal["mobileclip"] = "mobileclip"
    vocab_size: int = 49408
    context_length: int = 16  # phrases are padded to this, and the padding is read: it changes the answer
    positions: int | None = None  # rows of the position table, of which the first are used; None: as many
    width: int = 512
    depth: int = 4  # transformer layers
    heads: int = 8
    mlp_width: int = 2048
    rep_mixer: bool = True  # one convolutional block before these layers and one after them (MobileCLIP-S0)

    def __post_init__(self) -> None:
        _within("text.", self, vocab_size=WORDS, context_length=WIDTH, positions=WIDTH, width=WIDTH)
        _within("text.", self, depth=SOME_LAYERS, heads=WIDTH, mlp_width=WIDTH)
        _divides("text.width", self.width, "text.heads", self.heads)
        if self.rows < self.context_length:
            raise ConfigError(
                f"text.context_length = {self.context_length} exceeds the {self.rows} rows of text.positions"
            )

    @property
    def rows(self) -> int:
        """Rows of the position table."""
        return self.context_length if self.positions is None else self.positions


@dataclass(frozen=True)
class ExemplarSizes:
    """What every exemplar encoder has."""

    layers: int = 3
    heads: int = 8
    mlp_width: int = 2048
    roi_size: int = 7  # side of the patch that is pooled from under each box
    dropout: float = 0.1

    def __post_init__(self) -> None:
        _within(
            "exemplar.", self, layers=LAYERS, heads=WIDTH, mlp_width=WIDTH, roi_size=TOKENS, dropout=SHARE
        )


@dataclass(frozen=True)
class ExemplarConfig(ExemplarSizes):
    """Boxes and points on the image -> prompt tokens: the released form, which official weights load into."""

    kind: Literal["roi"] = "roi"


@dataclass(frozen=True)
class RoiTransformerConfig(ExemplarSizes):
    """Each box reads the patch under it, and nothing else; `layers` count over the patch."""

    kind: Literal["roi_transformer"] = "roi_transformer"


@dataclass(frozen=True)
class UnifiedConfig(ExemplarSizes):
    """Exemplar tokens made of the image features themselves; `layers` count the context fusion."""

    kind: Literal["unified"] = "unified"


@dataclass(frozen=True)
class BridgeConfig(ExemplarSizes):
    """Exemplar and image joined at three levels; `layers` count the middle one."""

    kind: Literal["bridge"] = "bridge"
    joints: tuple[Literal["early", "middle", "late"], ...] = field(default=BRIDGE_JOINTS, metadata=LATER)

    def __post_init__(self) -> None:
        super().__post_init__()
        in_order = tuple(joint for joint in BRIDGE_JOINTS if joint in self.joints)
        if not self.joints or self.joints != in_order:
            raise ConfigError(
                f"exemplar.joints is {list(self.joints)}; name some of early, middle and late, in order"
            )


@dataclass(frozen=True)
class AdaptiveConfig(ExemplarSizes):
    """Adapts to a box's size and to what surrounds it; `layers` count the closing ones."""

    kind: Literal["adaptive"] = "adaptive"
    context: bool = True  # look at what surrounds the box
    # How: each part may be left out, to see what it brings.
    kernels: tuple[int, ...] = field(default=(3, 5, 7), metadata=LATER)  # the box weighs them; (): none
    selector: bool = field(default=True, metadata=LATER)  # pick image tokens; without, the mean of all
    modulator: bool = field(default=True, metadata=LATER)  # context scales and shifts; without, it is added

    def __post_init__(self) -> None:
        super().__post_init__()
        if any(not 1 <= kernel <= TOKENS[1] or kernel % 2 == 0 for kernel in self.kernels):
            raise ConfigError(f"exemplar.kernels is {list(self.kernels)}; give odd numbers of cells, or none")


AnyExemplarConfig: TypeAlias = (
    ExemplarConfig | RoiTransformerConfig | UnifiedConfig | BridgeConfig | AdaptiveConfig
)


@dataclass(frozen=True)
class FusionConfig:
    """Image tokens read the prompt."""

    layers: int = 6
    heads: int = 8
    mlp_width: int = 2048
    levels: int = 1  # feature maps that are read together
    pre_norm: bool = True
    pool_prompt: Literal["none", "mean", "masked_mean"] = (
        "none"  # add the pooled prompt to every image token first
    )
    dropout: float = 0.1

    def __post_init__(self) -> None:
        _within("fusion.", self, layers=LAYERS, heads=WIDTH, mlp_width=WIDTH, dropout=SHARE)


@dataclass(frozen=True)
class PresenceConfig:
    """Is the concept there at all?"""

    layers: int = 3  # depth of the head's MLP
    logit_limit: float | None = None  # clamp to plus or minus this; None, as the released model behaves

    def __post_init__(self) -> None:
        _within("presence.", self, layers=SOME_LAYERS, logit_limit=POSITIVE)


@dataclass(frozen=True)
class DecoderConfig:
    """Object queries and a presence token look into the memory."""

    layers: int = 6
    heads: int = 8
    mlp_width: int = 2048
    queries: int = 200
    text_attention: bool = True  # queries also attend to the prompt
    box_bias: bool = True  # image attention is biased by where the reference box lies
    one_to_many: bool = True  # second, auxiliary set of queries in training
    reference_grid: bool = False  # start reference boxes on a grid, and their attention inside them
    ffn_float32: bool = True  # the released model keeps the feed-forward out of autocast
    dropout: float = 0.1

    def __post_init__(self) -> None:
        _within(
            "decoder.", self, layers=SOME_LAYERS, heads=WIDTH, mlp_width=WIDTH, queries=WIDTH, dropout=SHARE
        )


@dataclass(frozen=True)
class ScoringConfig:
    """Class logit of a query: its dot product with the pooled prompt."""

    mlp_width: int = 2048
    logit_limit: float | None = 12.0
    dropout: float = 0.1

    def __post_init__(self) -> None:
        _within("scoring.", self, mlp_width=WIDTH, logit_limit=POSITIVE, dropout=SHARE)


@dataclass(frozen=True)
class MaskHeadConfig:
    """Pixel decoder, instance masks and a semantic map."""

    heads: int = 8
    upsampling_stages: int = 3  # convolution and norm pairs; SAM 3 ships one more than it uses
    group_norm_groups: int = 8

    def __post_init__(self) -> None:
        _within("mask_head.", self, heads=WIDTH, upsampling_stages=LAYERS, group_norm_groups=WIDTH)


@dataclass(frozen=True)
class DetectorConfig:
    """The whole network. `width` is D, the channels of everything after the encoders."""

    width: int = 256
    vision: AnyVisionConfig = field(default_factory=ViTConfig)
    neck: NeckConfig = field(default_factory=NeckConfig)
    text: TextConfig | MobileClipTextConfig = field(default_factory=TextConfig)
    exemplar: AnyExemplarConfig = field(default_factory=ExemplarConfig)
    fusion: FusionConfig = field(default_factory=FusionConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    presence: PresenceConfig = field(default_factory=PresenceConfig)
    scoring: ScoringConfig = field(default_factory=ScoringConfig)
    mask_head: MaskHeadConfig = field(default_factory=MaskHeadConfig)

    def __post_init__(self) -> None:
        _within("", self, width=WIDTH)
        for name in ("exemplar", "fusion", "decoder", "mask_head"):
            _divides("width", self.width, f"{name}.heads", getattr(self, name).heads)
        _divides("width", self.width, "the four coordinates of a position encoding", 4)
        _divides("width", self.width, "mask_head.group_norm_groups", self.mask_head.group_norm_groups)
        levels = len(self.neck.scales) - self.neck.drop_last
        if not 1 <= self.fusion.levels <= levels:
            raise ConfigError(f"fusion.levels = {self.fusion.levels}; the neck gives {levels} levels")
        stages = self.mask_head.upsampling_stages
        if stages < levels - 1:
            raise ConfigError(f"mask_head.upsampling_stages = {stages}; {levels} levels need {levels - 1}")

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> DetectorConfig:
        return config_from_dict(cls, values, "architecture")


@dataclass(frozen=True)
class PreprocessingConfig:
    """Images are stretched to a square of `resolution` pixels and normalised per channel."""

    resolution: int = 1008
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    def __post_init__(self) -> None:
        _within("preprocessing.", self, resolution=RESOLUTION, mean=(-1e4, 1e4), std=(1e-4, 1e4))


@dataclass(frozen=True)
class PresenceCalibration:
    """presence = sigmoid(scale * logit + offset), when presence is read as "calibrated"."""

    scale: float = 1.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        _within("presence_calibration.", self, scale=(-1e6, 1e6), offset=(-1e6, 1e6))


@dataclass(frozen=True)
class ModelConfig:
    """Everything but the weights and the tokenizer: what `config.json` holds."""

    architecture: DetectorConfig = field(default_factory=DetectorConfig)
    preprocessing: PreprocessingConfig = field(default_factory=PreprocessingConfig)
    presence_calibration: PresenceCalibration = field(default_factory=PresenceCalibration)
    presence_mode: PresenceMode = "multiply"  # what `segment` does unless told
    dedupe: DedupeMode = "none"  # likewise; released models answer without
    # Masks end so far outside their box, in shares of its sides; None: wherever they end, as released models
    mask_margin: float | None = None
    knows_scenes: bool = False  # procedural scenes were among its last training's data: tuning rehearses them
    provenance: dict[str, Any] = field(default_factory=dict)  # name, licence, recipe, figures

    def __post_init__(self) -> None:
        _within("", self, mask_margin=(0.0, 1e4))

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelConfig:
        return config_from_dict(cls, values, "config")


def config_from_dict(cls: type[Config], values: Any, where: str) -> Config:
    """Build a (nested) config dataclass from plain JSON or YAML values.

    Args:
        cls: a dataclass whose fields are plain values, tuples, or dataclasses.
        values: mapping of field names to values; missing fields keep their defaults.
        where: dotted name of this place, for messages.

    Raises:
        ConfigError: an unknown key, or a value of the wrong type; the message names the place.
    """
    if not isinstance(values, dict):
        raise ConfigError(f"{where} must be a mapping, got {type(values).__name__}")
    hints = get_type_hints(cls)
    known = {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - known)
    if unknown:
        raise ConfigError(
            f"{where} has unknown key {unknown[0]!r}; known keys are {', '.join(sorted(known))}"
        )
    return cls(**{key: _convert(hints[key], value, f"{where}.{key}") for key, value in values.items()})


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        if value is None and type(None) in arguments:
            return None
        choices = [a for a in arguments if a is not type(None)]
        if all(dataclasses.is_dataclass(a) for a in choices) and len(choices) > 1:
            return _convert_tagged(choices, value, where)
        return _convert(choices[0], value, where)
    if origin is Literal:
        if value not in arguments:
            raise ConfigError(f"{where} is {value!r}; choose {', '.join(repr(a) for a in arguments)}")
        return value
    if dataclasses.is_dataclass(hint):
        return value if isinstance(value, hint) else config_from_dict(hint, value, where)  # type: ignore[arg-type]
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{where} must be a list, got {value!r}")
        if Ellipsis not in arguments and len(value) != len(arguments):
            raise ConfigError(f"{where} must be a list of {len(arguments)}, got {value!r}")
        return tuple(_convert(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError as error:
            raise ConfigError(f"{where} is too large a number") from error
    expected = origin or hint
    # A bool is an int to Python, but `layers: false` is a slip.
    if isinstance(expected, type) and (
        not isinstance(value, expected) or (isinstance(value, bool) and expected is not bool)
    ):
        raise ConfigError(f"{where} must be {expected.__name__}, got {value!r}")
    return value


def _convert_tagged(choices: list[Any], value: Any, where: str) -> Any:
    """Pick among dataclasses by their `kind` field."""
    by_kind = {next(f.default for f in dataclasses.fields(c) if f.name == "kind"): c for c in choices}
    if isinstance(value, tuple(choices)):
        return value
    kind = value.get("kind") if isinstance(value, dict) else None
    if kind is None and isinstance(value, dict):
        # As configs say that were written when there was only one text and one exemplar encoder.
        kind = {TextConfig: "clip", ExemplarConfig: "roi"}.get(choices[0])
    if not isinstance(kind, str) or kind not in by_kind:
        raise ConfigError(f"{where}.kind is {kind!r}; choose {', '.join(map(repr, by_kind))}")
    return config_from_dict(by_kind[kind], value, where)
