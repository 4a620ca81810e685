"""Who is let in: rate, token, concurrency, memory, and the name a request carries."""

import pytest

from serving.errors import BadRequest, BodyTooLarge, Overloaded, RateLimited, ServingError, Unauthorized
from serving.guard import Buckets, Guard
from serving.http import Limits, Request


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def _request(
    path: str = "/v1/bars", method: str = "POST", client: str = "10.0.0.1", **headers: str
) -> Request:
    named = {k.replace("_", "-").encode(): v.encode() for k, v in headers.items()}
    return Request(method, path, path.encode(), b"", named, client)


def test_a_bucket_empties_and_refills_per_client() -> None:
    clock = Time()
    buckets = Buckets(2.0, 3, clock=clock)
    assert [buckets.take("a") for _ in range(4)] == [0, 0, 0, 0.5]
    assert buckets.take("b") == 0
    clock.now = 0.5
    assert buckets.take("a") == 0
    assert buckets.take("a") == 0.5
    clock.now = 100
    assert [buckets.take("a") for _ in range(4)] == [0, 0, 0, 0.5]


def test_buckets_are_bounded_and_off_at_rate_0() -> None:
    buckets = Buckets(1.0, 1, clients=3, clock=Time())
    for client in "abcd":
        buckets.take(client)
    assert len(buckets._known) == 3
    assert buckets.take("d") == 1
    free = Buckets(0.0, 1)
    assert {free.take("a") for _ in range(100)} == {0.0}
    assert free._known == {}


def test_the_rate_is_refused_with_when_to_come_back_and_probes_pass() -> None:
    guard = Guard(Limits(), rate=0.25, burst=1)
    guard.leave(guard.enter(_request()))
    with pytest.raises(RateLimited) as error:
        guard.enter(_request())
    assert error.value.retry_after == 4
    guard.leave(guard.enter(_request("/v2/health/live", "GET")))
    guard.leave(guard.enter(_request(client="10.0.0.2")))
    # one IPv6 network is one client
    guard.leave(guard.enter(_request(client="2001:db8:1:2::1")))
    with pytest.raises(RateLimited):
        guard.enter(_request(client="2001:db8:1:2::2"))


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/health/ready"])
def test_probes_need_no_token(path: str) -> None:
    Guard(Limits(), token="s3cret").authorise(_request(path))


@pytest.mark.parametrize(
    "path", ["/x/v2/health/live", "/v2/health/live/", "//v2/health/live", "/v2/health/live/../../../metrics"]
)
def test_nothing_that_only_resembles_a_probe_is_exempt(path: str) -> None:
    with pytest.raises(Unauthorized):
        Guard(Limits(), token="s3cret").authorise(_request(path))


@pytest.mark.parametrize(
    "given", ["", "Bearer", "Bearer ", "Bearers s3cret", "Bearer s3cre", "Bearer s3cret ", "Basic s3cret"]
)
def test_only_the_whole_token_passes(given: str) -> None:
    guard = Guard(Limits(), token="s3cret")
    with pytest.raises(Unauthorized):
        guard.authorise(_request(authorization=given))
    for scheme in ("Bearer", "bearer", "BEARER"):
        guard.authorise(_request(authorization=f"{scheme} s3cret"))


def test_requests_at_once_are_limited_and_counted_down() -> None:
    guard = Guard(Limits(concurrency=2))
    held = [guard.enter(_request()) for _ in range(2)]
    with pytest.raises(Overloaded):
        guard.enter(_request())
    guard.enter(_request("/v2/health/ready", "GET"))
    guard.leave(held[0])
    guard.leave(guard.enter(_request()))


def test_the_bytes_of_large_bodies_are_limited_together() -> None:
    guard = Guard(Limits(body_bytes=200_000, buffered_bytes=300_000))
    held = guard.enter(_request(content_length="200000"))
    with pytest.raises(Overloaded, match="bodies"):
        guard.enter(_request(transfer_encoding="chunked"))
    guard.leave(guard.enter(_request(content_length="1000")))
    guard.leave(held)
    guard.leave(guard.enter(_request(transfer_encoding="chunked")))


@pytest.mark.parametrize(
    ("length", "error"),
    [("8388609", BodyTooLarge), ("9" * 18, BodyTooLarge), ("9" * 5000, BadRequest), ("-1", BadRequest)],
)
def test_a_declared_length_is_judged_before_the_body(length: str, error: type[ServingError]) -> None:
    with pytest.raises(error):
        Guard(Limits()).enter(_request(content_length=length))


def test_request_ids_are_the_callers_or_new() -> None:
    guard = Guard(Limits())
    assert guard.request_id(_request(x_request_id="job-7/a")) == b"job-7/a"
    made = [guard.request_id(_request(x_request_id=bad)) for bad in ("", "a b", "x" * 65, 'a"b', "a\x1b[31m")]
    assert len(set(made)) == 5
    assert Guard(Limits()).request_id(_request()) not in made
