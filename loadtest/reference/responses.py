"""Responses that several parts send: errors in three formats, identifiers and times."""

import secrets
import time
from typing import Any

from starlette.responses import JSONResponse, Response

NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}


class Refusal(Exception):  # noqa: N818 - an answer, not a failure
    """The request is refused with `response`."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status_code)
        self.response = response


def account_error(status: int, code: str, message: str) -> JSONResponse:
    """Return an error in the format of the accounts."""
    return JSONResponse({"message": message, "code": code}, status)


def oauth_error(status: int, error: str, description: str) -> JSONResponse:
    """Return an error in the format of the OAuth endpoints (RFC 6749, section 5.2)."""
    body = {"error": error, "error_description": description}
    return JSONResponse(body, status, headers=NO_STORE)


def rest_error(status: int, error: str, message: str, **extra: str) -> JSONResponse:
    """Return an error in the format of the REST routes and the MCP edge."""
    body = {"error": error, "message": message, "requestId": new_id(), **extra}
    return JSONResponse(body, status)


def validation_error(failure: Any) -> JSONResponse:
    """Return a pydantic failure in the format of the accounts; name fields, never their values."""
    first = failure.errors(include_input=False, include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "body"
    return account_error(400, "VALIDATION_ERROR", f"[body.{where}] {first['msg']}")


def new_id() -> str:
    """Return a new random identifier of 24 characters."""
    return secrets.token_urlsafe(18)


def iso_time(epoch_seconds: float) -> str:
    """Return a time as ISO 8601 in UTC, with milliseconds."""
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(epoch_seconds))
    return f"{whole}.{int(epoch_seconds * 1000) % 1000:03d}Z"
