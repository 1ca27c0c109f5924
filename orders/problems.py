"""One shape for every refusal: RFC 9457 problem details, over HTTP and in `error` frames."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import psycopg
import structlog
from django.conf import settings
from django.core.exceptions import DisallowedHost, PermissionDenied, TooManyFieldsSent
from django.db import DataError, IntegrityError, InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.views import csrf
from django.views.decorators.csrf import csrf_exempt
from rest_framework import exceptions
from rest_framework.response import Response

from orders import requestid

log = structlog.get_logger(__name__)

CONTENT_TYPE = "application/problem+json"
DATABASE_AWAY = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    OperationalError,
    InterfaceError,
)
LONGEST_TEXT = 500
MOST_ERRORS = 200
MOST_IN_FRAME = 5  # with the texts clipped: a frame may not be longer than 64 KiB
# The code of a refusal that DRF or Django raises, by its status.
CODES = {
    400: "VALIDATION",
    401: "NOT_AUTHENTICATED",
    403: "FORBIDDEN",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    413: "TOO_LARGE",
    415: "UNSUPPORTED_MEDIA_TYPE",
    429: "TOO_MANY_REQUESTS",
}


@dataclass(frozen=True, kw_only=True)
class FieldError:
    """`pointer` (RFC 6901) is the place in the request's body, or in the frame."""

    pointer: str
    code: str
    detail: str


@dataclass(kw_only=True)
class Problem(Exception):
    """A refusal. Raise it anywhere below a view or a consumer."""

    status: int
    code: str
    detail: str
    errors: list[FieldError] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {
            "type": f"urn:orderengine:problem:{self.code.lower().replace('_', '-')}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "code": self.code,
            "detail": clipped(self.detail),
            "requestId": requestid.current(),
            "errors": [
                {name: clipped(text) for name, text in vars(error).items()}
                for error in self.errors[:MOST_ERRORS]
            ],
        }

    def as_frame(self) -> dict[str, Any]:
        shown = self.as_json()
        frame = {**shown, "type": "error", "errors": shown["errors"][:MOST_IN_FRAME]}
        again = self.headers.get("Retry-After")
        return frame if again is None else {**frame, "retryAfter": int(again)}


def clipped(text: str) -> str:
    """What a client sent is repeated to it in part."""
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}…"


def exception_handler(error: Exception, context: dict[str, Any]) -> Response:
    """DRF's hook: every exception of an API view becomes a problem."""
    problem = problem_of(error)
    return Response(
        problem.as_json(),
        status=problem.status,
        headers=problem.headers,
        content_type=CONTENT_TYPE,
    )


