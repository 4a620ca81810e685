import json
from pathlib import Path

from serving.access_log import AccessLog
from serving.http import Request
from serving.metrics import Counter, Histogram, sample


def test_label_values_are_escaped() -> None:
    assert sample("m", [("l", 'a"b\\c\nd')], 1) == 'm{l="a\\"b\\\\c\\nd"} 1'


def test_a_histogram_is_cumulative() -> None:
    histogram = Histogram("h", "help", "route", (0.1, 1.0))
    for seconds in (0.05, 0.1, 0.5, 2.0):
        histogram.observe("/x", seconds)
    assert list(histogram.lines())[2:] == [
        'h_bucket{route="/x",le="0.1"} 2',
        'h_bucket{route="/x",le="1.0"} 3',
        'h_bucket{route="/x",le="+Inf"} 4',
        'h_sum{route="/x"} 2.65',
        'h_count{route="/x"} 4',
    ]


def test_a_counter_counts_per_label() -> None:
    counter = Counter("c", "help", ("kind",))
    counter.add("a")
    counter.add("b", amount=2)
    assert (counter.value("a"), counter.value("b"), counter.value("z")) == (1, 2, 0)


def test_the_access_log_is_json_lines_and_bounded(tmp_path: Path) -> None:
    log = AccessLog(tmp_path / "logs" / "access.jsonl", capacity=2)
    for status in (200, 404, 503):
        log.add(Request("GET", "/v2", b"/v2", b"", {}, "127.0.0.1", id=b"id"), status, 0.5)
    log.drain()
    log.drain()
    lines = [json.loads(line) for line in (tmp_path / "logs" / "access.jsonl").read_text().splitlines()]
    assert lines[0] == {"event": "access_log_dropped", "lines": 1}
    assert [line["status"] for line in lines[1:]] == [404, 503]
