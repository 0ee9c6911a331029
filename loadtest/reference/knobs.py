"""Knobs that make the reference target misbehave; set at its start, never by a client."""

import argparse
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, get_type_hints

from loadtest.errors import UsageError

Sampler = Callable[[random.Random], float]


def _knob(default: Any, text: str, choices: tuple[str, ...] = ()) -> Any:
    return field(default=default, metadata={"help": text, "choices": choices})


@dataclass(frozen=True)
class Knobs:
    """How the target deviates from a fast and correct server; the defaults do not deviate.

    Shares are probabilities from 0 to 1, drawn from one generator seeded with `seed`. Raises
    `UsageError` for a value outside its range.
    """

    seed: int = _knob(1, "seed of every random draw")
    tool_latency: str = _knob(
        "none",
        "added to each tool call, in ms: none | constant:MS | bimodal:FAST,SLOW,SLOW_SHARE"
        " | heavy:MEDIAN,SIGMA (log-normal)",
    )
    crowd_latency: str = _knob(
        "none",
        "added to each tool call for each open session above a number, in ms: none | NUMBER,MS",
    )
    tool_workers: int = _knob(
        0, "how many tool calls run at the same time; others wait in a queue (0: no limit)"
    )
    stall_seconds: float = _knob(0.0, "length of a stall, during which no MCP request is answered")
    stall_at_seconds: float = _knob(0.0, "start of the first stall, counted from the first request")
    stall_every_seconds: float = _knob(0.0, "period of further stalls (0: only one)")
    error_share: float = _knob(0.0, "share of tool calls answered with internal_error")
    drop_share: float = _knob(
        0.0, "share of session POSTs whose connection closes during the answer"
    )
    session_cap: int = _knob(100, "maximum of open MCP sessions; the next one gets 503")
    cap_refusal: str = _knob(
        "atlas",
        "how a session above the cap is refused: 503 with too_many_sessions (atlas); 503 with a"
        " JSON-RPC error (sdk); 429 with a JSON-RPC error (http-429); 503 with only Retry-After"
        " (retry-after); a JSON-RPC error inside 200 (inside-200); it opens, but its tool calls"
        " fail (tool-error); 529 with a header and a text of its own (own)",
        ("atlas", "sdk", "http-429", "retry-after", "inside-200", "tool-error", "own"),
    )
    replicas: int = _knob(
        1, "number of replicas that share no sessions; each request goes to one of them at random"
    )
    balancing: str = _knob(
        "request",
        "what is sent to a replica: each request by itself, or all requests of a connection",
        ("request", "connection"),
    )
    restart_at_seconds: float = _knob(
        0.0, "forget all sessions once, this long after the first request (0: never)"
    )
    session_age_seconds: float = _knob(0.0, "end a session this long after it opened (0: never)")
    lost_session: str = _knob(
        "404",
        "the answer to an unknown session: 404, or as other SDKs did, 400 or 401 with a text, or a"
        " JSON-RPC error inside 200",
        ("404", "400", "401", "200"),
    )
    session_idle_seconds: float = _knob(0.0, "end a session idle for this long (0: never)")
    reply_padding: int = _knob(0, "bytes that are added to the reply of each tool call")
    reply_pauses: int = _knob(
        0, "the reply of each tool call comes in pieces, with this many pauses between them"
    )
    reply_pause_seconds: float = _knob(0.1, "length of each of these pauses")
    keep_alive_seconds: float = _knob(
        15.0, "silence before a keep-alive comment on a reply or a stream"
    )
    streams: bool = _knob(
        True, "a session can hold a stream open; without it, GET is answered with 405"
    )
    stream_cap: int = _knob(0, "maximum of open streams (0: no limit)")
    stream_refusal: str = _knob(
        "503",
        "how a stream above the cap is refused: 503 with too_many_streams, or a JSON-RPC error"
        " inside 200",
        ("503", "inside-200"),
    )
    stream_seconds: float = _knob(0.0, "drop a stream this long after it opened (0: never)")
    streams_stay: bool = _knob(
        False, "a stream stays open after DELETE, until its client closes it"
    )
    deletes: bool = _knob(True, "DELETE ends a session; without it, DELETE is answered with 405")
    leaked_session_share: float = _knob(
        0.0, "share of DELETE requests that are answered with 200, but end no session"
    )
    leaked_stream_share: float = _knob(
        0.0, "share of streams that keep their place under the cap after they have ended"
    )
    leaked_kib: int = _knob(
        0, "KiB that each deleted session leaves behind, and that every later request reads"
    )
    access_token_seconds: int = _knob(3600, "life of an access token")
    deny_consent: bool = _knob(False, "answer every consent with access_denied")
    wrong_issuer: str = _knob(
        "nowhere", "where another issuer is named", ("nowhere", "response", "token")
    )
    key_rotation: str = _knob(
        "never",
        "sign each access token with a new key; kept: older keys stay in the JWKS;"
        " dropped: they are removed, and their bearers stop working",
        ("never", "kept", "dropped"),
    )
    challenge: str = _knob(
        "resource-metadata",
        "what a 401 of the MCP edge contains: the metadata's URL, nothing (bare Bearer),"
        " or the metadata's URL and the scope",
        ("resource-metadata", "bare", "scope"),
    )
    first_challenge: str = _knob(
        "initialize",
        "the first MCP request that needs a bearer: initialize and all others, tools/list and"
        " tools/call, only tools/call, or none",
        ("initialize", "tools/list", "tools/call", "never"),
    )
    required_header: str = _knob(
        "", "NAME=VALUE that every request to the API must have, as on a protected preview host"
    )
    api_key: str = _knob("", "NAME=VALUE: the header that MCP requests need, in place of a bearer")
    tls_certificate: str = _knob("", "a PEM file with certificate and key: serve https")
    client_authority: str = _knob(
        "", "a PEM file: with https, clients need a certificate of this authority"
    )
    resource_metadata: str = _knob(
        "path",
        "where protected resource metadata are served: below the MCP path; at the root, with the"
        " origin as resource; nowhere (MCP 2025-03-26), without resource indicators",
        ("path", "root", "nowhere"),
    )
    resource_mismatch: str = _knob(
        "none",
        "the resource metadata names another host, or only a prefix of the endpoint's path",
        ("none", "host", "path"),
    )
    issuer_path: bool = _knob(True, "an issuer with the path /api/auth, else only the origin")
    server_metadata: str = _knob(
        "both",
        "authorization server metadata: RFC 8414 inserted and OpenID appended (both), only one"
        " form, or nowhere: /authorize, /token and /register at the origin instead",
        ("both", "inserted", "openid-appended", "openid-inserted", "nowhere"),
    )
    iss_parameter: str = _knob(
        "promised",
        "iss in authorization responses: promised in the metadata and sent, promised but not sent,"
        " sent but not promised, or neither",
        ("promised", "withheld", "unpromised", "absent"),
    )
    s256: str = _knob(
        "listed",
        "PKCE methods in the metadata: S256, only plain, or none listed",
        ("listed", "plain", "absent"),
    )
    grant_types: str = _knob(
        "all",
        "grant types in the metadata and at the endpoints: all, or only client credentials",
        ("all", "client_credentials"),
    )
    registration: str = _knob("open", "dynamic client registration", ("open", "closed"))
    registration_auth: str = _knob(
        "as-asked",
        "the token endpoint authentication that registration assigns, with a secret if needed",
        ("as-asked", "client_secret_basic", "client_secret_post"),
    )
    redirect_ports: str = _knob(
        "any",
        "ports of a loopback redirect URI: any (RFC 8252), or only the registered one",
        ("any", "registered"),
    )
    registration_management: bool = _knob(
        False, "registered clients may read and delete themselves (RFC 7592)"
    )
    client_metadata_documents: bool = _knob(
        False, "a loopback URL as client_id is fetched and describes the client"
    )
    granted_scope: str = _knob("", "grant only these scopes, separated by spaces (empty: all)")
    step_up: str = _knob(
        "never",
        "the MCP edge answers 403 insufficient_scope with a challenge: once (until a bearer also"
        " has mcp:write), or always",
        ("never", "once", "always"),
    )
    token_replies: str = _knob(
        "right",
        "the answer to a successful token request",
        ("right", "garbage", "html", "no-access-token", "dpop"),
    )
    token_delay_seconds: float = _knob(0.0, "time each token request takes")
    token_rate_limited: int = _knob(
        0,
        "how many first requests for a token, a registration, a revocation and a sign-in each get"
        " 429",
    )
    authorize_rate_limited: int = _knob(
        0, "how many first authorization requests get 429, which browsers do not show as a page"
    )
    retry_after: str = _knob(
        "missing",
        "Retry-After of those 429s: missing, nonsense, a day (huge), or a second (right)",
        ("missing", "nonsense", "huge", "right"),
    )
    refresh: str = _knob(
        "rotates",
        "a refresh token is replaced at each use, is kept, or is always refused",
        ("rotates", "kept", "refused"),
    )
    revoked_bearers: str = _knob(
        "accepted",
        "a revoked access token is accepted until it expires, or refused by the MCP edge",
        ("accepted", "refused"),
    )
    clock_skew_seconds: int = _knob(0, "how far the server's clock is ahead (below 0: behind)")
    edge_refusal: str = _knob(
        "none",
        "refuse every MCP request with this code",
        ("none", "misdirected_request", "auth_unavailable", "region_unavailable"),
    )
    self_mint: str = _knob(
        "allowed", "the self-mint endpoint", ("allowed", "not-allowlisted", "no-jwks")
    )
    account_limits: bool = _knob(True, "rate limits per IP and minute on accounts and OAuth")
    second_factor: str = _knob(
        "optional",
        "what /api/v1/admin requires of an owner: a session, or an enrolled authenticator app",
        ("optional", "required"),
    )
    email_verification: bool = _knob(
        False, "a user must open a link in a mail before the first sign-in"
    )
    sign_up_captcha: bool = _knob(False, "sign-up asks for a captcha that only a person can solve")
    quota_refusal: str = _knob(
        "atlas",
        "how a call above the quota is refused: a tool error with a code (atlas), HTTP 429"
        " (http-429), a JSON-RPC error inside 200 (inside-200), or 403 with no request left (403)",
        ("atlas", "http-429", "inside-200", "403"),
    )
    rate_limit_headers: str = _knob(
        "none",
        "headers about the quota on every answer: none; RateLimit-Policy and RateLimit of the IETF"
        " draft; RateLimit-Limit, -Remaining and -Reset of its earlier versions (fields); the same"
        " with X- before them (x-fields)",
        ("none", "ietf", "fields", "x-fields"),
    )
    trace_headers: bool = _knob(
        False, "answers to MCP requests have Server-Timing, with the total, and x-request-id"
    )
    tool_quota: bool = _knob(True, "a quota of weighted units per minute, workspace and client")
    quota_units: int = _knob(60, "the quota in units per minute, unless an owner raised it")
    asks: str = _knob(
        "nothing",
        "what runMetric asks of its client before it answers",
        ("nothing", "elicitation", "sampling", "roots"),
    )
    asking_streams: str = _knob(
        "closed",
        "handshake era: the stream with the question is closed and can be resumed, or stays open",
        ("closed", "open"),
    )
    result_cache_seconds: float = _knob(
        0.0,
        "how long executeSQL answers the same statement from a cache (0: never)",
    )
    race_share: float = _knob(0.0, "share of sign-ins that land on / instead of consent")
    tour: bool = _knob(True, "cover / with the overlay of the tour")
    page_delay_ms: int = _knob(0, "delay of the sign-in and consent pages")
    eras: str = _knob(
        "handshake", "protocol eras that are supported", ("handshake", "stateless", "both")
    )

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        for spec in fields(self):
            value = getattr(self, spec.name)
            flag = flag_name(spec.name)
            choices = spec.metadata["choices"]
            if choices and value not in choices:
                raise UsageError(f"{flag} must be one of {', '.join(choices)}, not {value!r}")
            if spec.name.endswith("_share") and not 0 <= value <= 1:
                raise UsageError(f"{flag} must be a share from 0 to 1, not {value}")
            if isinstance(value, float) and not (math.isfinite(value) and value >= 0):
                raise UsageError(f"{flag} must be a finite number of at least 0, not {value}")
        above_0 = ("session_cap", "quota_units", "access_token_seconds", "keep_alive_seconds")
        for name in (*above_0, "replicas"):
            if getattr(self, name) <= 0:
                raise UsageError(f"{flag_name(name)} must be above 0, not {getattr(self, name)}")
        for name in (
            *("tool_workers", "page_delay_ms", "token_rate_limited", "authorize_rate_limited"),
            *("reply_padding", "reply_pauses", "stream_cap", "leaked_kib"),
        ):
            if getattr(self, name) < 0:
                message = f"{flag_name(name)} must be at least 0, not {getattr(self, name)}"
                raise UsageError(message)
        for name in ("required_header", "api_key"):
            if getattr(self, name) and not all(split_header(getattr(self, name))):
                raise UsageError(f"{flag_name(name)} must be NAME=VALUE")
        parse_latency(self.tool_latency)
        parse_crowd(self.crowd_latency)

    @property
    def default_endpoints(self) -> bool:
        """Return whether a client finds no metadata and uses the default endpoints.

        Without resource metadata, it looks for RFC 8414 metadata only at the MCP server's origin
        (MCP 2025-03-26, authorization, section 2.3.3).
        """
        if self.server_metadata == "nowhere":
            return True
        at_origin = not self.issuer_path and self.server_metadata in ("both", "inserted")
        return self.resource_metadata == "nowhere" and not at_origin


