"""What Prometheus reads at `/metrics`."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

NAMESPACE = "conceptseg"
SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100)


class Metrics:
    """Numbers of one service, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = self._counter("requests", "Finished requests.", "method", "route", "status")
        self.seconds = self._histogram("request_seconds", "From request to answer.", SECONDS, "route")
        self.in_flight = self._gauge("requests_in_flight", "Requests in the queue, the running included.")
        self.refused = self._counter("requests_refused", "Requests answered 503 at a full queue.")
        self.batch_phrases = self._histogram(
            "batch_phrases", "Phrases asked in one go.", (1, 2, 4, 8, 16, 32)
        )
        self.model_seconds = self._histogram("model_seconds", "Time in the model.", SECONDS, "work")
        self.cache_hits = self._counter("image_cache_hits", "Images that were encoded before.")
        self.cache_misses = self._counter("image_cache_misses", "Images that were encoded.")
        self.cache_bytes = self._gauge("image_cache_bytes", "Memory of encoded images.")
        self.ready = self._gauge("ready", "1 when the model is loaded.")

    def text(self) -> bytes:
        """In Prometheus's text format."""
        return generate_latest(self.registry)

    def _counter(self, name: str, what: str, *labels: str) -> Counter:
        return Counter(name, what, labels, namespace=NAMESPACE, registry=self.registry)

    def _gauge(self, name: str, what: str) -> Gauge:
        return Gauge(name, what, namespace=NAMESPACE, registry=self.registry)

    def _histogram(self, name: str, what: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return Histogram(name, what, labels, namespace=NAMESPACE, registry=self.registry, buckets=buckets)
