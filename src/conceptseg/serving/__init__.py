"""The service: the model over HTTP, the page, and the protocols that labelling tools speak.

request ─> access ─> queue ─> endpoint ─> image cache ─> batching ─> segmenter
"""
