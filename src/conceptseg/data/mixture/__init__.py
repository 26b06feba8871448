"""Training batches from several sources at once: drawn scenes, labelled photographs, composites of them.

config       the sources, their shares, and what is asked
batches      batch `step` of a run
source       what a source gives: pairs of images, and what is asked of them
scenes, photographs, composites    one source each
questions    what photographs and composites are asked
datasets     the labelled data below the sources, and their words

Every source labels only what it labels. So a name is asked as absent only where the source says so, or where
it is sure from what is there (`names.yaml`); objects without a mask are compared by their boxes.

Images come in pairs of one source, so that a box on one may name something in the other. What a batch holds
is determined by (seed, step) alone, as everywhere.
"""