def problem_of(error: BaseException) -> Problem:
    """The problem an exception means to a client; what is nobody's fault but ours is logged."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, exceptions.APIException):
        return of_api_exception(error)
    if isinstance(error, Http404 | PermissionDenied):
        status = 404 if isinstance(error, Http404) else 403
        return Problem(
            status=status, code=CODES[status], detail=str(error) or f"{HTTPStatus(status).phrase}."
        )
    if isinstance(error, DATABASE_AWAY):
        log.warning("database.away", error=str(error).strip())
        return Problem(
            status=503,
            code="DATABASE_UNAVAILABLE",
            detail="The order store does not answer: ask again. Whether it stored an order that "
            "was placed is not known: repeat that with the same clientOrderId; without one, look "
            "at GET /api/orders before placing again.",
            headers={"Retry-After": "2"},
        )
    if problem := unreadable(error) or of_nobody(error):
        return problem
    log.error("request.bug", exc_info=error)
    return fault()


def unreadable(error: BaseException) -> Problem | None:
    """What a request has that nobody could take."""
    if is_unstorable_text(error):
        detail = "The request has a character that cannot be stored."
        return Problem(status=400, code="VALIDATION", detail=detail)
    if isinstance(error, TooManyFieldsSent):
        most = settings.DATA_UPLOAD_MAX_NUMBER_FIELDS
        detail = f"The address has more than {most} parameters."
        return Problem(status=400, code="BAD_REQUEST", detail=detail)
    return None


def not_authenticated(detail: str) -> Problem:
    headers = {"WWW-Authenticate": "Bearer"}
    return Problem(status=401, code="NOT_AUTHENTICATED", detail=detail, headers=headers)


def of_nobody(error: BaseException) -> Problem | None:
    """Something was to be stored of a user or a key that is there no more."""
    cause = error.__cause__ if isinstance(error, IntegrityError) else error
    if not isinstance(cause, psycopg.errors.ForeignKeyViolation):
        return None
    of = cause.diag.constraint_name or ""
    if "owner_id" not in of and "key_id" not in of:
        return None
    return not_authenticated("The user or the API key was deleted.")


def is_unstorable_text(error: BaseException) -> bool:
    """A NUL: the driver refuses it. What PostgreSQL itself refuses has a sqlstate."""
    cause = error.__cause__ if isinstance(error, DataError) else error
    return isinstance(cause, psycopg.DataError) and cause.sqlstate is None


def of_api_exception(error: exceptions.APIException) -> Problem:
    if isinstance(error, exceptions.ValidationError):
        return invalid(error)
    headers: dict[str, str] = {}
    if header := getattr(error, "auth_header", None):
        headers["WWW-Authenticate"] = header
    if wait := getattr(error, "wait", None):
        headers["Retry-After"] = str(int(wait) + 1)
    status = error.status_code
    return Problem(
        status=status, code=CODES.get(status, "ERROR"), detail=str(error.detail), headers=headers
    )


def invalid(error: exceptions.ValidationError, at: str = "") -> Problem:
    """`at` is the pointer to what was validated."""
    errors = list(field_errors(error.get_full_details(), at))
    return Problem(
        status=400,
        code="VALIDATION",
        detail="; ".join(f"{e.pointer or 'body'}: {e.detail}" for e in errors[:3]),
        errors=errors,
    )


def field_errors(details: Any, pointer: str) -> Iterator[FieldError]:
    """DRF's nested error details, flattened."""
    if isinstance(details, list):
        indexed = any(isinstance(d, dict) and not is_sentence(d) for d in details)
        for index, detail in enumerate(details):
            yield from field_errors(detail, f"{pointer}/{index}" if indexed else pointer)
    elif is_sentence(details):
        yield FieldError(pointer=pointer, code=details["code"], detail=str(details["message"]))
    else:
        for name, detail in details.items():
            of_all = name == "non_field_errors" and not is_unknown_field(detail)
            place = pointer if of_all else f"{pointer}/{escape(str(name))}"
            yield from field_errors(detail, place)


def is_unknown_field(details: Any) -> bool:
    """What a client sent may have the name that DRF gives to errors of no field."""
    return isinstance(details, list) and details[0].get("code") == "unknown_field"


def is_sentence(details: dict[str, Any]) -> bool:
    """Not the errors of fields that a client named `message` and `code`."""
    return set(details) == {"message", "code"} and isinstance(details["message"], str)


def escape(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def response(problem: Problem) -> HttpResponse:
    return JsonResponse(
        problem.as_json(),
        status=problem.status,
        content_type=CONTENT_TYPE,
        headers=problem.headers,
    )


def bad_request(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    detail = "The request is malformed."
    if isinstance(exception, DisallowedHost):
        detail = "The Host header has none of the names that this API is served under."
    return response(Problem(status=400, code="BAD_REQUEST", detail=detail))


def forbidden(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    detail = str(exception or "") or "Whoever is signed in may not do this."
    return response(Problem(status=403, code="FORBIDDEN", detail=detail))


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Of pages: whoever can show one gets Django's."""
    if "text/html" in request.headers.get("Accept", ""):
        return csrf.csrf_failure(request, reason)
    return response(Problem(status=403, code="FORBIDDEN", detail=f"CSRF Failed: {reason}"))


@csrf_exempt
def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return response(Problem(status=404, code="NOT_FOUND", detail=f"There is no {request.path}."))


def server_error(request: HttpRequest) -> HttpResponse:
    """Of pages; Django calls it while it handles the error, and logs it."""
    error = sys.exc_info()[1]
    if error is not None and (isinstance(error, DATABASE_AWAY) or unreadable(error)):
        return response(problem_of(error))
    return response(fault())


def fault() -> Problem:
    return Problem(status=500, code="INTERNAL", detail="A fault of the engine; it was logged.")
