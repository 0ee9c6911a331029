"""Clients that are registered, given from the start, or described by a document of their own."""

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey

from loadtest.errors import UsageError
from loadtest.reference import documents
from loadtest.reference.knobs import Knobs
from loadtest.reference.server import ReferenceTarget, SeedClient
from loadtest.reference.tokens import WORKSPACE_CLAIM, Algorithms
from tests.reference.documents import DocumentHost, host_documents, write_certificate
from tests.reference.visitor import (
    PASSWORD,
    REDIRECT,
    Launch,
    Visitor,
    claims_of,
    error_of,
    query_of,
)

SECRET = "a secret: for tests/only"
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
KEYS: dict[str, Key] = {
    "EdDSA": OKPKey.generate_key("Ed25519"),
    "ES256": ECKey.generate_key("P-256"),
    "RS256": RSAKey.generate_key(2048),
}
BOTH = ("authorization_code", "refresh_token", "client_credentials")


@pytest.fixture(scope="module")
def given() -> list[SeedClient]:
    """A client for each way to authenticate; all but one belong to a workspace of their own."""
    shared: dict[str, Any] = {
        "redirect_uris": [REDIRECT],
        "grant_types": BOTH,
        "workspace": "given-workspace",
    }
    return [
        SeedClient("public", redirect_uris=[REDIRECT]),
        SeedClient("basic", SECRET, **shared),
        SeedClient("post", SECRET, auth_method="client_secret_post", **shared),
        *(
            SeedClient(name, jwks={"keys": [key.as_dict(private=False)]}, **shared)
            for name, key in KEYS.items()
        ),
        SeedClient("nowhere", SECRET, grant_types=["client_credentials"]),
    ]


@pytest.fixture(scope="module")
def target(new_state: Callable[[], Path], given: list[SeedClient]) -> Iterator[ReferenceTarget]:
    """A target with given clients, documents, management and an end to revoked bearers."""
    knobs = Knobs(
        account_limits=False,
        tool_quota=False,
        registration_management=True,
        client_metadata_documents=True,
        revoked_bearers="refused",
    )
    with ReferenceTarget(knobs, state_dir=new_state(), clients=given) as running:
        yield running


@pytest.fixture(scope="module")
def visitor(target: ReferenceTarget) -> Iterator[Visitor]:
    """Somebody with a workspace on that target."""
    made = Visitor(target, "ada")
    with closing(made.http):
        yield made


@pytest.fixture(scope="module")
def host() -> Iterator[DocumentHost]:
    """A web server for documents."""
    with host_documents() as running:
        yield running


def assertion_of(visitor: Visitor, client_id: str, **changes: Any) -> str:
    """An assertion that proves the client, but for the changes; a claim of None is left out."""
    algorithm = changes.pop("algorithm", client_id)
    claims = {
        "iss": client_id,
        "sub": client_id,
        "aud": visitor.issuer,
        "exp": int(time.time()) + 60,
        "jti": secrets.token_hex(8),
        **changes,
    }
    claims = {name: value for name, value in claims.items() if value is not None}
    registry = Algorithms(algorithm)
    return jwt.encode({"alg": algorithm}, claims, KEYS[algorithm], registry=registry)


def credentials(visitor: Visitor, client_id: str, **changes: Any) -> dict[str, Any]:
    """How a given client authenticates, as httpx takes it."""
    if client_id in KEYS:
        assertion = assertion_of(visitor, client_id, **changes)
        return {"data": {"client_assertion": assertion, "client_assertion_type": ASSERTION_TYPE}}
    if client_id == "post":
        return {"data": {"client_id": client_id, "client_secret": SECRET}}
    if client_id == "public":
        return {"data": {"client_id": client_id}}
    # Encoded as RFC 6749, section 2.3.1 wants it: the secret holds a colon and a slash.
    return {"data": {}, "auth": (client_id, "a%20secret%3A%20for%20tests%2Fonly")}


