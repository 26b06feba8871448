"""How good is a model: metrics of concept segmentation, one per file."""
