"""EfficientSAM3 and SAM3-LiteText: SAM 3's layout with one encoder or both replaced by students.

A file is a whole network (merged, stage 3), or the encoders alone (stage 1), which then need the rest from
another file. Merging leaves things behind that nothing reads: the trunk or text encoder of the teacher, and
classifiers from before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from conceptseg.checkpoints.key_table import KeyTable, Known, Rule
from conceptseg.checkpoints.mobileclip import mobileclip_rules
from conceptseg.checkpoints.official import (
    DETECTOR,
    LANGUAGE,
    OFFICIAL,
    OTHER_NETWORKS,
    ROTARY_TABLES,
    SHARED,
    TEXT,
    TRACKER_NECKS,
    TRUNK,
    VISION,
)
from conceptseg.checkpoints.students import known_student_keys, student_backbone, student_rules
from conceptseg.errors import CheckpointError

STUDENT = f"{TRUNK}model."
WRAPPER = "student_trunk."  # left in by training code, in front of a student's names
WORD_TABLE = "encoder.embedding_layer.weight"  # only MobileCLIP calls it so

TEACHER_TRUNK = tuple(
    Known(f"{TRUNK}{name}", "dead weights: the teacher's vision trunk, which the student replaces")
    for name in ("blocks.*", "pos_embed", "patch_embed.*", "ln_pre.*")
)
TEACHER_TEXT = tuple(
    Known(f"{LANGUAGE}{name}", "dead weights: the teacher's text encoder, which the student replaces")
    for name in (
        "encoder.token_embedding.weight",
        "encoder.positional_embedding",
        "encoder.transformer.resblocks.*",
        "encoder.ln_final.*",
        "encoder.text_projection",
        "resizer.*",
    )
)
# Training files of the geometry fine-tuning hold the student beside frozen copies of the rest.
FROZEN_COPIES = dict.fromkeys(
    (
        "sam3.",
        "frozen_convs.",
        "frozen_position_encoding.",
        "geometry_encoder.",
        "transformer.",
        "segmentation_head.",
    ),
    "frozen copies of SAM 3 in a training file",
)


def efficientsam3_table(backbone: str | None, mobileclip: bool) -> KeyTable:
    """The table of a whole network.

    Args:
        backbone: of the student trunk, as `StudentConfig` calls it; None: SAM 3's own trunk (LiteText).
        mobileclip: the text encoder is a student too.
    """
    if backbone is None and not mobileclip:
        return OFFICIAL
    vision: tuple[Rule, ...] = VISION
    text: tuple[Rule, ...] = TEXT
    known = [ROTARY_TABLES, *TRACKER_NECKS]
    if backbone is not None:
        vision = student_rules(backbone, STUDENT)
        known = [*TEACHER_TRUNK, *TRACKER_NECKS, *known_student_keys(backbone, STUDENT)]
    if mobileclip:
        text = mobileclip_rules(LANGUAGE)
        known += TEACHER_TEXT
    return KeyTable(
        layout="EfficientSAM3" if backbone is not None else "SAM3-LiteText",
        rules=(*vision, *text, *SHARED),
        known=tuple(known),
        prefixes=(f"module.{DETECTOR}", DETECTOR, "module."),
        wrappers=(WRAPPER,),
        foreign_parts=OTHER_NETWORKS,
    )


def encoder_table(shapes: Mapping[str, Sequence[int]]) -> tuple[KeyTable, str | None] | None:
    """The table of a file that holds nothing but one student encoder (stage 1), and its backbone if visual.

    Returns:
        None when it is no such file.
    """
    for prefix in ("", "module."):
        for wrapper in (WRAPPER, ""):
            backbone = student_backbone(shapes, f"{prefix}{wrapper}")
            if backbone is not None:
                table = KeyTable(
                    layout="EfficientSAM3 vision encoder (stage 1)",
                    rules=student_rules(backbone, ""),
                    known=known_student_keys(backbone, ""),
                    prefixes=(f"{prefix}{wrapper}",) if prefix or wrapper else (),
                    foreign_parts=(
                        {f"{prefix}{name}": what for name, what in FROZEN_COPIES.items()} if wrapper else {}
                    ),
                )
                return table, backbone
        if f"{prefix}{WORD_TABLE}" in shapes:
            table = KeyTable(
                layout="EfficientSAM3 text encoder (stage 1)",
                rules=mobileclip_rules(""),
                prefixes=(prefix,) if prefix else (),
            )
            return table, None
    return None


def find_student(shapes: Mapping[str, Sequence[int]], prefix: str) -> tuple[str | None, bool]:
    """Which students a whole network has: backbone of the trunk (None: SAM 3's), and whether text is one.

    Args:
        shapes: foreign name -> shape.
        prefix: of all its names.

    Raises:
        CheckpointError: a student trunk, but none of the nine that were released.
    """
    trunk = f"{prefix}{STUDENT}"
    bare = {name.replace(WRAPPER, ""): shape for name, shape in shapes.items() if name.startswith(trunk)}
    backbone = student_backbone(bare, trunk)
    if backbone is None and bare:
        raise CheckpointError(
            f"its vision encoder ({len(bare)} keys below {STUDENT}) is none of the nine released students"
        )
    return backbone, f"{prefix}{LANGUAGE}{WORD_TABLE}" in shapes