def send(
    visitor: Visitor, endpoint: str, form: dict[str, str], client_id: str, **changes: Any
) -> httpx.Response:
    """POST a form as a given client."""
    sent = credentials(visitor, client_id, **changes)
    sent["data"] |= form
    return visitor.http.post(f"/api/auth/oauth2/{endpoint}", **sent)


def own_token(visitor: Visitor, client_id: str, **changes: Any) -> httpx.Response:
    """Ask for a token of the client's own."""
    form = {"grant_type": "client_credentials", "resource": visitor.resource}
    return send(visitor, "token", form, client_id, **changes)


def metadata_of(visitor: Visitor) -> dict[str, Any]:
    """Return the metadata of the authorization server."""
    path = "/.well-known/oauth-authorization-server/api/auth"
    metadata: dict[str, Any] = visitor.http.get(path).json()
    return metadata


CONFIDENTIAL = ["basic", "post", *KEYS]


def test_every_method_that_works_is_advertised(visitor: Visitor) -> None:
    metadata = metadata_of(visitor)
    assert set(metadata["token_endpoint_auth_methods_supported"]) == {
        "none", "client_secret_basic", "client_secret_post", "private_key_jwt",
    }  # fmt: skip
    assert metadata["token_endpoint_auth_signing_alg_values_supported"] == list(KEYS)
    assert metadata["client_id_metadata_document_supported"] is True


@pytest.mark.parametrize("client_id", CONFIDENTIAL)
def test_a_given_client_gets_its_own_bearer_for_its_workspace(
    visitor: Visitor, client_id: str
) -> None:
    tokens = own_token(visitor, client_id).json()
    assert "refresh_token" not in tokens
    claims = claims_of(tokens["access_token"])
    workspace = next(each for each in visitor.target.workspaces() if each.slug == "given-workspace")
    assert claims["sub"] == claims["azp"] == client_id
    assert claims[WORKSPACE_CLAIM] == workspace.id
    client = visitor.mcp(tokens["access_token"])
    assert error_of(client.initialize()) == (403, "cross_workspace_denied")
    client.path = f"/mcp/{workspace.id}"
    assert '"count": 13' in client.open().call("listEntities")["content"][0]["text"]


@pytest.mark.parametrize("client_id", ["public", *CONFIDENTIAL])
def test_a_given_client_redeems_refreshes_and_revokes_only_by_its_own_method(
    visitor: Visitor, client_id: str
) -> None:
    form = {
        "grant_type": "authorization_code",
        "code": visitor.code(client_id),
        "code_verifier": "v" * 43,
        "redirect_uri": REDIRECT,
        "resource": visitor.resource,
    }
    if client_id != "public":
        assert error_of(visitor.exchange(**form, client_id=client_id)) == (401, "invalid_client")
    tokens = send(visitor, "token", form, client_id).json()
    refresh = {
        "grant_type": "refresh_token",
        "refresh_token": tokens["refresh_token"],
        "resource": visitor.resource,
    }
    if client_id != "public":
        refused = visitor.http.post(
            "/api/auth/oauth2/revoke",
            data={"token": tokens["refresh_token"], "client_id": client_id},
        )
        assert error_of(refused) == (401, "invalid_client")
    again = send(visitor, "token", refresh, client_id).json()
    assert visitor.mcp(again["access_token"]).initialize().status_code == 200
    before = visitor.target.revocations
    revoked = send(visitor, "revoke", {"token": again["refresh_token"]}, client_id)
    assert revoked.status_code == 200
    assert visitor.target.revocations == before + 1
    assert error_of(visitor.mcp(again["access_token"]).initialize()) == (401, "invalid_bearer")
    refresh["refresh_token"] = again["refresh_token"]
    assert error_of(send(visitor, "token", refresh, client_id)) == (401, "invalid_grant")


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "another"},
        {"sub": "post"},
        {"aud": "http://127.0.0.1/other"},
        {"aud": None},
        {"exp": 1},
        {"exp": None},
        {"exp": 99_999_999_999},
        {"nbf": 99_999_999_999},
        {"jti": None},
        {"algorithm": "RS256"},
    ],
    ids=str,
)
def test_a_wrong_assertion_does_not_authenticate(visitor: Visitor, changes: dict[str, Any]) -> None:
    assert error_of(own_token(visitor, "ES256", **changes)) == (401, "invalid_client")


