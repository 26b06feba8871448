import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from conceptseg.mask_resize import masks_at_image_size

SIZES = [  # of the logits, of the image
    ((12, 12), (31, 45)),
    ((72, 72), (606, 768)),
    ((72, 72), (20, 12)),
    ((72, 72), (72, 72)),
    ((1, 1), (3, 4)),
    ((3, 3), (1, 1)),
]


def blobs(size_hw: tuple[int, int], seed: int = 0) -> torch.Tensor:
    """(5, h, w): soft shapes, one mask of nothing and one of everything."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(5, 1, max(1, size_hw[0] // 6), max(1, size_hw[1] // 6), generator=generator) - 0.5
    logits = 4 * F.interpolate(coarse, size_hw, mode="bicubic")[:, 0]
    logits[1], logits[2] = -1, 1
    return logits


@pytest.mark.parametrize(("size", "image"), SIZES)
def test_masks_are_the_resized_logits_that_are_above_zero(size, image):
    logits = blobs(size)
    resized = F.interpolate(logits[:, None], image, mode="bilinear")[:, 0]
    masks = masks_at_image_size(logits, image).whole()
    sure = (resized.abs() > 1e-5).numpy()  # another processor may round what is zero but for the last bit
    assert np.array_equal(masks[sure], (resized > 0).numpy()[sure]) and sure.mean() > 0.999
    assert not masks[1].any() and masks[2].all()


def test_masks_are_the_same_whatever_the_block_size():
    logits = blobs((72, 72))
    whole = masks_at_image_size(logits, (200, 300)).whole()
    assert np.array_equal(masks_at_image_size(logits, (200, 300), block=100).whole(), whole)


def test_masks_end_at_their_windows():
    logits = blobs((12, 12))[2:4]
    whole = masks_at_image_size(logits, (20, 30)).whole()
    cut = masks_at_image_size(logits, (20, 30), [(8, 3, 22, 17), (12, 10, 12, 9)]).whole()
    expected = np.zeros_like(whole)
    expected[0, 3:17, 8:22] = whole[0, 3:17, 8:22]
    assert np.array_equal(cut, expected)


def test_no_masks_keep_their_shape():
    assert masks_at_image_size(torch.zeros(0, 12, 12), (31, 45)).whole().shape == (0, 31, 45)


# In a process of its own: the most memory that a process ever had cannot be set back.
PROGRAM = """
import torch
from conceptseg.mask_resize import masks_at_image_size

def memory(name):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))

torch.set_num_threads(1)
y, x = torch.meshgrid(torch.arange(288.0), torch.arange(288.0), indexing="ij")
middles = 30 + 25 * torch.cartesian_prod(torch.arange(10.0), torch.arange(10.0))
logits = 30 - (y - middles[:, :1, None]).hypot(x - middles[:, 1:, None])  # 100 discs of 840 x 630 pixels
masks_at_image_size(logits[:1], (30, 40))
before = memory("VmRSS")
masks = masks_at_image_size(logits, (3024, 4032))
print(len(masks), memory("VmHWM") - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_hundred_masks_of_a_photograph_take_less_than_100_mb_while_they_are_made():
    run = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True)
    count, peak = map(int, run.stdout.split())
    assert count == 100 and peak < 100e6  # whole they are 1,219 MB
