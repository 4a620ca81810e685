"""The certificate that a service shows its clients."""

import ssl
from dataclasses import dataclass
from pathlib import Path

from core.errors import UsageError


@dataclass(frozen=True)
class Certificate:
    """A certificate with those that vouch for it, and its key, both PEM, as their files were at start."""

    chain: bytes
    key: bytes
    context: ssl.SSLContext


def read(chain: Path | None, key: Path | None) -> Certificate | None:
    """None when neither file is given; UsageError when one is missing or unreadable, or they are no pair."""
    if chain is None and key is None:
        return None
    if chain is None or key is None:
        given, other = ("--tls-key", "--tls-cert") if chain is None else ("--tls-cert", "--tls-key")
        raise UsageError(f"{given} {chain or key} needs {other} beside it: give both, or neither")
    held = Certificate(_bytes(chain), _bytes(key), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    try:
        # a key with a password is refused by this one; without it OpenSSL would ask the terminal
        held.context.load_cert_chain(chain, key, password="")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise UsageError(
                f"{key} is not the key of {chain}: give the two that were made together"
            ) from None
        raise UsageError(
            f"{chain} and {key} cannot be used ({error.reason or 'no PEM'}): a certificate and its private "
            "key are expected, both PEM, the key without a password"
        ) from None
    held.context.set_alpn_protocols(["http/1.1"])
    return held


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read ({error.strerror}): give --tls-cert and --tls-key PEM files that exist "
            "and that this user may read"
        ) from None
