"""Boxes as people type them."""

from __future__ import annotations

from pathlib import Path

import pytest

from conceptseg.cli.box_options import parse_box, parse_exemplar
from conceptseg.errors import PromptError


def test_a_box_is_four_numbers_in_order() -> None:
    assert parse_box("40, 12,80.5,90", "--box") == (40.0, 12.0, 80.5, 90.0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not four numbers"),
        ("1,2,3", "is not four numbers"),
        ("1,2,3,4,5", "is not four numbers"),
        ("a,b,c,d", "is not four numbers"),
        ("nan,1,2,3", "not finite"),
        ("0,0,inf,3", "not finite"),
        ("40,12,38,90", "--box 40,12,38,90 has x1 <= x0; give X0,Y0,X1,Y1 in pixels"),
        ("1,5,2,5", "has y1 <= y0"),
    ],
)
def test_a_wrong_box_says_what_is_wrong(text: str, words: str) -> None:
    with pytest.raises(PromptError, match=words):
        parse_box(text, "--box")


def test_an_exemplar_is_an_image_and_a_box_and_the_path_may_hold_colons() -> None:
    option = parse_exemplar("C:/photos/a:b.png:1,2,3,4")
    assert option.image == Path("C:/photos/a:b.png")
    assert option.box_xyxy == (1.0, 2.0, 3.0, 4.0)


@pytest.mark.parametrize("text", ["photo.png", ":1,2,3,4", "photo.png:", "photo.png:1,2,3"])
def test_an_exemplar_without_image_or_box_is_refused(text: str) -> None:
    with pytest.raises(PromptError, match="--exemplar"):
        parse_exemplar(text)
