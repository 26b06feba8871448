"""`README.md` of a model folder: what it is, from what, under which terms, as the Hub reads it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from conceptseg.checkpoints.atomic_write import write_text
from conceptseg.models.config import ModelConfig

CARD = "README.md"
MADE_BY = "<!-- Written by conceptseg; a card without this line is left alone. -->"
TAGS = ("promptable-concept-segmentation", "instance-segmentation", "open-vocabulary")
# What provenance calls a thing -> what the card does; the rest keep their names.
CALLED = {
    "start": "began with",
    "trunk": "trunk began with",
    "data": "trained on",
    "teacher": "teacher",
    "student": "student",
    "fresh": "began with random weights",
}


def write_card(folder: Path, config: ModelConfig) -> None:
    """Write the card of a folder, unless somebody has written one of their own."""
    path = folder / CARD
    if path.is_file() and MADE_BY not in path.read_text(encoding="utf-8", errors="replace"):
        return
    write_text(path, model_card(config))


def model_card(config: ModelConfig) -> str:
    """The card: a head in YAML, which the Hub shows and searches, and a text."""
    known = config.provenance
    name = str(known.get("name") or "model")
    head: dict[str, Any] = {
        "library_name": "conceptseg",
        "pipeline_tag": "image-segmentation",
        "tags": list(TAGS),
    }
    licence = known.get("licence")
    if licence:
        head["license"] = str(licence).lower() if str(licence).lower() in KNOWN_LICENCES else "other"
    side = config.preprocessing.resolution
    lines = [
        "---",
        yaml.safe_dump(head, sort_keys=False, allow_unicode=True).strip(),
        "---",
        MADE_BY,
        "",
        f"# {name}",
        "",
        "Finds every object that a phrase or an example box means: a mask, a box and a score for each. The "
        f"network is that of SAM 3's image model, here with images of {side} x {side} pixels.",
        "",
        "```python",
        "import conceptseg as cs",
        "",
        'segmenter = cs.load("FOLDER")  # this folder, or owner/name on the Hub',
        'result = segmenter.segment("photo.jpg", text="person")',
        "```",
        "",
        *_facts(config, licence),
    ]
    return "\n".join(lines).rstrip() + "\n"


KNOWN_LICENCES = ("apache-2.0", "mit", "bsd-3-clause", "cc-by-4.0", "cc-by-sa-4.0", "cc0-1.0", "agpl-3.0")


def _facts(config: ModelConfig, licence: object) -> Iterator[str]:
    presence = config.presence_calibration
    yield f"- **licence**: {licence or 'not stated by whoever made it'}"
    for key, value in config.provenance.items():
        if key not in ("name", "licence") and value not in (None, "", {}, []):
            yield f"- **{CALLED.get(key, key.replace('_', ' '))}**: {_said(value)}"
    how = f"scale {presence.scale:g}, offset {presence.offset:g}"
    yield f"- **presence** is read by `{config.presence_mode}` ({how})"
    if config.dedupe != "none":
        yield f"- **repeated masks** are dropped by `{config.dedupe}`"


def _said(value: object) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{key.replace('_', ' ')} {_said(its)}" for key, its in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_said(its) for its in value)
    if isinstance(value, float):
        return f"{value:.4g}"
    told = str(value)
    return Path(told).name if os.path.isabs(told) else told  # where it lay on a disk is nobody's business
