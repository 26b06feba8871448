"""Concepts as the command line gives them: example boxes on other images, and concept files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from conceptseg.cli.box_options import ExemplarOption, parse_exemplar

if TYPE_CHECKING:
    from conceptseg.exemplar import Exemplar
    from conceptseg.segmenter import Segmenter

CONCEPT_ENDING = ".safetensors"


def parse_concepts(
    positive: Sequence[str] | None, negative: Sequence[str] | None
) -> list[ExemplarOption | Path]:
    """`IMAGE:X0,Y0,X1,Y1` as an example, and `FILE.safetensors` as a concept file.

    Raises:
        PromptError: neither of the two.
    """
    concepts: list[ExemplarOption | Path] = []
    for text in positive or []:
        concepts.append(Path(text) if text.endswith(CONCEPT_ENDING) else parse_exemplar(text))
    concepts += [parse_exemplar(text, "--negative-exemplar", label=0) for text in negative or []]
    return concepts


def pool_concepts(segmenter: Segmenter, concepts: Sequence[ExemplarOption | Path]) -> Exemplar | None:
    """One concept of all examples and files; boxes on the same image are shown together.

    Raises:
        ImageError, PromptError: an image or a concept file cannot be used.
    """
    from conceptseg.exemplar import Exemplar

    kinds = [Exemplar.load(concept) for concept in concepts if isinstance(concept, Path)]
    by_image: dict[Path, list[ExemplarOption]] = {}
    for concept in concepts:
        if isinstance(concept, ExemplarOption):
            by_image.setdefault(concept.image, []).append(concept)
    kinds += [
        segmenter.exemplar(
            image,
            boxes=[example.box_xyxy for example in group],
            labels=[example.label for example in group],
        )
        for image, group in by_image.items()
    ]
    return sum(kinds[1:], start=kinds[0]) if kinds else None
