"""Which component drifts: a student's tensors against its teacher's, from the vision trunk to presence.

Maps of different sizes are brought to the teacher's by bilinear interpolation. What has no counterpart (other
tokenizers, other numbers of maps, layers or queries) is not compared, and `Drift.notes` says so.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from conceptseg.models.detector import DetectorTrace
from conceptseg.models.fusion_encoder import FusionOutput
from conceptseg.models.prompts import PromptTokens
from conceptseg.presence.features import FeatureComparison, FeatureDrift

# Of the network: where features drift first, the cause lies.
ORDER = ("vision trunk", "neck", "text", "exemplar tokens", "fusion memory", "decoder", "presence feature")
TOKENS_AT_ONCE = 2048  # of one component and one image; evenly spaced ones are taken of more


@dataclass
class Drift:
    """Add pairs of outputs, then read the figures per component, in the order of the network."""

    notes: list[str] = field(default_factory=list)
    _parts: dict[str, FeatureComparison] = field(default_factory=dict)

    def add(self, student: DetectorTrace, teacher: DetectorTrace, same_words: bool) -> None:
        """Compare what two models computed for the same images and prompts.

        Args:
            student: of B pairs.
            teacher: of the same B pairs.
            same_words: both tokenizers gave the same ids, so that text tokens correspond.
        """
        self._maps("vision trunk", student.image.trunk, teacher.image.trunk)
        self._maps("neck", student.image.levels, teacher.image.levels)
        if student.text is not None and teacher.text is not None:
            self.add_text(student.text, teacher.text, same_words)
        self._memory(student.fusion, teacher.fusion)
        self._hidden_states(student.decoded.hidden, teacher.decoded.hidden)
        features = student.decoded.presence_feature[0], teacher.decoded.presence_feature[0]  # (B, D) each
        self._compare("presence feature", *features)

    def add_text(self, student: PromptTokens, teacher: PromptTokens, same_words: bool) -> None:
        """Words: token by token, or as pooled phrases where the tokenizers differ."""
        if not same_words:
            self._note("text", "the tokenizers differ; pooled phrases are compared, not tokens")
            self._compare("text", student.pooled(), teacher.pooled())
            return
        length = min(len(student.tokens), len(teacher.tokens))  # the longer one has only padding beyond
        real = ~(student.padding_mask[:, :length] | teacher.padding_mask[:, :length]).t()  # (T, B)
        self._compare("text", student.tokens[:length][real], teacher.tokens[:length][real])

    def add_exemplars(self, student: PromptTokens, teacher: PromptTokens) -> None:
        """Tokens of example boxes and the summary token after them, (S, B, D)."""
        if student.tokens.shape[:2] != teacher.tokens.shape[:2]:
            self._note("exemplar tokens", "the encoders give different numbers of tokens; not compared")
            return
        real = ~student.padding_mask.t()
        self._compare("exemplar tokens", student.tokens[real], teacher.tokens[real])

    def result(self) -> dict[str, FeatureDrift]:
        """Component -> figures, in the order of the network."""
        ranked = sorted(self._parts, key=lambda name: [name.startswith(part) for part in ORDER], reverse=True)
        figures = {name: self._parts[name].result() for name in ranked}
        return {name: drift for name, drift in figures.items() if drift is not None}

    def _maps(self, name: str, student: list[Tensor], teacher: list[Tensor]) -> None:
        if len(student) != len(teacher):
            self._note(name, f"{len(student)} maps against {len(teacher)}; only the last ones are compared")
            student, teacher = student[-1:], teacher[-1:]
        for number, (ours, theirs) in enumerate(zip(student, teacher, strict=True), start=1):
            title = name if len(student) == 1 else f"{name}, map {number}"
            self._compare(title, *self._same_places(title, ours, theirs))

    def _memory(self, student: FusionOutput, teacher: FusionOutput) -> None:
        shapes = student.spatial_shapes.tolist(), teacher.spatial_shapes.tolist()
        if shapes[0] == shapes[1]:
            self._compare("fusion memory", student.memory.flatten(0, 1), teacher.memory.flatten(0, 1))
        elif len(shapes[0]) == len(shapes[1]) == 1:
            maps = [
                torch.unflatten(part.memory.permute(1, 2, 0), 2, tuple(size[0]))  # (B, D, H, W)
                for part, size in ((student, shapes[0]), (teacher, shapes[1]))
            ]
            self._compare("fusion memory", *self._same_places("fusion memory", *maps))
        else:
            self._note("fusion memory", f"levels of {shapes[0]} against {shapes[1]}; not compared")

    def _hidden_states(self, student: Tensor, teacher: Tensor) -> None:
        if student.shape[1] != teacher.shape[1]:
            self._note("decoder", f"{student.shape[1]} queries against {teacher.shape[1]}; not compared")
            return
        if len(student) != len(teacher):
            self._note("decoder", f"{len(student)} layers against {len(teacher)}; the last ones are compared")
            student, teacher = student[-1:], teacher[-1:]
        first = 1 if len(student) > 1 else "last"
        for number, (ours, theirs) in enumerate(zip(student, teacher, strict=True)):
            layer = first if isinstance(first, str) else first + number
            self._compare(f"decoder layer {layer}", ours.flatten(0, 1), theirs.flatten(0, 1))

    def _same_places(self, name: str, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Two maps (B, C, h, w) as tokens (K, C) of the same places."""
        ours, theirs = student.shape[-2:], teacher.shape[-2:]
        if ours != theirs:
            self._note(name, f"the student's {tuple(ours)} map was resized to the teacher's {tuple(theirs)}")
            student = F.interpolate(student.float(), theirs, mode="bilinear", align_corners=False)
        return student.flatten(2).transpose(1, 2).flatten(0, 1), teacher.flatten(2).transpose(1, 2).flatten(
            0, 1
        )

    def _compare(self, name: str, student: Tensor, teacher: Tensor) -> None:
        if len(student) > TOKENS_AT_ONCE:
            # A step that does not divide the width of a map, or only some of its columns would be seen.
            index = torch.linspace(0, len(student) - 1, TOKENS_AT_ONCE, device=student.device).long()
            student, teacher = student[index], teacher[index.to(teacher.device)]
        self._parts.setdefault(name, FeatureComparison()).add(student, teacher)

    def _note(self, name: str, what: str) -> None:
        if (note := f"{name}: {what}") not in self.notes:
            self.notes.append(note)
