"""How many tokens a MobileCLIP text encoder reads, which its weights do not say.

It reads padding as it reads words, so the length that phrases are padded to is part of the answer. The
released text encoders were trained for 16 or 32 tokens, and many of their files hold a position table of 77
rows, of which the first are used. Whoever loads such a file says how many, by `text_context=` or, as in the
released files, by its name: `sam3_litetext_mobileclip_s0_ctx16.pt`.
"""

from __future__ import annotations

import re
from dataclasses import replace

from conceptseg.errors import OptionError
from conceptseg.models.config import DetectorConfig, MobileClipTextConfig

IN_NAME = re.compile(r"(?:^|[^a-z])ctx(\d+)(?!\d)")


def context_in_name(name: str) -> int | None:
    """16 for a file called `..._ctx16.pt`; None when its name says nothing."""
    found = IN_NAME.search(name.lower())
    return int(found[1]) if found else None


def name_with_context(name: str, config: DetectorConfig) -> str:
    """`model.pt` -> `model_ctx16.pt`, when the position table alone would tell another length."""
    text = config.text
    if not isinstance(text, MobileClipTextConfig) or text.context_length == text.rows:
        return name
    stem, dot, suffix = name.rpartition(".")
    return f"{stem}_ctx{text.context_length}{dot}{suffix}"


def with_context(config: DetectorConfig, context: int, source: str) -> DetectorConfig:
    """The same network, its text encoder reading as many tokens as that.

    Raises:
        OptionError: its text encoder has another number of tokens that cannot be chosen, or fewer positions.
    """
    text = config.text
    if not isinstance(text, MobileClipTextConfig):
        raise OptionError(
            f"text_context = {context}: the text encoder of {source} reads {text.context_length} tokens, and "
            "padding makes no difference to it; only MobileCLIP's leaves a choice"
        )
    if not 3 <= context <= text.rows:
        raise OptionError(
            f"text_context = {context}: the text encoder of {source} has positions for {text.rows} tokens; "
            f"give 3 (start, one piece, end) to {text.rows}"
        )
    return replace(config, text=replace(text, context_length=context, positions=text.rows))


def context_by_name(config: DetectorConfig, name: str) -> DetectorConfig:
    """The same network with the context that the name of its file tells, when it tells a possible one."""
    context, text = context_in_name(name), config.text
    if context is None or not isinstance(text, MobileClipTextConfig) or not 3 <= context <= text.rows:
        return config
    return with_context(config, context, name)


def with_rows(config: DetectorConfig) -> DetectorConfig:
    """The same config, the length of its position table written out."""
    text = config.text
    if not isinstance(text, MobileClipTextConfig):
        return config
    return replace(config, text=replace(text, positions=text.rows))


def without_spare_positions(config: DetectorConfig) -> DetectorConfig:
    """The same network, its position table cut off after the last token that is read."""
    text = config.text
    if not isinstance(text, MobileClipTextConfig):
        return config
    return replace(config, text=replace(text, positions=text.context_length))
