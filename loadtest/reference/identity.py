"""Find the signed-in user by a session token, as bearer or cookie; read request bodies."""

from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel
from sqlalchemy import select
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from loadtest.reference.accounts import Member, SignIn, User
from loadtest.reference.deployment import Deployment
from loadtest.reference.responses import Refusal, account_error, validation_error
from loadtest.reference.tokens import hash_secret, new_secret

COOKIE = "better-auth.session_token"
CHALLENGE_COOKIE = "better-auth.two_factor"
SIGN_IN_SECONDS = 7 * 86400


class Body(BaseModel):
    """A JSON body; unknown members are ignored, and types are not converted."""

    model_config = ConfigDict(strict=True)


class CamelBody(Body):
    """A JSON body whose members are in camelCase."""

    model_config = ConfigDict(strict=True, alias_generator=to_camel)


AnyBody = TypeVar("AnyBody", bound=Body)


@dataclass(frozen=True)
class Identity:
    """A signed-in user, and whether the request has only a cookie."""

    sign_in: SignIn
    user: User
    by_cookie: bool


async def read_body(request: Request, kind: type[AnyBody]) -> AnyBody:
    """Return the JSON body as `kind`; refuse anything else in the accounts' error format."""
    try:
        return kind.model_validate_json(await request.body())
    except ValidationError as failure:
        raise Refusal(validation_error(failure)) from None


def find_identity(deployment: Deployment, connection: HTTPConnection) -> Identity | None:
    """Return the user of the request's session token; a bearer wins over a cookie."""
    kind, _, bearer = connection.headers.get("authorization", "").partition(" ")
    by_cookie = kind.lower() != "bearer"
    token = connection.cookies.get(COOKIE, "") if by_cookie else bearer
    if not token:
        return None
    with deployment.store.begin() as db:
        query = select(SignIn).where(SignIn.token_hash == hash_secret(token))
        sign_in = db.scalars(query).one_or_none()
        if sign_in is None or deployment.clock() >= sign_in.expires_at:
            return None
        return Identity(sign_in, db.get_one(User, sign_in.user_id), by_cookie)


def require_identity(deployment: Deployment, request: Request) -> Identity:
    """Return the user as `find_identity`; refuse a request without one."""
    found = find_identity(deployment, request)
    if found is None:
        raise Refusal(account_error(401, "UNAUTHORIZED", "Unauthorized"))
    return found


def start_sign_in(deployment: Deployment, user: User) -> tuple[str, Identity]:
    """Sign `user` in and make the first workspace active; return the token and the identity."""
    token = new_secret()
    now = deployment.clock()
    with deployment.store.begin() as db:
        query = select(Member.workspace_id).where(Member.user_id == user.id).limit(1)
        sign_in = SignIn(
            token_hash=hash_secret(token),
            user_id=user.id,
            workspace_id=db.scalars(query).first(),
            created_at=now,
            expires_at=now + SIGN_IN_SECONDS,
        )
        db.add(sign_in)
    return token, Identity(sign_in, user, by_cookie=False)


def set_cookie(response: Response, token: str) -> None:
    """Set the session cookie, which all ports of the host share (RFC 6265, section 8.5)."""
    response.set_cookie(COOKIE, token, SIGN_IN_SECONDS, httponly=True, samesite="lax")


def check_origin(deployment: Deployment, request: Request) -> None:
    """Refuse a state-changing request with our cookies from a missing or another origin."""
    ours = {COOKIE, CHALLENGE_COOKIE} & request.cookies.keys()
    if request.method in ("GET", "HEAD", "OPTIONS") or not ours:
        return
    origin = request.headers.get("origin", "null")
    if origin == "null":
        raise Refusal(account_error(403, "MISSING_OR_NULL_ORIGIN", "Missing or null Origin"))
    if origin not in (deployment.api_url, deployment.web_url):
        raise Refusal(account_error(403, "INVALID_ORIGIN", "Invalid origin"))
