"""The vision trunk in bfloat16 with many tokens in each product, for processors whose matrix units need them.

Tokens lie window by window from the first block to the last, so no block lays them out anew; a block over the
whole image turns them by a table in the same order. The sum that all blocks add to stays float32 and is
rewritten in place. Everything but products and attention goes over few tokens at a time, which stay in the
cache.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn

from conceptseg.models.cpu.attend import attend
from conceptseg.models.cpu.choice import AttentionKernel
from conceptseg.models.cpu.packing import PackedLinear
from conceptseg.models.cpu.rounding import ROUNDED
from conceptseg.models.layers.rope import axial_rope_table
from conceptseg.models.vision.vit import Block, RotaryAttention

PIECE = 96  # tokens that a thread norms, turns or adds at a time


def blocks_in_rows(modules: Iterable[nn.Module], x: Tensor) -> list[Block]:
    """The blocks of a trunk, if these and the map (I, h, w, C) are what `run_in_rows` takes; else none."""
    blocks = [module for module in modules if isinstance(module, Block) and _is_packed(module)]
    sides = {block.window for block in blocks if block.window}
    fit = len(sides) == 1 and all(length % side == 0 for length in x.shape[1:3] for side in sides)
    return blocks if fit and x.dtype == torch.float32 and len(blocks) == len([*modules]) else []


def _is_packed(block: Block) -> bool:
    """Whether a block is the plain one with packed weights, and nothing is dropped."""
    if block.training or type(block.mlp) is not nn.Sequential:
        return False
    first, gelu, second = block.mlp
    products = (block.attention.qkv, block.attention.proj, first, second)
    return all(type(product) is PackedLinear for product in products) and gelu.approximate == "none"


def run_in_rows(blocks: Sequence[Block], x: Tensor, rows: int, asking: AttentionKernel) -> Tensor:
    """Every block in turn.

    Args:
        blocks: of `blocks_in_rows`. They are not called: hooks on them do not run.
        x: (I, h, w, C), float32.
        rows: tokens of a product; at least those of a window.
        asking: kernel of the attention.

    Returns:
        (I, h, w, C).
    """
    images, height, width, channels = x.shape
    side = max(block.window for block in blocks)
    x = x.reshape(images, height // side, side, width // side, side, channels).transpose(2, 3)
    x = x.clone(memory_format=torch.contiguous_format).view(-1, side * side, channels)  # (windows, n, C)
    for block in blocks:
        size_hw = (side, side) if block.window else (height, width)
        groups = x if block.window else x.view(images, -1, channels)  # what attends to itself
        table = _turns(*size_hw, side, *_positions(block.attention))
        for part in torch.split(groups, max(1, rows // groups.shape[1])):
            _look(block, part, table, asking)
            for some in torch.split(part.view(-1, channels), rows):
                _think(block, some)
    x = x.view(images, height // side, width // side, side, side, channels).transpose(2, 3)
    return x.reshape(images, height, width, channels)


def _look(block: Block, x: Tensor, table: Tensor, asking: AttentionKernel) -> None:
    """The first half of a block, for groups (g, n, C) of tokens that attend to each other."""
    attention = block.attention
    groups, count, channels = x.shape
    tokens = x.view(-1, channels)
    qkv = attention.qkv(_normed(block.norm1, tokens)).view(groups, count, 3, attention.heads, -1)
    q, k = _turned(qkv[:, :, :2], table)  # (g, heads, n, C / heads)
    v = qkv[:, :, 2].transpose(1, 2)
    read = attend(q, k, v, asking=asking).transpose(1, 2).reshape(-1, channels)
    _add(tokens, attention.proj(read))


def _think(block: Block, tokens: Tensor) -> None:
    """The second half, for tokens (n, C)."""
    first, _, second = block.mlp
    _add(tokens, second(first(_normed(block.norm2, tokens), then="gelu")))


def _normed(norm: nn.LayerNorm, tokens: Tensor) -> Tensor:
    """Rounded, and without the float32 map in between."""
    normed = torch.empty_like(tokens, dtype=ROUNDED)
    for some in _pieces(len(tokens)):
        normed[some] = norm(tokens[some])
    return normed


def _add(tokens: Tensor, y: Tensor) -> None:
    for some in _pieces(len(tokens)):
        tokens[some] += y[some]


def _turned(qk: Tensor, table: Tensor) -> Tensor:
    """Queries and keys (g, n, 2, heads, d) turned as `rope.rotate` does, and laid out head by head.

    Returns:
        (2, g, heads, n, d).
    """
    groups, count, both, heads, width = qk.shape
    turned = qk.new_empty(both, groups, heads, count, width)
    for some in _pieces(count, groups):
        pairs = torch.unflatten(qk[:, some], -1, (-1, 2)).float()
        torch.view_as_complex(pairs).mul_(table[some])
        turned[:, :, :, some] = pairs.flatten(-2).permute(2, 0, 3, 1, 4)
    return turned


def _pieces(count: int, groups: int = 1) -> Iterator[slice]:
    piece = max(1, PIECE * torch.get_num_threads() // groups)
    return (slice(start, start + piece) for start in range(0, count, piece))


def _positions(attention: RotaryAttention) -> tuple[int, float, int]:
    return attention.proj.weight.shape[0] // attention.heads, attention.rope_theta, attention.rope_window


@lru_cache(maxsize=16)
def _turns(height: int, width: int, side: int, head_width: int, theta: float, window: int) -> Tensor:
    """Unit complex numbers (height * width, 1, 1, head_width / 2), in the order of windows of that side."""
    with torch.inference_mode(False):
        cos, sin = axial_rope_table(height, width, head_width, theta, window / width, torch.device("cpu"))
        turns = torch.complex(cos, sin).view(height // side, side, width // side, side, 1, 1, -1)
        return turns.transpose(1, 2).flatten(0, 3)
