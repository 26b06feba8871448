"""A view moves pixels, boxes and masks together."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from conceptseg.data.concept_image import ConceptObject
from conceptseg.data.view import AugmentConfig, View, draw_view, recoloured
from conceptseg.errors import ConfigError
from conceptseg.images import model_input

SIZE_HW = (40, 80)
OBJECT = ConceptObject((20.0, 10.0, 40.0, 30.0), [[20.0, 10.0, 40.0, 10.0, 40.0, 30.0, 20.0, 30.0]])
WHOLE = (0, 0, 80, 40)


def picture() -> np.ndarray:
    """Black, but white where OBJECT lies."""
    pixels = np.zeros((*SIZE_HW, 3), np.uint8)
    pixels[10:30, 20:40] = 255
    return pixels


def box_of(mask: torch.Tensor) -> list[float]:
    """x0, y0, x1, y1 in 0..1 of what is True."""
    rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
    h, w = mask.shape
    return [
        float(columns.min()) / w, float(rows.min()) / h,
        (float(columns.max()) + 1) / w, (float(rows.max()) + 1) / h,
    ]  # fmt: skip


@pytest.mark.parametrize("window", [WHOLE, (10, 0, 50, 40), (30, 20, 70, 40)])
@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("quarter_turns", [0, 1, 2, 3])
def test_pixels_box_and_mask_of_an_object_stay_together(
    window: tuple[int, int, int, int], mirrored: bool, quarter_turns: int
) -> None:
    view = View(window, mirrored, quarter_turns)
    boxes, _ = view.boxes(torch.tensor([OBJECT.box_xyxy]))
    (mask,) = view.masks([OBJECT], SIZE_HW, 80)
    bright = view.pixels(picture(), 80)[0] > 127
    assert box_of(mask) == pytest.approx(boxes[0].tolist(), abs=0.02)
    assert box_of(bright) == pytest.approx(boxes[0].tolist(), abs=0.02)


def test_a_box_is_placed_and_cut_off_as_worked_by_hand() -> None:
    boxes, visible = View((30, 20, 70, 40)).boxes(torch.tensor([OBJECT.box_xyxy, (0.0, 0.0, 8.0, 8.0)]))
    assert boxes[0].tolist() == [0.0, 0.0, 0.25, 0.5]
    assert visible.tolist() == [0.25, 0.0]


def test_mirrored_and_turned_boxes_as_worked_by_hand() -> None:
    box = torch.tensor([OBJECT.box_xyxy])  # 0.25, 0.25, 0.5, 0.75 of the image
    assert View(WHOLE, mirrored=True).boxes(box)[0][0].tolist() == [0.5, 0.25, 0.75, 0.75]
    assert View(WHOLE, quarter_turns=1).boxes(box)[0][0].tolist() == [0.25, 0.5, 0.75, 0.75]


def test_the_plain_view_gives_the_pixels_of_inference() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (37, 53, 3), dtype=np.uint8)
    seen = View((0, 0, 53, 37)).pixels(pixels, 32)
    assert torch.equal(seen.float() / 255 * 2 - 1, model_input(pixels, 32))


def test_an_object_without_a_mask_gives_an_empty_one() -> None:
    assert not View(WHOLE).masks([ConceptObject((0.0, 0.0, 5.0, 5.0))], SIZE_HW, 8).any()


def test_what_is_switched_off_does_not_happen() -> None:
    rng = np.random.default_rng(0)
    config = AugmentConfig(flip=False, stretch=0.0, colour=0.0)
    for _ in range(20):
        view = draw_view(80, 40, config, (1.0, 1.0), turns=False, rng=rng)
        assert view == View(WHOLE)
    pixels = torch.randint(0, 256, (3, 8, 8), dtype=torch.uint8)
    assert torch.equal(recoloured(pixels, 0.0, rng), pixels)


def test_windows_lie_inside_the_image_and_have_the_sides_that_were_asked_for() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        view = draw_view(80, 40, AugmentConfig(stretch=0.0), (0.4, 0.6), turns=True, rng=rng)
        x0, y0, x1, y1 = view.window_xyxy
        assert 0 <= x0 < x1 <= 80 and 0 <= y0 < y1 <= 40
        assert 0.38 <= (x1 - x0) / 80 <= 0.62 and 0.38 <= (y1 - y0) / 40 <= 0.62


def test_colours_change_by_no_more_than_was_said() -> None:
    rng = np.random.default_rng(0)
    grey = torch.full((3, 4, 4), 100, dtype=torch.uint8)  # contrast and saturation leave it alone
    for _ in range(20):
        assert 79 <= int(recoloured(grey, 0.2, rng).float().mean()) <= 121


def test_an_impossible_share_is_named() -> None:
    with pytest.raises(ConfigError, match="augment.colour is 2"):
        AugmentConfig(colour=2.0)
