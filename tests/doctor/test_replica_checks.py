"""The doctor's session over many connections, against replicas and other servers."""

from pathlib import Path
from typing import Any

import pytest

from loadtest.config.models import STATELESS
from loadtest.doctor.check import Check
from loadtest.doctor.replica_checks import examine_replicas
from loadtest.reference.knobs import Knobs
from loadtest.reference.server import ReferenceTarget
from loadtest.state.bearers import read_bearers
from tests.k6.running import mint_by_session


def look(tmp_path: Path, protocol: str | None = None, **knobs: Any) -> Check:
    """Return what the doctor finds at a target with these knobs; it must leave no session."""
    with ReferenceTarget(Knobs(**knobs)) as target:
        url = mint_by_session(target.api_url, tmp_path / "bearer.json")
        (bearer,) = read_bearers(tmp_path / "bearer.json")
        found = examine_replicas(url, bearer.access_token, protocol)
        assert target.open_sessions in {0, int(found.state == "warn")}
        return found


def test_one_replica_answers_every_call(tmp_path: Path) -> None:
    found = look(tmp_path)
    assert (found.state, found.remedy) == ("ok", "")
    assert found.detail == "one session answers 20 calls over 20 connections"


@pytest.mark.parametrize("answer", ["404", "400", "401", "200"])
def test_replicas_behind_a_proxy_for_connections_are_found(answer: str, tmp_path: Path) -> None:
    found = look(tmp_path, replicas=2, balancing="connection", lost_session=answer)
    assert found.state == "warn"
    assert found.detail.startswith("11 of 21 requests of one session, each over a new connection")
    assert "Mcp-Session-Id" in found.remedy


def test_a_server_that_refuses_is_not_judged(tmp_path: Path) -> None:
    found = look(tmp_path, edge_refusal="auth_unavailable")
    assert (found.state, found.detail) == ("warn", "not known: HTTP 503 for initialize")


def test_without_sessions_there_is_nothing_to_lose(tmp_path: Path) -> None:
    assert look(tmp_path, STATELESS).detail == f"no session to lose in revision {STATELESS}"
