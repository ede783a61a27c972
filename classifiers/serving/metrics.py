"""What a server has done, as numbers that Prometheus reads: requests, packs, seconds of sound, what waits."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from embedcache import __version__

from .pack_queue import PackReport
from .request_log import RequestRecord
from .service import PredictionService

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)  # bounds of the histograms of times
CLIPS = (1, 2, 4, 8, 16, 32, 64)  # bounds of the histogram of clips in a pack


class Metrics:
    """The counters of one server. Its labels are routes, methods and statuses, so that their number is bounded."""

    def __init__(self, service: PredictionService) -> None:
        """Count the packs of a service, and show what waits in it."""
        self.registry = on = CollectorRegistry()
        self._requests = Counter("ser_requests", "Requests.", ["route", "method", "status"], registry=on)
        self._seconds = Histogram("ser_request_seconds", "Time of a request.", ["route"], buckets=SECONDS, registry=on)
        self._audio = Counter("ser_audio_seconds", "Sound that was predicted, in seconds.", registry=on)
        self._pack_clips = Histogram("ser_pack_clips", "Clips in one run of the encoder.", buckets=CLIPS, registry=on)
        self._pack_requests = Histogram("ser_pack_requests", "Requests in one run.", buckets=CLIPS, registry=on)
        self._pack_seconds = Histogram(
            "ser_pack_seconds", "Time of one run of the encoder.", buckets=SECONDS, registry=on
        )
        Gauge("ser_queue_length", "Requests that wait for the encoder.", registry=on).set_function(
            lambda: service.queue.length
        )
        Gauge("ser_requests_open", "Requests that run or wait.", registry=on).set_function(
            lambda: service.open_requests
        )
        Gauge("ser_held_bytes", "Bytes of requests in memory.", registry=on).set_function(lambda: service.held)
        info = Gauge("ser_model_info", "Loaded models.", ["model", "version"], registry=on)
        for name in service.models:
            info.labels(name, __version__).set(1)
        service.queue.on_pack = self._count_pack

    def count_request(self, record: RequestRecord) -> None:
        """Count a request that has ended."""
        self._requests.labels(record.route, record.method, record.status).inc()
        self._seconds.labels(record.route).observe(record.seconds)

    def text(self) -> bytes:
        """Return the metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def _count_pack(self, report: PackReport) -> None:
        self._audio.inc(report.audio_seconds)
        self._pack_clips.observe(report.clips)
        self._pack_requests.observe(report.requests)
        self._pack_seconds.observe(report.seconds)
