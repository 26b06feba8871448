"""How well exemplar tokens and image features agree: the arithmetic of the gap, on plain arrays.

n examples: `tokens` (n, D) are what the exemplar encoder says of each box, `pooled` (n, D) what the image
says under the same box. The two spaces need not be the same for a detector to work, so every figure of
agreement comes three times: as it is; with each side's mean taken off; and after the best linear map from
token to feature, fitted on half of the images and judged on the other half.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
RIDGE = 1e-2  # of the mean variance of a channel
RECALL_AT = (1, 5)


def channel_statistics(tokens: Array, cells: Array) -> dict[str, Any]:
    """Channel means and variances of exemplar tokens against the image tokens under the same objects.

    Args:
        tokens: (n, D).
        cells: (m, D), image tokens under the boxes.

    Returns:
        `mean_offset`: distance of the means, in standard deviations of the image tokens (root mean square
        over channels); `log_variance_ratio`: mean absolute logarithm of the ratio of variances, 0 where all
        are equal; and the four rows of D numbers.
    """
    token_mean, token_variance = tokens.mean(0), tokens.var(0)
    image_mean, image_variance = cells.mean(0), cells.var(0)
    tiny = 1e-12
    offset = (token_mean - image_mean) / np.sqrt(image_variance + tiny)
    ratio = np.log((token_variance + tiny) / (image_variance + tiny))
    return {
        "mean_offset": float(np.sqrt((offset**2).mean())),
        "log_variance_ratio": float(np.abs(ratio).mean()),
        "token_mean": token_mean.tolist(),
        "token_variance": token_variance.tolist(),
        "image_mean": image_mean.tolist(),
        "image_variance": image_variance.tolist(),
    }


def agreement(tokens: Array, pooled: Array, concepts: list[str], images: NDArray[np.int64]) -> dict[str, Any]:
    """Cosine and retrieval of each token against the features of all boxes.

    Args:
        tokens: (n, D).
        pooled: (n, D).
        concepts: n names.
        images: (n,), which image each example is of.

    Returns:
        `raw`, `centred` and `linear`, each as `retrieval` gives it; `linear` on the judged half only, and
        empty where there are fewer than four images.
    """
    result = {
        "raw": retrieval(tokens, pooled, concepts, images),
        "centred": retrieval(tokens - tokens.mean(0), pooled - pooled.mean(0), concepts, images),
        "linear": {},
    }
    _, order = np.unique(images, return_inverse=True)
    judged = order // 2 % 2 == 1  # scenes 2k and 2k + 1 share a theme: both are fitted on, or both judged
    if order.max(initial=0) >= 3:
        moved = linear_map(tokens[~judged], pooled[~judged], tokens[judged])
        result["linear"] = retrieval(
            moved - moved.mean(0),
            pooled[judged] - pooled[judged].mean(0),
            [name for name, keep in zip(concepts, judged, strict=True) if keep],
            images[judged],
        )
    return result


def retrieval(
    queries: Array, gallery: Array, concepts: list[str], images: NDArray[np.int64]
) -> dict[str, float]:
    """Where a query's own entry ranks among all entries, and how concepts are told apart.

    Returns:
        cosine_own, cosine_same (other boxes of the concept), cosine_other (other concepts); median_rank of
        the own entry among n, from 1; recall_1 and recall_5; concept_auroc: how often a box of the same
        concept in another image is nearer than one of another concept. NaN where nothing can be compared.
    """
    cosine = unit(queries) @ unit(gallery).T  # (n, n)
    own = np.diag(cosine)
    rank = rank_of_own(cosine)
    names = np.array(concepts)
    same = names[:, None] == names[None]
    itself = np.eye(len(names), dtype=bool)
    elsewhere = images[:, None] != images[None]
    return {
        "cosine_own": float(own.mean()),
        "cosine_same": _mean(cosine[same & ~itself]),
        "cosine_other": _mean(cosine[~same]),
        "median_rank": float(np.median(rank)),
        **{f"recall_{k}": float((rank <= k).mean()) for k in RECALL_AT},
        "concept_auroc": _auroc(cosine, same & elsewhere, ~same),
        "examples": float(len(names)),
    }


def stays_put(changed: Array, kept: Array, index: NDArray[np.int64]) -> dict[str, float]:
    """Whether tokens of changed objects are still those of the same objects.

    Args:
        changed: (k, D), tokens after the change.
        kept: (n, D), tokens of all objects before it.
        index: (k,), the object that each changed one was.

    Returns:
        Cosine with the token before, after taking off the mean of `kept`; how it ranks among all n.
    """
    if not len(changed):
        return {"cosine": math.nan, "median_rank": math.nan, "recall_1": math.nan, "examples": 0.0}
    mean = kept.mean(0)
    cosine = unit(changed - mean) @ unit(kept - mean).T  # (k, n)
    own = cosine[np.arange(len(index)), index]
    rank = 1 + (cosine > own[:, None]).sum(1)
    return {
        "cosine": float(own.mean()),
        "median_rank": float(np.median(rank)),
        "recall_1": float((rank <= 1).mean()),
        "examples": float(len(index)),
    }


def linear_map(tokens: Array, features: Array, others: Array) -> Array:
    """`others` through the ridge regression from tokens to features."""
    mean, target = tokens.mean(0), features.mean(0)
    x, y = tokens - mean, features - target
    gram = x.T @ x
    gram += RIDGE * max(float(np.trace(gram)) / len(gram), 1e-12) * np.eye(len(gram))
    return (others - mean) @ np.linalg.solve(gram, x.T @ y) + target


def rank_of_own(cosine: Array) -> NDArray[np.int64]:
    """(n,) place of the diagonal in its row, from 1."""
    return 1 + (cosine > np.diag(cosine)[:, None]).sum(1)


def unit(x: Array) -> Array:
    """Rows of length 1; a row of zeros stays."""
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def _mean(values: Array) -> float:
    return float(values.mean()) if values.size else math.nan


def _auroc(cosine: Array, same: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Mean over queries of the share of (same, other) pairs in which the same is nearer; ties count half."""
    shares: list[float] = []
    for row, yes, no in zip(cosine, same, other, strict=True):
        if yes.any() and no.any():
            against = np.sort(row[no])
            below = np.searchsorted(against, row[yes], side="left")
            up_to = np.searchsorted(against, row[yes], side="right")
            shares.append(float(((below + up_to) / 2).mean()) / len(against))
    return float(np.mean(shares)) if shares else math.nan
