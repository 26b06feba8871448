"""What Prometheus reads at `/metrics`."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100)


class Metrics:
    """Numbers of one service, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        within = {"namespace": "conceptseg", "registry": self.registry}
        self.requests = Counter("requests", "Finished requests.", ["method", "route", "status"], **within)
        self.seconds = Histogram(
            "request_seconds", "From request to answer.", ["route"], buckets=SECONDS, **within
        )
        self.in_flight = Gauge("requests_in_flight", "Requests in the queue, the running included.", **within)
        self.refused = Counter("requests_refused", "Requests answered 503 at a full queue.", **within)
        self.batch_phrases = Histogram(
            "batch_phrases", "Phrases asked in one go.", buckets=(1, 2, 4, 8, 16, 32), **within
        )
        self.model_seconds = Histogram(
            "model_seconds", "Time in the model.", ["work"], buckets=SECONDS, **within
        )
        self.cache_hits = Counter("image_cache_hits", "Images that were encoded before.", **within)
        self.cache_misses = Counter("image_cache_misses", "Images that were encoded.", **within)
        self.cache_bytes = Gauge("image_cache_bytes", "Memory of encoded images.", **within)
        self.ready = Gauge("ready", "1 when the model is loaded.", **within)

    def text(self) -> bytes:
        """In Prometheus's text format."""
        return generate_latest(self.registry)
