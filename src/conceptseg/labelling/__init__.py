"""Label many images: `label` answers phrases on folders of images and keeps what it has done."""

from conceptseg.labelling.run import LabelReport, Problem, label, preview
from conceptseg.labelling.settings import Concept, LabelSettings, ModelChoice

__all__ = ["Concept", "LabelReport", "LabelSettings", "ModelChoice", "Problem", "label", "preview"]
