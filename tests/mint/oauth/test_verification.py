import time
from typing import Any

import pytest
from joserfc import jwt
from joserfc.errors import SecurityWarning
from joserfc.jwk import KeySet, OKPKey

from loadtest.common.http import open_client
from loadtest.common.redaction import SecretStr
from loadtest.errors import MintError
from loadtest.mint.oauth.acceptance import check_token
from loadtest.mint.oauth.request import Endpoint, IssuedToken
from loadtest.mint.oauth.verification import Expected, verify
from tests.mint.minting import build_environment

KEY = OKPKey.generate_key("Ed25519", {"kid": "one"})
OTHER = OKPKey.generate_key("Ed25519", {"kid": "one"})
WORKSPACE = "https://claims.example/workspace_id"
EXPECTED = Expected("https://as", "https://api/mcp", frozenset({"mcp:read"}), WORKSPACE, "w1")


def sign(key: OKPKey = KEY, **changes: Any) -> str:
    claims = {
        "iss": "https://as",
        "aud": "https://api/mcp",
        "exp": time.time() + 600,
        "scope": "mcp:read offline_access",
        WORKSPACE: "w1",
    } | changes
    claims = {name: value for name, value in claims.items() if value is not None}
    with pytest.warns(SecurityWarning, match="EdDSA"):
        return jwt.encode({"alg": "EdDSA", "kid": "one"}, claims, key, algorithms=["EdDSA"])


def check(token: str) -> dict[str, Any]:
    return verify(token, KeySet([KEY]).as_dict(private=False), EXPECTED)


def test_a_valid_token_returns_its_claims() -> None:
    assert check(sign())["scope"] == "mcp:read offline_access"


def test_one_of_several_audiences_is_enough() -> None:
    assert check(sign(aud=["https://as/userinfo", "https://api/mcp"]))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"iss": "https://evil"}, "iss is 'https://evil'"),
        ({"aud": "https://other"}, "aud is 'https://other'"),
        ({"aud": None}, "aud is None"),
        ({"exp": None}, "exp is missing"),
        ({"exp": 1}, "expired already"),
        ({"scope": "openid"}, "scope lacks mcp:read"),
        ({WORKSPACE: "w2"}, "workspace is 'w2'"),
    ],
)
def test_a_wrong_claim_is_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(MintError) as caught:
        check(sign(**changes))
    assert words in str(caught.value)
    assert caught.value.step == "verification"


def test_a_token_signed_by_another_key_is_refused() -> None:
    with pytest.raises(MintError, match="signature does not verify"):
        check(sign(OTHER))


@pytest.mark.parametrize("token", ["one-part-only", "a.b.c", "..", "é.é.é"])
def test_an_opaque_token_is_refused_in_one_line_that_does_not_quote_it(token: str) -> None:
    with pytest.raises(MintError) as caught:
        check(token)
    assert token not in str(caught.value)


def build_grant(token: str) -> IssuedToken:
    return IssuedToken(
        access_token=SecretStr(token),
        via="refresh",
        audience=EXPECTED.audience,
        metadata={"issuer": EXPECTED.issuer, "jwks_uri": "http://127.0.0.1:1/jwks"},
        scope=None,
        life_seconds=600,
        client_id="one",
        skew_seconds=0,
    )


def test_an_accepted_token_needs_the_right_claims_but_no_keys() -> None:
    environment = build_environment(workspace_claim=WORKSPACE)
    endpoint = Endpoint("http://127.0.0.1:1/mcp", environment, "w1", lambda _: None)
    with open_client(30.0) as http:
        assert check_token(endpoint, build_grant(sign()), http, taken=True).scope
        for token in (sign(aud="https://other"), sign(KEY, **{WORKSPACE: "w2"}), "opaque"):
            with pytest.raises(MintError, match="verification"):
                check_token(endpoint, build_grant(token), http, taken=True)
        with pytest.raises(MintError, match="no keys at"):
            check_token(endpoint, build_grant(sign()), http)
