"""How many boxes are right, straight from the network's output: cheap enough for every look at other data."""

from __future__ import annotations

import numpy as np
import torch

from conceptseg.losses.boxes import box_overlap
from conceptseg.losses.targets import Targets
from conceptseg.models.detector import DetectorOutput
from conceptseg.presence_reading import PresenceReading

THRESHOLD = 0.5  # of the score, and of the overlap


@torch.no_grad()
def box_f1(output: DetectorOutput, targets: Targets, reading: PresenceReading) -> np.ndarray:
    """Counts over a batch of pairs: (found, predicted, wanted); F1 = 2 found / (predicted + wanted).

    Scores are those of use: presence enters them as `reading` says. Each wanted box is found once, by the
    best that overlaps it.
    """
    scores = reading.scores(output.class_logits[-1], output.presence_logits[-1]).t()  # (B, N)
    boxes = output.boxes_cxcywh[-1].float().transpose(0, 1)  # (B, N, 4)
    found = predicted = wanted = 0
    for score, own, target, valid in zip(scores, boxes, targets.boxes_cxcywh, targets.valid, strict=True):
        kept = score > THRESHOLD
        order = score[kept].argsort(descending=True)
        answers, truth = own[kept][order], target[valid].float()
        predicted += len(answers)
        wanted += len(truth)
        if not len(answers) or not len(truth):
            continue
        overlap, _ = box_overlap(answers[:, None], truth[None])  # (P, G)
        free = torch.ones(len(truth), dtype=torch.bool, device=overlap.device)
        for row in overlap:
            best, place = row.masked_fill(~free, -1.0).max(0)
            if best >= THRESHOLD:
                free[place] = False
                found += 1
    return np.array([found, predicted, wanted], dtype=np.float64)
