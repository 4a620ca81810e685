"""What the service answers when it cannot answer; each error owns its HTTP status.

ServingError (500)
├── BadRequest (400)         the body is not what the protocol says
├── Unauthorized (401)       the token is missing or wrong
├── NotFound (404)           no such path, model, version or symbol
├── MethodNotAllowed (405)   the path exists, the method does not
├── BodyTimeout (408)        the body did not arrive in time
├── StaleBar (409)           a bar that is not newer than the last one of its symbol
├── BodyTooLarge (413)       the body is over the limit
├── UnsupportedMedia (415)   a body in a form that is not read here
├── BarRefused (422)         a bar that breaks a rule of bars
├── UpgradeRequired (426)    a WebSocket is spoken here, not plain HTTP
├── TooManySymbols (429)     no room for the state of another symbol
├── RateLimited (429)        this client sent too many requests
├── NotReady (503)           no model is loaded yet
└── Overloaded (503)         too many requests at once
"""

from core.errors import BellwetherError


class ServingError(BellwetherError):
    """Base of the tree: something the service itself got wrong."""

    status = 500
    retry_after = 1


class BadRequest(ServingError):
    """The body is not what the protocol says."""

    status = 400


class Unauthorized(ServingError):
    """The token is missing or wrong."""

    status = 401


class NotFound(ServingError):
    """No such path, model, version or symbol."""

    status = 404


class MethodNotAllowed(ServingError):
    """The path exists, the method does not."""

    status = 405


class BodyTimeout(ServingError):
    """The body did not arrive in time."""

    status = 408


class StaleBar(ServingError):
    """A bar that is not newer than the last one of its symbol; nothing was changed."""

    status = 409


class BodyTooLarge(ServingError):
    """The body is over the limit."""

    status = 413


class UnsupportedMedia(ServingError):
    """A body in a form that is not read here."""

    status = 415


class UpgradeRequired(ServingError):
    """A WebSocket is spoken here, not plain HTTP."""

    status = 426


class BarRefused(ServingError):
    """A bar that breaks a rule of bars; nothing was changed."""

    status = 422


class TooManySymbols(ServingError):
    """There is no room for the state of another symbol."""

    status = 429


class NotReady(ServingError):
    """No model is loaded yet."""

    status = 503


class RateLimited(ServingError):
    """This client sent too many requests; `retry_after` is in seconds."""

    status = 429

    def __init__(self, message: str, retry_after: int) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class Overloaded(ServingError):
    """Too many requests at once, or too many bytes of them."""

    status = 503


class TooManyStreams(ServingError):
    """As many streams are open as may be."""

    status = 503