def test_an_assertion_works_once_and_the_token_endpoint_may_be_its_audience(
    visitor: Visitor,
) -> None:
    audience = [f"{visitor.issuer}/oauth2/token", "http://127.0.0.1/other"]
    assert own_token(visitor, "ES256", jti="one", aud=audience).status_code == 200
    again = own_token(visitor, "ES256", jti="one")
    assert error_of(again) == (401, "invalid_client")
    assert "used before" in again.json()["error_description"]
    form = {"client_assertion": "no.jwt", "client_assertion_type": ASSERTION_TYPE}
    refused = visitor.exchange(grant_type="client_credentials", **form)
    assert error_of(refused) == (401, "invalid_client")


def test_a_public_client_and_one_without_workspace_cannot_use_their_own_token(
    visitor: Visitor,
) -> None:
    assert error_of(own_token(visitor, "public")) == (400, "unauthorized_client")
    bearer = own_token(visitor, "nowhere").json()["access_token"]
    assert error_of(visitor.mcp(bearer).initialize()) == (403, "cross_workspace_denied")


@pytest.mark.parametrize(
    "mistake",
    [
        {"auth_method": "client_secret_basic"},
        {"secret": SECRET, "jwks": {"keys": []}, "auth_method": "private_key_jwt"},
        {"secret": SECRET, "auth_method": "none"},
        {"secret": SECRET, "auth_method": "tls_client_auth"},
    ],
    ids=str,
)
def test_a_given_client_that_could_not_authenticate_is_refused_by_name(
    mistake: dict[str, Any],
) -> None:
    with pytest.raises(UsageError, match="'mistaken'"):
        SeedClient("mistaken", **mistake)
    assert SECRET not in repr(SeedClient("fitting", SECRET))


def test_a_registered_client_can_read_and_delete_itself(visitor: Visitor) -> None:
    client = visitor.register(application_type="native")
    headers = {"Authorization": f"Bearer {client['registration_access_token']}"}
    url = client["registration_client_uri"]
    assert visitor.http.get(url, headers=headers).json() == client
    assert client["application_type"] == "native"
    tokens = visitor.redeem(client["client_id"], visitor.code(client["client_id"])).json()
    for wrong in ({}, {"Authorization": "Bearer wrong"}):
        assert error_of(visitor.http.delete(url, headers=wrong)) == (401, "invalid_token")
    deleted = visitor.http.delete(url, headers=headers)
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert error_of(visitor.http.delete(url, headers=headers)) == (401, "invalid_token")
    assert "/error?error=invalid_client" in visitor.authorize(client["client_id"])
    refused = visitor.refresh(client["client_id"], tokens["refresh_token"])
    assert error_of(refused) == (401, "invalid_client")
    assert error_of(visitor.mcp(tokens["access_token"]).initialize()) == (401, "invalid_bearer")


def test_a_document_describes_a_client(visitor: Visitor, host: DocumentHost) -> None:
    url = host.serve("/client.json")
    port = "http://127.0.0.1:54321/callback"
    code = visitor.code(url, redirect_uri=port)
    tokens = visitor.redeem(url, code, redirect_uri=port).json()
    assert claims_of(tokens["access_token"])["azp"] == url
    assert visitor.mcp(tokens["access_token"]).initialize().status_code == 200
    assert "access_token" in visitor.refresh(url, tokens["refresh_token"]).json()
    asked = len(host.asked)
    assert visitor.authorize(url).startswith(REDIRECT)
    assert len(host.asked) == asked + 1
    host.serve("/client.json", redirect_uris=["http://127.0.0.1/moved"])
    assert "error=invalid_redirect" in visitor.authorize(url)


