"""A concept shown by example boxes, to be found in other images: a small file to keep, share and pool.

It holds the prompt tokens that the exemplar encoder made of the boxes. They mean something only to the model
that made them, so the file carries that model's fingerprint.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from conceptseg.checkpoints.atomic_write import replacing
from conceptseg.errors import PromptError
from conceptseg.models.prompts import PromptTokens

if TYPE_CHECKING:
    pass

FORMAT = "conceptseg.exemplar.1"


@dataclass(frozen=True, eq=False)
class Exemplar:
    """Example boxes as prompt tokens; `a + b` pools the examples of several images."""

    tokens: Tensor  # (S, D) float32 on the CPU: one token per box and one closing token per image
    labels: tuple[int, ...]  # of the boxes: 1 positive, 0 negative
    model: str  # fingerprint of the model that made the tokens
    images: int = 1  # how many images the examples were drawn on

    def __add__(self, other: Exemplar) -> Exemplar:
        if not isinstance(other, Exemplar):
            return NotImplemented
        if other.model != self.model:
            raise PromptError(
                f"exemplars of different models cannot be pooled: {self._made_by} and {other._made_by}"
            )
        return Exemplar(
            tokens=torch.cat((self.tokens, other.tokens)),
            labels=self.labels + other.labels,
            model=self.model,
            images=self.images + other.images,
        )

    def __radd__(self, other: object) -> Exemplar:
        return self if other == 0 else NotImplemented  # so that sum([a, b, c]) pools

    def __repr__(self) -> str:
        positive = sum(self.labels)
        negative = len(self.labels) - positive
        return f"Exemplar({positive} positive, {negative} negative, {self.images} image(s), {self._made_by})"

    def save(self, path: str | Path) -> Path:
        """Write a safetensors file, by custom `NAME.concept.safetensors`; folders on the way are made.

        Raises:
            PromptError: it cannot be written.
        """
        path = Path(path)
        tensors = {"tokens": self.tokens.contiguous(), "labels": torch.tensor(self.labels, dtype=torch.int64)}
        try:
            with replacing(path) as draft:
                save_file(tensors, draft, {"format": FORMAT, "model": self.model, "images": str(self.images)})
        except (OSError, SafetensorError, ValueError) as error:
            raise PromptError(f"{path} cannot be written: {error}") from error
        return path

    @classmethod
    def load(cls, path: str | Path) -> Exemplar:
        """Read what `save` wrote.

        Raises:
            PromptError: missing, damaged, or another kind of file.
        """
        path = Path(path)
        if not path.is_file():
            raise PromptError(f"{path}: no such file")
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != FORMAT:
                    raise PromptError(f"{path} is not a concept file: Exemplar.save() writes them")
                tokens, labels = file.get_tensor("tokens"), file.get_tensor("labels")
            images = int(metadata["images"])
            if tokens.ndim != 2 or not bool(tokens.isfinite().all()):
                raise ValueError("its tokens are no rows of finite numbers")
            if labels.ndim != 1 or not set(labels.tolist()) <= {0, 1}:
                raise ValueError("its labels are not 1 and 0")
            return cls(tokens.float(), tuple(int(label) for label in labels), metadata["model"], images)
        except PromptError:
            raise
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise PromptError(f"{path} is not a concept file, or is damaged: {error}") from error

    def check_model(self, model: str, width: int) -> None:
        """Refuse to go into a model that did not make it.

        Raises:
            PromptError: another fingerprint, or tokens of another width.
        """
        if self.model != model or self.tokens.shape[1] != width:
            raise PromptError(
                f"this exemplar was made by {self._made_by}; model {model} (width {width}) cannot read it; "
                "make it again from its boxes with this model's exemplar()"
            )

    def to_model(self, pairs: int, device: torch.device | str = "cpu") -> PromptTokens:
        """The same tokens for every one of `pairs` (image, prompt) pairs: (S, B, D), nothing padded."""
        tokens = self.tokens.to(device)[:, None].expand(-1, pairs, -1)
        return PromptTokens(tokens, torch.zeros(pairs, len(tokens), dtype=torch.bool, device=device))

    @property
    def _made_by(self) -> str:
        return f"model {self.model} (width {self.tokens.shape[1]})"
