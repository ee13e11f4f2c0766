"""What Prometheus is told: how many requests, how long, how many wait, and which model answers.

Nothing of it depends on what a photo shows or on who asked.
"""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily

from .limits import Places
from .live import Live

SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)


class Numbers:
    """The numbers of one server."""

    def __init__(self, live: Live, places: Places) -> None:
        self._live, self._places = live, places
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "emojigan_requests", "Requests by path and status.", ["path", "status"], registry=self._registry
        )
        self.seconds = Histogram(
            "emojigan_ask_seconds",
            "From a question to its answer, refused ones too.",
            buckets=SECONDS,
            registry=self._registry,
        )
        self.photos = Counter(
            "emojigan_photos", "Photos that were answered or not.", ["outcome"], registry=self._registry
        )
        self._registry.register(self)

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily | InfoMetricFamily]:
        """What is known at this moment, for Prometheus' client."""
        taken = self._places.number - self._places.free
        yield GaugeMetricFamily("emojigan_places_taken", "Requests in the house.", taken)
        yield GaugeMetricFamily("emojigan_places", "Requests that find a place.", self._places.number)
        yield CounterMetricFamily("emojigan_reloads", "Times another model was served.", self._live.reloads)
        failing = self._live.trouble is not None
        yield GaugeMetricFamily("emojigan_reload_failing", "1: the newest cannot be served.", failing)
        said = {key: value for key, value in self._live.served.called.items() if value}
        yield InfoMetricFamily("emojigan_model", "Which model answers.", said)

    def text(self) -> bytes:
        """All of them, in Prometheus' format."""
        return generate_latest(self._registry)
