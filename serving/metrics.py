"""Counters and histograms in the Prometheus text format, without the client library's start-up cost."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence

LATENCY_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)


def sample(name: str, labels: Sequence[tuple[str, str]], value: float) -> str:
    """One line of the exposition format, label values escaped."""
    if not labels:
        return f"{name} {value:g}"
    inner = ",".join(f'{key}="{_escape(text)}"' for key, text in labels)
    return f"{name}{{{inner}}} {value!r}"


def header(name: str, kind: str, text: str) -> Iterator[str]:
    """The HELP and TYPE lines of a metric."""
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


class Counter:
    """A count that only grows, one per combination of label values."""

    def __init__(self, name: str, text: str, labels: Sequence[str]) -> None:
        self.name, self.text, self.labels = name, text, labels
        self._values: defaultdict[tuple[str, ...], float] = defaultdict(float)

    def add(self, *values: str, amount: float = 1) -> None:
        """Count `amount` more for these label values."""
        self._values[values] += amount

    def value(self, *values: str) -> float:
        """The count for these label values."""
        return self._values.get(values, 0.0)

    def lines(self) -> Iterator[str]:
        """The metric in the exposition format."""
        yield from header(self.name, "counter", self.text)
        for values, count in sorted(self._values.items()):
            yield sample(self.name, list(zip(self.labels, values, strict=True)), count)


class Histogram:
    """Durations in seconds by bucket, one series per value of one label."""

    def __init__(self, name: str, text: str, label: str, buckets: Sequence[float] = LATENCY_BUCKETS) -> None:
        self.name, self.text, self.label, self.buckets = name, text, label, buckets
        self._counts: defaultdict[str, list[int]] = defaultdict(lambda: [0] * (len(buckets) + 1))
        self._sums: defaultdict[str, float] = defaultdict(float)

    def observe(self, value: str, seconds: float) -> None:
        """Count one duration."""
        self._counts[value][bisect_left(self.buckets, seconds)] += 1
        self._sums[value] += seconds

    def lines(self) -> Iterator[str]:
        """The metric in the exposition format, buckets cumulative."""
        yield from header(self.name, "histogram", self.text)
        for value, counts in sorted(self._counts.items()):
            total = 0
            for bound, count in zip([*map(str, self.buckets), "+Inf"], counts, strict=True):
                total += count
                yield sample(f"{self.name}_bucket", [(self.label, value), ("le", bound)], total)
            yield sample(f"{self.name}_sum", [(self.label, value)], self._sums[value])
            yield sample(f"{self.name}_count", [(self.label, value)], total)


class Metrics:
    """Everything the service counts."""

    def __init__(self) -> None:
        self.requests = Counter("bellwether_requests_total", "HTTP requests answered.", ("route", "status"))
        self.request_seconds = Histogram("bellwether_request_seconds", "Time to answer a request.", "route")
        self.predictions = Counter(
            "bellwether_predictions_total", "Predictions made from bars.", ("model", "version")
        )
        self.bars_refused = Counter(
            "bellwether_bars_refused_total", "Requests with a refused bar.", ("reason",)
        )
        self.swaps = Counter("bellwether_model_swaps_total", "Models swapped in while serving.", ("model",))
        self.bundles_refused = Counter(
            "bellwether_bundles_refused_total", "New bundles refused; the old model kept serving.", ("model",)
        )
        self.shadowed = Counter(
            "bellwether_shadow_predictions_total",
            "Predictions of the challenger, off the request path.",
            ("model", "version"),
        )
        self.shadow_dropped = Counter(
            "bellwether_shadow_dropped_total", "Bars the challenger did not score in time.", ("model",)
        )
        self.log_errors = Counter(
            "bellwether_prediction_log_errors_total", "Predictions that could not be logged.", ("model",)
        )
        self.gaps = Counter(
            "bellwether_bar_gaps_total", "Gaps between two bars of a symbol.", ("model", "symbol")
        )
        self.missing_bars = Counter(
            "bellwether_bars_missing_total",
            "Bars missing by the market's hours.",
            ("model", "symbol"),
        )
        self.state_errors = Counter(
            "bellwether_state_errors_total", "Feature state or bars that could not be written.", ("model",)
        )
        self.state_damaged = Counter(
            "bellwether_state_damaged_total", "Damaged files of feature state; computed again.", ("model",)
        )

    def lines(self) -> Iterator[str]:
        """All of it in the exposition format."""
        for metric in vars(self).values():
            yield from metric.lines()
