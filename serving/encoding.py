"""Compressed bodies: gzip and deflate both ways, never unpacking more than a limit."""

import zlib

from serving.errors import BadRequest, BodyTooLarge, UnsupportedMedia

# window bits of zlib: 31 reads a gzip header, 15 a zlib header; "deflate" of HTTP means the latter
_BITS = {b"gzip": 31, b"x-gzip": 31, b"deflate": 15}
_MEMBERS = 16
# below this an answer fits in one packet and compressing it only costs time
WORTHWHILE = 1024


def decompress(body: bytes, encoding: bytes, limit: int) -> bytes:
    """The body as it was before `encoding`, a Content-Encoding header.

    UnsupportedMedia for another encoding, BadRequest for damaged data, BodyTooLarge beyond `limit` bytes.
    """
    name = encoding.strip().lower()
    if name in (b"", b"identity"):
        return body
    if name not in _BITS:
        shown = name[:40].decode("ascii", "replace")
        raise UnsupportedMedia(f"content-encoding {shown!r}: gzip, deflate or none is expected")
    try:
        return _unpack(body, _BITS[name], limit)
    except zlib.error as error:
        raise BadRequest(f"the body is not valid {name.decode()} data ({error})") from error


def _unpack(body: bytes, bits: int, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while body:
        member = zlib.decompressobj(bits)
        parts.append(member.decompress(body, limit - size + 1))
        size += len(parts[-1])
        if size > limit:
            raise BodyTooLarge(f"the body is over {limit} bytes once unpacked: send less per request")
        if not member.eof:
            raise BadRequest("the compressed body ends too early: send all of it")
        if len(parts) > _MEMBERS:
            raise BadRequest(f"the compressed body has more than {_MEMBERS} members: compress it as one")
        body = member.unused_data
    return b"".join(parts)


def choose(accept: bytes) -> bytes | None:
    """gzip or deflate, whichever an Accept-Encoding header likes better; None when it likes neither."""
    weights: dict[bytes, float] = {}
    for item in accept.lower().split(b","):
        name, _, parameter = item.partition(b";")
        weights[name.strip()] = _weight(parameter)
    everything = weights.get(b"*", 0.0)
    best = max((b"gzip", b"deflate"), key=lambda name: weights.get(name, everything))
    return best if weights.get(best, everything) > 0 else None


def _weight(parameter: bytes) -> float:
    key, _, value = parameter.partition(b"=")
    if key.strip() != b"q":
        return 1.0
    try:
        return float(value)
    except ValueError:
        return 0.0


def compress(body: bytes, encoding: bytes) -> bytes:
    """The body as `encoding`, gzip or deflate; level 1, since loopback and data centres are fast."""
    packer = zlib.compressobj(1, zlib.DEFLATED, _BITS[encoding])
    return packer.compress(body) + packer.flush()