def split_header(text: str) -> tuple[str, str]:
    """Return name and value of a knob that is a header."""
    name, _, value = text.partition("=")
    return name, value


def flag_name(knob: str) -> str:
    """Return the command-line flag of a knob."""
    return "--" + knob.replace("_", "-")


def parse_latency(text: str) -> Sampler | None:
    """Return a function that draws seconds for a latency knob; None if nothing is added."""
    kind, _, rest = text.partition(":")
    try:
        numbers = [float(part) for part in rest.split(",")] if rest else []
    except ValueError:
        numbers = [-1.0]
    usable = all(math.isfinite(number) and number >= 0 for number in numbers)
    match kind, numbers:
        case "none", []:
            return None
        case "constant", [fixed] if usable:
            return lambda _rng: fixed / 1000
        case "bimodal", [fast, slow, share] if usable and share <= 1:
            return lambda rng: (slow if rng.random() < share else fast) / 1000
        case "heavy", [median, sigma] if usable and median > 0:
            return lambda rng: rng.lognormvariate(math.log(median / 1000), sigma)
    raise UsageError(
        f"--tool-latency must be none, constant:MS, bimodal:FAST,SLOW,SLOW_SHARE or"
        f" heavy:MEDIAN,SIGMA, not {text!r}"
    )