def test_a_document_may_name_keys_instead_of_a_secret(visitor: Visitor, host: DocumentHost) -> None:
    url = host.serve(
        "/keys.json",
        token_endpoint_auth_method="private_key_jwt",
        jwks={"keys": [KEYS["ES256"].as_dict(private=False)]},
    )
    code = visitor.code(url)
    assert error_of(visitor.redeem(url, code)) == (401, "invalid_client")
    assertion = assertion_of(visitor, url, algorithm="ES256")
    form = {"client_assertion": assertion, "client_assertion_type": ASSERTION_TYPE}
    assert visitor.redeem(url, code, **form).status_code == 200


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"client_id": "http://127.0.0.1/another"}, "another client_id"),
        ({"redirect_uris": []}, "redirect URI"),
        ({"redirect_uris": ["http://elsewhere.example/"]}, "loopback"),
        ({"token_endpoint_auth_method": "client_secret_post"}, "shared secret"),
        ({"client_secret": "shared"}, "shared secret"),
        ({"token_endpoint_auth_method": "private_key_jwt"}, "jwks"),
        ({"kind": "text/html"}, "JSON"),
        ({"filler": "x" * 5200}, "5120 bytes"),
        ({"client_name": 7}, "client metadata"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_wrong_document_is_refused(
    visitor: Visitor, host: DocumentHost, changes: dict[str, Any], reason: str
) -> None:
    page = visitor.authorize(host.serve("/bad.json", **changes))
    assert page.startswith(f"{visitor.issuer}/error?")
    answer = query_of(page)
    assert answer["error"] == "invalid_client"
    assert reason in answer["error_description"]


def test_a_document_is_fetched_only_from_this_machine_and_without_redirects(
    visitor: Visitor, host: DocumentHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusal(url: str) -> str:
        answer = query_of(visitor.authorize(url))
        assert answer["error"] == "invalid_client"
        return answer["error_description"]

    host.serve("/client.json")
    port = host.url.rpartition(":")[2]
    for url in (
        "https://client.example/client.json",
        f"http://user@127.0.0.1:{port}/client.json",
        f"{host.url}/client.json#part",
        f"{host.url}/x/../client.json",
        f"{host.url}/",
        host.url,
        "http://127.0.0.1:99999/client.json",
    ):
        before = len(host.asked)
        assert refusal(url) == "unknown client"
        assert len(host.asked) == before
    assert "answers 404" in refusal(f"{host.url}/missing.json")
    assert "answers 302" in refusal(host.serve_body("/moved.json", b"", status=302))
    assert "client metadata" in refusal(host.serve_body("/broken.json", b"{"))
    assert "cannot be fetched" in refusal("http://127.0.0.1:1/client.json")
    monkeypatch.setattr(documents, "FETCH_SECONDS", 0.1)
    assert "takes longer" in refusal(f"{host.url}/slow")


def test_a_document_may_come_over_https_from_a_trusted_server(
    visitor: Visitor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = write_certificate(tmp_path / "certificate.pem")
    with host_documents(certificate) as host:
        url = host.serve("/client.json")
        assert query_of(visitor.authorize(url))["error"] == "invalid_client"
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert visitor.redeem(url, visitor.code(url)).status_code == 200


def test_a_url_is_not_a_client_without_the_knob(
    launch: Launch, join: Any, host: DocumentHost
) -> None:
    visitor = join(launch(), demo=False)
    assert "client_id_metadata_document_supported" not in metadata_of(visitor)
    assert query_of(visitor.authorize(host.serve("/client.json")))["error"] == "invalid_client"
    assert visitor.register().keys().isdisjoint({"registration_access_token", "client_secret"})
    missing = visitor.http.delete("/api/auth/oauth2/register/x")
    assert missing.status_code == 404


def test_deleted_clients_are_unknown_and_given_ones_stay(launch: Launch, join: Any) -> None:
    target = launch(clients=[SeedClient("public", redirect_uris=[REDIRECT])])
    visitor = join(target)
    client_id = visitor.register()["client_id"]
    tokens = visitor.redeem(client_id, visitor.code(client_id)).json()
    kept = visitor.redeem("public", visitor.code("public")).json()
    assert target.forget_clients() == 1
    assert [each.id for each in target.clients()] == ["public"]
    page = visitor.authorize(client_id)
    assert page.startswith(f"{visitor.issuer}/error?error=invalid_client&")
    for answer in (
        visitor.refresh(client_id, tokens["refresh_token"]),
        visitor.redeem(client_id, "any"),
    ):
        assert error_of(answer) == (401, "invalid_client")
    assert visitor.refresh("public", kept["refresh_token"]).status_code == 200
    assert visitor.mcp(tokens["access_token"]).initialize().status_code == 200
    again = visitor.register()["client_id"]
    assert visitor.redeem(again, visitor.code(again)).status_code == 200
    assert target.registrations == 2


def test_a_given_client_is_replaced_by_a_later_start(launch: Launch, join: Any) -> None:
    first = launch(clients=[SeedClient("c", SECRET, grant_types=BOTH, workspace="w")])
    workspaces = [each.id for each in first.workspaces()]
    first.stop()
    second = launch(clients=[SeedClient("c", "other", grant_types=BOTH, workspace="w")])
    assert [each.id for each in second.workspaces()] == workspaces
    visitor = join(second, demo=False)
    form = {"grant_type": "client_credentials", "resource": visitor.resource}
    for secret, status in ((SECRET, 401), ("other", 200)):
        answer = visitor.http.post("/api/auth/oauth2/token", data=form, auth=("c", secret))
        assert answer.status_code == status


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_registration_can_assign_a_secret_to_everyone(
    launch: Launch, join: Any, method: str
) -> None:
    visitor = join(launch(registration_auth=method))
    assert metadata_of(visitor)["token_endpoint_auth_methods_supported"] == [method]
    client = visitor.register(token_endpoint_auth_method="none")
    assert client["token_endpoint_auth_method"] == method
    assert client["client_secret_expires_at"] == 0
    code = visitor.code(client["client_id"])
    bare = visitor.redeem(client["client_id"], code)
    assert error_of(bare) == (401, "invalid_client")
    secret = client["client_secret"]
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "code_verifier": "v" * 43,
        "redirect_uri": REDIRECT,
    }
    body: dict[str, Any] = {"data": {**form, "client_id": client["client_id"]}}
    if method == "client_secret_basic":
        body["auth"] = (client["client_id"], secret)
    else:
        body["data"]["client_secret"] = secret
    assert visitor.http.post("/api/auth/oauth2/token", **body).status_code == 200


def test_a_raised_quota_counts_for_a_client_registered_with_a_session(
    launch: Launch, join: Any
) -> None:
    visitor = join(launch(account_limits=False))
    raised, plain = (visitor.register(signed_in=which)["client_id"] for which in (True, False))
    body = {"requestsPerMinute": 3600}
    for client_id, status in ((raised, 200), (plain, 404)):
        path = f"/api/v1/admin/oauth-clients/{client_id}/rate-limit"
        answer = visitor.http.patch(path, json=body, headers=visitor.bearer_header)
        assert answer.status_code == status
    refused = {}
    for client_id in (raised, plain):
        bearer = visitor.redeem(client_id, visitor.code(client_id)).json()["access_token"]
        client = visitor.mcp(bearer).open()
        results = [client.call("listEntities") for _ in range(70)]
        refused[client_id] = sum("isError" in result for result in results)
    assert refused == {raised: 0, plain: 10}
    assert PASSWORD not in str(visitor.target.clients())
