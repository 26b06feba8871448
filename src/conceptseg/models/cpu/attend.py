"""Scaled dot-product attention in plain products, over blocks that stay in the cache.

On some processors that is faster than torch's fused kernel, on others slower: `choice.py` says where it is
used. Its memory does not grow with the number of tokens either.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from conceptseg.models.cpu.choice import AttentionKernel
from conceptseg.models.cpu.training import trains_in_parts

LOG2_E = math.log2(math.e)
BLOCK_BYTES = 2 * 2**20  # of attention weights at a time and thread; half and twice measure almost alike
FEWEST_WEIGHTS = 2**16  # per head, queries x keys; with fewer the fused kernel wins
LARGEST_SUM = 2.0**100  # of a row's powers; within these bounds no power that counts left the number range
SMALLEST_SUM = 2.0**-60


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    dropout: float = 0.0,
    causal: bool = False,
    asking: AttentionKernel = "blocks",
) -> Tensor:
    """`torch.nn.functional.scaled_dot_product_attention`, the same to rounding.

    Never in plain products while exporting or compiling, and with a gradient only within
    `training_kernels`.

    Args:
        q: (B, heads, N, d).
        k: (B, heads, S, d).
        v: (B, heads, S, d).
        mask: broadcasts to (B, heads, N, S): True = attended to, or numbers to add to the logits.
        dropout: share of attention weights that are dropped.
        causal: position n attends to positions up to n.
        asking: the kernel for large attention in bfloat16 without a gradient.

    Returns:
        (B, heads, N, d).
    """
    if not dropout and not causal and _large_on_cpu(q, k) and _is_bias(mask, q, k):
        if torch.is_grad_enabled():
            if trains_in_parts():
                return attend_in_parts(q, k, v, bias=mask)
        elif asking == "blocks" and q.dtype == torch.bfloat16:
            return attend_in_blocks(q, k, v, bias=mask)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=causal)


def _large_on_cpu(q: Tensor, k: Tensor) -> bool:
    return (
        not torch.compiler.is_compiling()  # first: while exporting, a size has no number yet
        and q.device.type == "cpu"
        and q.shape[-2] * k.shape[-2] >= FEWEST_WEIGHTS
    )


def _is_bias(mask: Tensor | None, q: Tensor, k: Tensor) -> bool:
    """Whether there is nothing to add to the logits, or one number for each."""
    return mask is None or (mask.dtype == q.dtype and mask.shape == (*q.shape[:-1], k.shape[-2]))


def attend_in_parts(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """Attention with a gradient, a few members of the batch at a time so that weights stay in the cache.

    The weights are kept for the backward pass, and not computed again as torch's fused kernel does.

    Args:
        q: (B, heads, N, d).
        k: (B, heads, S, d).
        v: (B, heads, S, d).
        bias: (B, heads, N, S), added to the logits; None: nothing is.

    Returns:
        (B, heads, N, d).
    """
    numbers = q.shape[1] * q.shape[2] * k.shape[2]
    together = max(1, torch.get_num_threads() * BLOCK_BYTES // (numbers * q.element_size()))
    read = []
    for start in range(0, len(q), together):
        some = slice(start, start + together)
        read.append(_attend_plainly(q[some], k[some], v[some], None if bias is None else bias[some]))
    return torch.cat(read)


def _attend_plainly(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)  # (b, heads, N, S)
    logits = logits if bias is None else logits + bias
    return logits.softmax(dim=-1) @ v


def attend_in_blocks(
    q: Tensor, k: Tensor, v: Tensor, block_bytes: int = BLOCK_BYTES, bias: Tensor | None = None
) -> Tensor:
    """Attention, some heads and queries at a time, into one buffer that is used again.

    Softmax is taken without looking for the largest logit of a row first: bfloat16 has the range of float32,
    so powers of two of the logits themselves are summed, and products divided by the sums. That is two
    passes over the weights instead of four. A block with a row whose sum is out of bounds is done again the
    safe way.

    Logits and weights are rounded to the inputs' type, which adds about as much error as rounding the inputs
    does. Has no gradient.

    Args:
        q: (B, heads, N, d).
        k: (B, heads, S, d).
        v: (B, heads, S, d).
        block_bytes: of the buffer, for each thread that works on a block.
        bias: (B, heads, N, S), added to the logits; None: nothing is.

    Returns:
        (B, heads, N, d).
    """
    batch, heads, queries, width = q.shape
    keys, groups = k.shape[2], batch * heads
    q, k, v = (x.reshape(groups, x.shape[2], x.shape[3]) for x in (q, k, v))
    bias = None if bias is None else bias.reshape(groups, queries, keys)
    rows, together = _block(groups, queries, keys, block_bytes // q.element_size(), torch.get_num_threads())
    buffer = q.new_empty(together * rows * keys)
    read = v.new_empty(groups, queries, v.shape[-1])
    for group in range(0, groups, together):
        some = slice(group, group + together)
        part_q = q[some] * (width**-0.5 * LOG2_E)
        part_k = k[some].transpose(1, 2).contiguous()  # (g, d, S)
        for row in range(0, queries, rows):
            part = part_q[:, row : row + rows]  # (g, r, d)
            part_bias = None if bias is None else bias[some, row : row + rows]
            weights = buffer[: part.shape[0] * part.shape[1] * keys].view(*part.shape[:2], keys)
            _log2_weights(part, part_k, part_bias, weights).exp2_()
            sums = weights.sum(-1, keepdim=True)  # (g, r, 1)
            if not _in_bounds(sums):
                logits = _log2_weights(part, part_k, part_bias, weights)
                weights.copy_(torch.softmax(logits.float() / LOG2_E, dim=-1))
                sums = torch.ones_like(sums)
            torch.div(torch.bmm(weights, v[some]), sums, out=read[some, row : row + rows])
    return read.view(batch, heads, queries, -1)


def _log2_weights(q: Tensor, k: Tensor, bias: Tensor | None, out: Tensor) -> Tensor:
    """Logits of (g, r, d) and (g, d, S) in powers of two; `q` is scaled for that already."""
    if bias is None:
        return torch.bmm(q, k, out=out)
    return torch.baddbmm(bias, q, k, beta=LOG2_E, out=out)


def _in_bounds(sums: Tensor) -> bool:
    """Whether no power of a row was too large, nor its largest too small, to be a number with all digits."""
    smallest, largest = torch.aminmax(sums)
    return bool(smallest >= SMALLEST_SUM and largest <= LARGEST_SUM)  # not a number: neither


def _block(groups: int, queries: int, keys: int, numbers: int, threads: int) -> tuple[int, int]:
    """Queries and heads of a block of at most so many attention weights for each thread (one row at least).

    Threads share a block out among them: if it had the size of one thread's, each would have too little.
    """
    rows = min(queries, max(1, numbers // keys))
    rows = math.ceil(queries / math.ceil(queries / rows))  # blocks of equal size
    return rows, min(groups, max(1, threads * numbers // (rows * keys)))
