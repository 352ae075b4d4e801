"""The errors of the native API: one class for each stable code, all of them ``MyelinError``."""

__all__ = ["MyelinError", "by_code", "problem"]


class MyelinError(Exception):
    """The server refused, or what it ran failed.

    ``code``: stable, for programs. ``detail``: what is wrong and what to do. ``status``: the HTTP status, None without an answer.
    ``line``, ``stdout``, ``class_name``, ``text``, ``traceback``: of a script that failed, else None, "", None, None, [].
    ``retry_after``: seconds, where trying again can help.
    """

    code = "error"

    def __init__(self, detail, code=None, status=None, problem=None, retry_after=None):
        problem = problem or {}
        super().__init__(detail)
        self.detail, self.status, self.retry_after = detail, status, retry_after
        self.code = code or type(self).code
        self.line = problem.get("line")
        self.stdout = problem.get("stdout") or ""
        self.class_name = problem.get("class")
        self.text = problem.get("text")
        self.traceback = problem.get("traceback") or []
        self.problem = problem

    def __reduce__(self):
        return type(self), (self.detail, self.code, self.status, self.problem, self.retry_after)


class BadRequestError(MyelinError):
    """The request can't be understood."""


class InvalidError(MyelinError):
    """Values in the request are wrong; ``errors``: a list of dicts with ``field`` and ``message``."""

    @property
    def errors(self):
        return self.problem.get("errors") or []


class BrokenError(MyelinError):
    """The package of the function can't be read; ``text`` and ``line`` say why, ``problem["file"]`` where."""


class UnauthorizedError(MyelinError):
    """No token, or not a valid one."""


class ForbiddenError(MyelinError):
    """Not allowed for this user, or on this server."""


class NotFoundError(MyelinError):
    """There is no such session, run, file, engine or route."""


class MethodNotAllowedError(MyelinError):
    """The route has no such method."""


class ConflictError(MyelinError):
    """Not in this state: nothing runs, a name is taken, a session can't branch."""


class GoneError(MyelinError):
    """The session has ended; ``detail`` says why."""


class TooLargeError(MyelinError):
    """Above a limit on size."""


class UnsupportedMediaTypeError(MyelinError):
    """The body has another type than the route takes."""


class CallFailedError(MyelinError):
    """The script or the function raised; ``class_name``, ``text``, ``line``, ``stdout`` say what, where, and what it had printed."""


class CallInterruptedError(CallFailedError):
    """The call was interrupted on request."""


class DeadlineError(MyelinError):
    """The call outlived its deadline."""


class TooManyError(MyelinError):
    """A queue or a number is at its limit; try again after ``retry_after`` seconds."""


class UnavailableError(MyelinError):
    """The server is stopping, or lacks something now; try again after ``retry_after`` seconds."""


class QuotaError(MyelinError):
    """A quota or the disk is full."""


class InternalError(MyelinError):
    """The server has a fault."""


class UnreachableError(MyelinError):
    """There was no answer, or none of a Myelin server."""


by_code = {
    "bad_request": BadRequestError, "invalid": InvalidError, "broken": BrokenError, "unauthorized": UnauthorizedError, "forbidden": ForbiddenError, "misdirected": ForbiddenError,
    "not_found": NotFoundError, "method_not_allowed": MethodNotAllowedError, "conflict": ConflictError, "gone": GoneError,
    "worker_lost": GoneError, "too_large": TooLargeError, "header_too_large": TooLargeError,
    "unsupported_media_type": UnsupportedMediaTypeError, "call_failed": CallFailedError, "interrupted": CallInterruptedError,
    "deadline": DeadlineError, "timeout": DeadlineError, "too_many": TooManyError, "unavailable": UnavailableError,
    "quota": QuotaError, "insufficient_storage": QuotaError, "internal": InternalError, "unreachable": UnreachableError,
}
for _code, _kind in by_code.items():
    if "code" not in _kind.__dict__:
        _kind.code = _code
_by_status = {400: "bad_request", 401: "unauthorized", 403: "forbidden", 404: "not_found", 405: "method_not_allowed", 409: "conflict",
              410: "gone", 413: "too_large", 415: "unsupported_media_type", 422: "call_failed", 429: "too_many", 503: "unavailable",
              507: "quota"}
__all__ += sorted({kind.__name__ for kind in by_code.values()})


def problem(content, status=None, retry_after=None):
    """The exception for a problem+json object; anything else becomes one by its status."""
    if not isinstance(content, dict):
        content = {"detail": str(content).strip() or "HTTP status %s" % status}
    status = content.get("status", status)
    code = content.get("code") or _by_status.get(status, "internal")
    kind = by_code.get(code, MyelinError)
    if kind is CallFailedError and content.get("class") == "KeyboardInterrupt":
        kind = CallInterruptedError
    detail = content.get("detail") or content.get("title") or code
    return kind(str(detail), code, status, content, retry_after)
