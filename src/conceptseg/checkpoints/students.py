"""The vision encoders of EfficientSAM3: released names -> those of `models/vision/student.py`.

The nine released backbones come from the code of their authors, ours from `timm`, which has the same layers
under other names; how these go together is written down per family. Each function takes the prefix of the
released names, because the same encoder is stored in a whole model, or alone by the first stage of its
training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from conceptseg.checkpoints.key_table import Known, Rule, rename

TRUNK = "backbone.vision_backbone.trunk.model."  # in a whole model; alone, names begin with "backbone.model."
OURS = "vision_encoder."

# Family -> a tensor that every member has, below "backbone.model."
STEMS = {
    "repvit": "features.0.0.c.weight",
    "tinyvit": "patch_embed.seq.0.c.weight",
    "efficientvit": "input_stem.op_list.0.conv.weight",
}
# Which member of its family: the channels that the head gets.
CHANNELS = {
    ("repvit", 384): "repvit_m0_9",
    ("repvit", 512): "repvit_m1_1",
    ("repvit", 640): "repvit_m2_3",
    ("tinyvit", 320): "tinyvit_5m",
    ("tinyvit", 448): "tinyvit_11m",
    ("tinyvit", 576): "tinyvit_21m",
    ("efficientvit", 128): "efficientvit_b0",
    ("efficientvit", 256): "efficientvit_b1",
    ("efficientvit", 384): "efficientvit_b2",
}
CLASSIFIER = "classifier of ImageNet, unused"
UNUSED = {  # family -> name below "backbone.model." -> why
    "repvit": {"classifier.*": CLASSIFIER},
    "tinyvit": {
        "norm_head.{p}": CLASSIFIER,
        "head.{p}": CLASSIFIER,
        "layers.{i}.blocks.{j}.attn.attention_bias_idxs": "tables of positions, which are computed",
    },
    "efficientvit": {"head.*": CLASSIFIER},
}
REPVIT_BLOCKS = {  # per stage, without the blocks that change the resolution
    "repvit_m0_9": (2, 2, 14, 2),
    "repvit_m1_1": (2, 2, 12, 2),
    "repvit_m2_3": (6, 6, 34, 2),
}


def student_backbone(shapes: Mapping[str, Sequence[int]], theirs: str = TRUNK) -> str | None:
    """Which backbone a checkpoint holds, by its names and shapes; None when it holds none of the nine.

    Args:
        shapes: released name -> shape.
        theirs: prefix of the encoder's names.
    """
    head = shapes.get(f"{theirs}head.0.weight")
    for family, stem in STEMS.items():
        if head is not None and f"{theirs}backbone.model.{stem}" in shapes:
            return CHANNELS.get((family, head[1]))
    return None


def student_rules(backbone: str, theirs: str = TRUNK, ours: str = OURS) -> tuple[Rule, ...]:
    """The rules of one backbone and its head.

    Args:
        backbone: as `StudentConfig.backbone` calls it.
        theirs: prefix of the released names.
        ours: prefix of the names of our module.
    """
    family = backbone.partition("_")[0]
    body, our_body = f"{theirs}backbone.model.", f"{ours}backbone."
    if family == "repvit":
        rules = _repvit(body, our_body, REPVIT_BLOCKS[backbone])
    elif family == "tinyvit":
        rules = _tinyvit(body, our_body)
    else:
        rules = _efficientvit(body, our_body)
    return (*rules, *_head(f"{theirs}head", f"{ours}head"))


def known_student_keys(backbone: str, theirs: str = TRUNK) -> tuple[Known, ...]:
    """Keys that files of this backbone may carry and that the encoder has no use for."""
    body = f"{theirs}backbone.model."
    return tuple(
        Known(f"{body}{name}", reason) for name, reason in UNUSED[backbone.partition("_")[0]].items()
    )


def _head(theirs: str, ours: str) -> tuple[Rule, ...]:
    return (
        rename(f"{theirs}.0.weight", f"{ours}.0.weight"),
        rename(f"{theirs}.1.{{n}}", f"{ours}.1.{{n}}"),
        rename(f"{theirs}.3.{{p}}", f"{ours}.3.{{p}}"),
    )


def _repvit(theirs: str, ours: str, blocks: Sequence[int]) -> tuple[Rule, ...]:
    """Released as one list of features; `timm` groups them by stage.

    The last feature before a change of resolution belongs to the next stage there, as its `pre_block`.
    """
    rules = [
        *_conv_norm(f"{theirs}features.0.0", f"{ours}stem.conv1"),
        *_conv_norm(f"{theirs}features.0.2", f"{ours}stem.conv2"),
    ]
    feature = 1
    for stage, count in enumerate(blocks):
        if stage > 0:
            downsample = f"{ours}stages.{stage}.downsample"
            rules += _repvit_block(f"{theirs}features.{feature}", f"{downsample}.pre_block")
            rules += _repvit_downsample(f"{theirs}features.{feature + 1}", downsample)
            feature += 2
        for block in range(count):
            rules += _repvit_block(f"{theirs}features.{feature}", f"{ours}stages.{stage}.blocks.{block}")
            feature += 1
    return tuple(rules)


def _repvit_block(theirs: str, ours: str) -> list[Rule]:
    return [
        *_conv_norm(f"{theirs}.token_mixer.0.conv", f"{ours}.token_mixer.conv"),
        rename(f"{theirs}.token_mixer.0.conv1.{{p}}", f"{ours}.token_mixer.conv1.{{p}}"),
        rename(f"{theirs}.token_mixer.0.bn.{{n}}", f"{ours}.token_mixer.bn.{{n}}"),
        rename(f"{theirs}.token_mixer.1.fc1.{{p}}", f"{ours}.se.fc1.{{p}}"),  # every other block has these
        rename(f"{theirs}.token_mixer.1.fc2.{{p}}", f"{ours}.se.fc2.{{p}}"),
        *_conv_norm(f"{theirs}.channel_mixer.m.0", f"{ours}.channel_mixer.conv1"),
        *_conv_norm(f"{theirs}.channel_mixer.m.2", f"{ours}.channel_mixer.conv2"),
    ]


def _repvit_downsample(theirs: str, ours: str) -> list[Rule]:
    return [
        *_conv_norm(f"{theirs}.token_mixer.0", f"{ours}.spatial_downsample"),
        *_conv_norm(f"{theirs}.token_mixer.2", f"{ours}.channel_downsample"),
        *_conv_norm(f"{theirs}.channel_mixer.m.0", f"{ours}.ffn.conv1"),
        *_conv_norm(f"{theirs}.channel_mixer.m.2", f"{ours}.ffn.conv2"),
    ]


def _tinyvit(theirs: str, ours: str) -> tuple[Rule, ...]:
    """`timm` calls convolutions `conv`, and merges patches where a stage begins, not where the last ends."""
    block, our_block = f"{theirs}layers.{{i}}.blocks.{{j}}", f"{ours}stages.{{i}}.blocks.{{j}}"
    rules = [
        *_conv_norm(f"{theirs}patch_embed.seq.0", f"{ours}patch_embed.conv1", our_conv="conv"),
        *_conv_norm(f"{theirs}patch_embed.seq.2", f"{ours}patch_embed.conv2", our_conv="conv"),
        *_conv_norm(f"{block}.local_conv", f"{our_block}.local_conv", our_conv="conv"),
        rename(f"{block}.attn.attention_biases", f"{our_block}.attn.attention_biases"),
    ]
    for part in ("attn.norm", "attn.qkv", "attn.proj", "mlp.norm", "mlp.fc1", "mlp.fc2"):
        rules.append(rename(f"{block}.{part}.{{p}}", f"{our_block}.{part}.{{p}}"))
    for conv in ("conv1", "conv2", "conv3"):
        rules += _conv_norm(f"{block}.{conv}", f"{our_block}.{conv}", our_conv="conv")
        for layer in range(3):
            merging, our_merging = f"{theirs}layers.{layer}", f"{ours}stages.{layer + 1}"
            rules += _conv_norm(
                f"{merging}.downsample.{conv}", f"{our_merging}.downsample.{conv}", our_conv="conv"
            )
    return tuple(rules)


def _efficientvit(theirs: str, ours: str) -> tuple[Rule, ...]:
    """The layers themselves have the same names; a convolution has either a bias or a norm after it."""
    stem, our_stem = f"{theirs}input_stem.op_list", f"{ours}stem"
    block, our_block = f"{theirs}stages.{{i}}.op_list.{{j}}", f"{ours}stages.{{i}}.blocks.{{j}}"
    layers = [(f"{stem}.0", f"{our_stem}.in_conv")]
    for part in ("depth_conv", "point_conv"):  # the stem has one residual block in all three sizes
        layers.append((f"{stem}.1.main.{part}", f"{our_stem}.res0.main.{part}"))
    for part in ("inverted_conv", "depth_conv", "point_conv"):
        for place in ("main", "local_module.main"):
            layers.append((f"{block}.{place}.{part}", f"{our_block}.{place}.{part}"))
    for part in ("qkv", "proj"):
        layers.append((f"{block}.context_module.main.{part}", f"{our_block}.context_module.main.{part}"))
    rules = []
    for name, our_name in layers:
        rules.append(rename(f"{name}.conv.{{p}}", f"{our_name}.conv.{{p}}"))
        rules.append(rename(f"{name}.norm.{{n}}", f"{our_name}.norm.{{n}}"))
    for part in ("0.0", "0.1"):
        name = f"context_module.main.aggreg.{part}.weight"
        rules.append(rename(f"{block}.{name}", f"{our_block}.{name}"))
    return tuple(rules)


def _conv_norm(theirs: str, ours: str, our_conv: str = "c") -> tuple[Rule, ...]:
    """A convolution without bias, and its batch norm; released as `c` and `bn`."""
    return (
        rename(f"{theirs}.c.weight", f"{ours}.{our_conv}.weight"),
        rename(f"{theirs}.bn.{{n}}", f"{ours}.bn.{{n}}"),
    )
