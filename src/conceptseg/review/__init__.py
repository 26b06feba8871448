"""Look through labelled images: accept, reject, correct, and write out what was accepted.

ledger of the labelling ─> order, the doubtful first ─> page ─> decisions ─> COCO
"""

from conceptseg.review.export import Exported, export_accepted
from conceptseg.review.review import Review

__all__ = ["Exported", "Review", "export_accepted"]
