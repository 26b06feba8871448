"""What an example box says to the network, as pictures.

    explanation = explain(segmenter, "coins.png", boxes=[[189, 170, 237, 217]])
    explanation.save("explained.png")

For every token: where the image is like it, and where it is like the features under its box. The two maps
show the gap between the encoders by eye. Then what the encoder's kind has: the context it picked, the
gate between exemplar and image, the shares of its levels and kernels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from conceptseg.errors import OptionError, PromptError
from conceptseg.exemplar import Exemplar
from conceptseg.extras import require
from conceptseg.images import ImageInput
from conceptseg.models.config import AdaptiveConfig, BridgeConfig
from conceptseg.models.exemplar.encoder import ExemplarTrace, pool_regions
from conceptseg.models.prompts import GeometricPrompt
from conceptseg.prompts import BoxesInput, LabelsInput, check_boxes
from conceptseg.report import save_chart
from conceptseg.segmenter import EncodedImage, Segmenter

Array = NDArray[np.float32]
MOST_ROWS = 6  # of the figure


@dataclass(frozen=True)
class Explanation:
    """M tokens on an image of h x w features: of the boxes, the closing one, and those of a concept.

    Attributes:
        image: (H, W, 3), the searched one.
        boxes_xyxy: of the first tokens; the closing one and those of a concept have no box here.
        labels: of the boxes, 1 or 0.
        encoder: kind of the exemplar encoder.
        token_similarity: (M, h, w) cosine of each token with every image token.
        feature_similarity: (boxes, h, w) cosine of the mean feature under each box with every image token.
        context: (boxes, h, w) which image tokens each box picked, summing to 1; None where the kind has none.
        gate: (boxes, D) share of the exemplar's side, 0 to 1; likewise.
        level_weights: (levels,) one for each of `levels`, early to late; likewise.
        branch_weights: (boxes, kernels) one for each of `kernels`, small to large; likewise.
        levels: their names.
        kernels: their names.
    """

    image: NDArray[np.uint8]
    boxes_xyxy: Array
    labels: tuple[int, ...]
    encoder: str
    token_similarity: Array
    feature_similarity: Array
    context: Array | None = None
    gate: Array | None = None
    level_weights: Array | None = None
    branch_weights: Array | None = None
    levels: tuple[str, ...] = ()
    kernels: tuple[str, ...] = ()

    def save(self, path: str | Path) -> Path:
        """Draw it as a PNG; folders on the way are made.

        Raises:
            OptionError: another ending.
            MissingDependencyError: matplotlib is not installed.
        """
        path = Path(path)
        if path.suffix.lower() != ".png":
            raise OptionError(f"{path} must end in .png")
        require("train", "drawing an explanation", ("matplotlib",))
        save_chart(_draw(self), path)
        return path


def explain(
    segmenter: Segmenter,
    image: ImageInput | EncodedImage,
    boxes: BoxesInput | None = None,
    labels: LabelsInput | None = None,
    exemplar: Exemplar | None = None,
) -> Explanation:
    """Look into the exemplar encoder while it reads these examples.

    Args:
        segmenter: any loaded model, but an exported one.
        image: that is searched.
        boxes: (M, 4) examples on it, x0, y0, x1, y1 in pixels.
        labels: (M,) 1 = like this, 0 = not like this; None: all 1.
        exemplar: a concept from other images, whose tokens are compared with this one.

    Raises:
        ImageError, PromptError: as for `segment`; or there is no example at all.
    """
    encoded = segmenter.encode(image)
    examples = check_boxes(boxes, labels, encoded.size_hw)
    if examples is None and exemplar is None:
        raise PromptError("there is no example to explain; give boxes or an exemplar")
    if exemplar is not None:
        exemplar.check_model(segmenter.fingerprint, segmenter.config.architecture.width)
    detector, features = segmenter.detector, encoded.features
    level = features.levels[-1]  # (1, D, h, w)
    index = torch.zeros(1, dtype=torch.long, device=segmenter.device)
    prompt = GeometricPrompt() if examples is None else examples.to_model(segmenter.device)
    with segmenter.inference():
        trace = detector.exemplar_encoder.trace(level, features.positions[-1], index, prompt)
        tokens = trace.tokens.tokens[:, 0].float()  # (boxes + 1, D), the closing one last
        if examples is None:
            tokens = tokens[:0]  # a concept from elsewhere brings its own
        if exemplar is not None:
            tokens = torch.cat((tokens, exemplar.tokens.to(tokens.device)))
        pooled = level.new_zeros(0, level.shape[1])
        if prompt.boxes_cxcywh is not None:
            pooled = pool_regions(level, index, prompt.boxes_cxcywh.float(), 7)[0].mean((2, 3))  # (boxes, D)
    config = segmenter.config.architecture.exemplar
    return Explanation(
        image=encoded.image.pixels,
        boxes_xyxy=np.zeros((0, 4), np.float32) if examples is None else examples.boxes_xyxy,
        labels=() if examples is None else tuple(examples.labels.tolist()),
        encoder=config.kind,
        token_similarity=_similarity(tokens, level[0]),
        feature_similarity=_similarity(pooled.float(), level[0]),
        **_parts(trace),
        levels=config.joints if isinstance(config, BridgeConfig) else (),
        kernels=tuple(f"{k} x {k}" for k in config.kernels) if isinstance(config, AdaptiveConfig) else (),
    )


def _similarity(vectors: Tensor, level: Tensor) -> Array:
    """(M, D) against (D, h, w) -> (M, h, w) cosines."""
    image = F.normalize(level.float().flatten(1), dim=0)  # (D, h * w)
    cosine = F.normalize(vectors, dim=-1) @ image
    return cosine.view(len(vectors), *level.shape[1:]).cpu().numpy()


def _parts(trace: ExemplarTrace) -> dict[str, Array | None]:
    """What the kind of the encoder has, of the only prompt."""
    whole = trace.level_weights
    own = {"context": trace.context, "gate": trace.gate, "branch_weights": trace.branch_weights}
    parts = {name: None if value is None else value[0].float().cpu().numpy() for name, value in own.items()}
    return {**parts, "level_weights": None if whole is None else whole.float().cpu().numpy()}


def _draw(it: Explanation) -> Any:
    from matplotlib.figure import Figure

    rows = min(MOST_ROWS, len(it.token_similarity))
    titles = ["example", "like its token", "like what lies under it"]
    titles += ["context it picks"] if it.context is not None else []
    titles += ["gate"] if it.gate is not None else []
    height, width = it.image.shape[:2]
    # A picture takes four fifths of its column; a caption of one to three lines stands below the first.
    row_height = min(max(2.5 * height / width, 1.4), 5.0) + 0.5
    figure = Figure(figsize=(3.1 * len(titles), row_height * rows + 0.3), layout="constrained")
    for row in range(rows):
        axes = [figure.add_subplot(rows, len(titles), row * len(titles) + i + 1) for i in range(len(titles))]
        for one, title in zip(axes, titles, strict=True):
            if row == 0:
                one.set_title(title, fontsize=9)
        boxed = row < len(it.boxes_xyxy)
        _show(axes[0], it.image)
        if boxed:
            x0, y0, x1, y1 = it.boxes_xyxy[row]
            color = "#2a9d5c" if it.labels[row] else "#d1495b"
            axes[0].plot([x0, x1, x1, x0, x0], [y0, y0, y1, y1, y0], color=color, linewidth=2)
        axes[0].set_xlabel(_caption(it, row, boxed), fontsize=7)
        _show(axes[1], it.image, it.token_similarity[row])
        if boxed:
            _show(axes[2], it.image, it.feature_similarity[row])
        else:
            axes[2].axis("off")
        if it.context is not None:
            _show(axes[3], it.image, it.context[row]) if boxed else axes[3].axis("off")
        if it.gate is not None:
            _show_gate(axes[-1], it.gate[row]) if boxed else axes[-1].axis("off")
    return figure


def _show(axes: Any, image: NDArray[np.uint8], heat: Array | None = None) -> None:
    height, width = image.shape[:2]
    axes.imshow(image.mean(-1) if heat is not None else image, cmap="gray")
    if heat is not None:
        shown = axes.imshow(
            heat, cmap="inferno", alpha=0.7, extent=(0, width, height, 0), interpolation="bilinear"
        )
        axes.figure.colorbar(shown, ax=axes, shrink=0.7).ax.tick_params(labelsize=6)
    axes.set(xticks=[], yticks=[])


def _show_gate(axes: Any, gate: Array) -> None:
    axes.bar(np.arange(len(gate)), np.sort(gate), width=1.0, color="#2b7bba")
    axes.set(ylim=(0, 1))
    axes.set_xlabel("channels, sorted", fontsize=7)
    axes.set_ylabel("share of the exemplar", fontsize=7)
    axes.tick_params(labelsize=6)


def _caption(it: Explanation, row: int, boxed: bool) -> str:
    count = len(it.boxes_xyxy)
    if not boxed and count and row == count:
        return "the closing token, which has read the boxes"
    if not boxed:
        return f"token {row - count + (not count)} of the concept from elsewhere"
    said = [f"{it.encoder}, {'like this' if it.labels[row] else 'not like this'}"]
    if it.level_weights is not None:
        said.append(", ".join(f"{n} {w:.2f}" for n, w in zip(it.levels, it.level_weights, strict=True)))
    if it.branch_weights is not None:
        said.append(
            ", ".join(f"{n} {w:.2f}" for n, w in zip(it.kernels, it.branch_weights[row], strict=True))
        )
    return "\n".join(said)