def parse_crowd(text: str) -> tuple[int, float] | None:
    """Return the number of sessions of a crowd knob and the seconds for each one above; or None."""
    if text == "none":
        return None
    number, _, ms = text.partition(",")
    try:
        found = int(number), float(ms) / 1000
    except ValueError:
        found = -1, 0.0
    if found[0] < 0 or not (math.isfinite(found[1]) and found[1] >= 0):
        raise UsageError(f"--crowd-latency must be none or NUMBER,MS, not {text!r}")
    return found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add one flag per knob to the parser."""
    kinds = get_type_hints(Knobs)
    for spec in fields(Knobs):
        options: dict[str, Any] = {"default": spec.default, "help": spec.metadata["help"]}
        if kinds[spec.name] is bool:
            options["action"] = argparse.BooleanOptionalAction
        else:
            options["type"] = kinds[spec.name]
            options["choices"] = spec.metadata["choices"] or None
            options["metavar"] = None if options["choices"] else kinds[spec.name].__name__.upper()
            options["help"] += " (default: %(default)s)"
        parser.add_argument(flag_name(spec.name), **options)


def read_arguments(namespace: argparse.Namespace) -> Knobs:
    """Return the knobs from the arguments that `add_arguments` defined."""
    return Knobs(**{spec.name: getattr(namespace, spec.name) for spec in fields(Knobs)})
