"""How other servers refuse a session, a call or an unknown session; knobs choose the form."""

from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse, Response

from loadtest.reference.responses import rest_error

# What is sent when the request's id is not known.
_NO_ID = None


def rpc_error(status: int, code: int, message: str, request_id: Any = _NO_ID) -> Response:
    """Return a JSON-RPC error with any HTTP status."""
    error = {"code": code, "message": message}
    return JSONResponse({"jsonrpc": "2.0", "id": request_id, "error": error}, status)


def build_cap_refusal(style: str, request_id: Any = _NO_ID) -> Response:
    """Return the refusal of a session above the cap, by the knob `cap_refusal`."""
    match style:
        case "sdk":
            return rpc_error(503, -32603, "Too many open sessions")
        case "http-429":
            return rpc_error(
                429, -32000, "Session limit reached. Please wait for existing sessions to expire."
            )
        case "retry-after":
            return Response("Service Unavailable", 503, {"Retry-After": "1"})
        case "inside-200":
            return rpc_error(200, -32000, "Maximum sessions reached", request_id)
        case "tool-error":
            return _tool_error("Too many active sessions on this instance", request_id)
        case "own":
            return Response("come back later", 529, {"X-Pool": "exhausted"})
    return rest_error(503, "too_many_sessions", "the cap on open sessions is reached")


def build_stream_refusal(style: str, request_id: Any = _NO_ID) -> Response:
    """Return the refusal of a stream above the cap, by the knob `stream_refusal`."""
    if style == "inside-200":
        return rpc_error(200, -32000, "Maximum number of streams reached", request_id)
    return rest_error(503, "too_many_streams", "the cap on open streams is reached")


def build_quota_refusal(style: str, request_id: Any) -> Response:
    """Return the refusal of a call above the quota, by the knob `quota_refusal`."""
    match style:
        case "http-429":
            return Response("Too Many Requests", 429, {"Retry-After": "1"})
        case "inside-200":
            message = "Rate limit exceeded for client: global. Retry after 1.00 seconds."
            return rpc_error(200, -32000, message, request_id)
    headers = {"X-RateLimit-Limit": "60", "X-RateLimit-Remaining": "0"}
    return JSONResponse({"message": "API rate limit exceeded"}, 403, headers)


def build_unknown_session(style: str, request_id: Any = _NO_ID) -> Response:
    """Return the answer to a session that is not known, by the knob `lost_session`."""
    match style:
        case "400":
            return rpc_error(400, -32000, "Bad Request: No valid session ID provided")
        case "401":
            return Response("Unauthorized: Session not found", 401)
        case "200":
            return rpc_error(200, -32600, "Session not found", request_id)
    return rest_error(404, "unknown_session", "no such session; initialize again")


def build_rate_limit_headers(style: str, units: int) -> Mapping[str, str]:
    """Return the headers of a quota of `units` a minute, by the knob `rate_limit_headers`."""
    if style == "ietf":
        return {
            "RateLimit-Policy": f'"minute";q={units};w=60',
            "RateLimit": f'"minute";r={units};t=60',
        }
    start = {"fields": "RateLimit", "x-fields": "X-RateLimit"}.get(style)
    figures = {"Limit": units, "Remaining": units, "Reset": 60}
    return {f"{start}-{name}": str(figure) for name, figure in figures.items()} if start else {}


def _tool_error(text: str, request_id: Any) -> Response:
    result = {"content": [{"type": "text", "text": text}], "isError": True}
    return JSONResponse({"jsonrpc": "2.0", "id": request_id, "result": result})
