"""Every claim of the two analyses, and which of them a measurement here settles."""

from __future__ import annotations

from dataclasses import dataclass

from conceptseg.evidence.alignment_claim import AlignmentLosses
from conceptseg.evidence.component_costs import ComponentCosts
from conceptseg.evidence.encoder_conflict import EncoderConflict
from conceptseg.evidence.example_changes import ExampleContext, ExampleScale
from conceptseg.evidence.example_robustness import ExampleRobustness
from conceptseg.evidence.fusion_claim import PooledPrompt
from conceptseg.evidence.measurement import Measurement, Settled
from conceptseg.evidence.presence_shift import PresenceShift
from conceptseg.evidence.prompt_swap import PromptSwap
from conceptseg.evidence.student_claims import ForeignOffset, PresenceCollapse, RepairOrder, VerdictChoice
from conceptseg.evidence.token_statistics import TokenStatistics
from conceptseg.evidence.training_claims import (
    Adaptive,
    Bridge,
    ProgressiveSchedule,
    Remedies,
    UnifiedEncoder,
)
from conceptseg.evidence.training_grid import TrainingClaim


@dataclass(frozen=True)
class Claim:
    """One claim: its number, and what it says."""

    number: str
    says: str


FUSION_AND_PRESENCE = (
    Claim("F1", "the pooled prompt, added to the image at the start, helps to know what to look for"),
    Claim("F2", "the fused memory depends on the prompt, and the decoder reads it"),
    Claim("F3", "presence collapses because nothing after the encoders ever saw the student's features"),
    Claim("F4", "multiplying with a steep sigmoid amplifies the collapse"),
    Claim("F5", "repairs in the order: ignore, fine-tune presence, distil, offset"),
    Claim("F6", "an offset is right for one model only"),
    Claim("F7", "the verdict of a diagnosis chooses the right repair"),
)
EXEMPLAR_GAP = (
    Claim("G1", "the statistics of exemplar tokens and image tokens differ"),
    Claim("G2", "the gradients of the two encoders conflict"),
    Claim("G3", "the exemplar encoder is sensitive to scale, the vision encoder is not"),
    Claim("G4", "the exemplar encoder misses context"),
    Claim("G5", "contrastive alignment and ROI distillation close the gap, and help"),
    Claim("G6", "a unified encoder helps, most when vision trains too"),
    Claim("G7", "a bridge at three levels helps"),
    Claim("G8", "adaptive encoding helps"),
    Claim("G9", "the progressive schedule beats the plain joint objective"),
    Claim("G10", "the remedies make training more stable and faster, and generalise"),
    Claim("G11", "exemplar prompts are robust to scale, viewpoint, occlusion, background, negative boxes"),
    Claim(
        "G12",
        "costs: training +5-8%, forward +10-15%, inference +8-12%, activations +15-20%, gradients +10-15%",
    ),
)

MEASUREMENTS: dict[str, Measurement] = {
    it.claim: it
    for it in (
        PromptSwap(),
        PresenceShift(),
        TokenStatistics(),
        EncoderConflict(),
        ExampleScale(),
        ExampleContext(),
        ExampleRobustness(),
        ComponentCosts(),
    )
}

STUDENTS: tuple[Settled, ...] = (PresenceCollapse(), RepairOrder(), ForeignOffset(), VerdictChoice())
TRAININGS: tuple[TrainingClaim, ...] = (
    PooledPrompt(),
    AlignmentLosses(),
    UnifiedEncoder(),
    Bridge(),
    Adaptive(),
    ProgressiveSchedule(),
    Remedies(),
)

# By all that this library settles: measurements, and what trained models gave.
SETTLED: dict[str, Settled] = {**MEASUREMENTS, **{it.claim: it for it in (*STUDENTS, *TRAININGS)}}
