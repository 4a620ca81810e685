"""What the service answers when it cannot answer; each error owns its HTTP status.

ServingError (500)
├── BadRequest (400)         the body is not what the protocol says
├── Unauthorized (401)       the token is missing or wrong
├── NotFound (404)           no such path, model, version or symbol
├── MethodNotAllowed (405)   the path exists, the method does not
├── BodyTimeout (408)        the body did not arrive in time
├── StaleBar (409)           a bar that is not newer than the last one of its symbol
├── BodyTooLarge (413)       the body is over the limit
├── BarRefused (422)         a bar that breaks a rule of bars
├── TooManySymbols (429)     no room for the state of another symbol
└── NotReady (503)           no model is loaded yet
"""

from core.errors import BellwetherError


class ServingError(BellwetherError):
    """Base of the tree: something the service itself got wrong."""

    status = 500


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


class BarRefused(ServingError):
    """A bar that breaks a rule of bars; nothing was changed."""

    status = 422


class TooManySymbols(ServingError):
    """There is no room for the state of another symbol."""

    status = 429


class NotReady(ServingError):
    """No model is loaded yet."""

    status = 503
