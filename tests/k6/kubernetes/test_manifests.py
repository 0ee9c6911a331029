"""The manifests: valid by the schemas for every profile, and equal to the reviewed files."""

import re
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from loadtest.config.models import USUAL_SCENARIOS, Kubernetes
from loadtest.errors import UsageError
from loadtest.k6.kubernetes.manifests import (
    Manifests,
    build_client_access,
    build_labels,
    build_manifests,
    build_name,
    build_short_name,
    render_manifests,
)
from tests.k6.kubernetes.cluster_requests import FULL, PLAIN, build_request, load_profiles
from tests.k6.kubernetes.operated_jobs import build_runner_job, build_starter_job
from tests.k6.kubernetes.testrun_schema import find_faults
from tests.support.golden import compare_golden

GOLDEN = Path(__file__).parent / "golden"
PROFILES = load_profiles()
SMOKE = PROFILES["smoke"]
# Versions of Kubernetes: an old one that is still in use, and the newest in the package.
VERSIONS = ("1.30", kubernetes_validate.latest_version())


# The package would read a file of two megabytes again for every manifest.
kubernetes_validate.utils.schema_contents = cache(kubernetes_validate.utils.schema_contents)


def check_by_schema(manifests: Iterable[dict[str, Any]]) -> None:
    for manifest in manifests:
        for version in VERSIONS:
            kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("where", [PLAIN, FULL], ids=["plain", "full"])
@pytest.mark.parametrize("scenario", USUAL_SCENARIOS)
@pytest.mark.parametrize("profile", PROFILES)
def test_the_manifests_of_every_profile_are_valid(
    profile: str, scenario: str, where: Kubernetes, tmp_path: Path
) -> None:
    manifests = build_manifests(build_request(tmp_path, scenario, PROFILES[profile]), "prod", where)
    *others, test_run = manifests.list()
    assert find_faults(test_run) == []
    check_by_schema((*others, build_runner_job(test_run, 1), build_starter_job(test_run)))
    # The schema of a TestRun does not check its metadata, but the others have the same.
    assert {str(manifest["metadata"]) for manifest in others} == {str(test_run["metadata"])}


def test_a_field_that_is_unknown_to_the_operator_is_a_fault(tmp_path: Path) -> None:
    test_run = build_manifests(build_request(tmp_path, "tools", SMOKE), "prod", FULL).test_run
    test_run["spec"]["runner"]["tolerations"][0]["efect"] = "NoSchedule"
    test_run["spec"]["parallelism"] = "4"
    misplaced, mistyped = sorted(find_faults(test_run))
    assert "$.spec.parallelism: '4' is not of type 'integer'" in misplaced
    assert "'efect' was unexpected" in mistyped


def test_the_account_of_the_client_is_valid() -> None:
    check_by_schema(build_client_access("prod", FULL))


def shorten(manifests: Manifests) -> tuple[dict[str, Any], ...]:
    """Remove what changes with the scripts: their texts, and all of k6/lib but one file."""
    texts = {
        key: f"<{key}>"
        for key in manifests.config_map["data"]
        if not key.startswith("lib.") or key == "lib.env.js"
    }
    (scripts, *_) = manifests.test_run["spec"]["runner"]["volumes"]
    items = scripts["configMap"]["items"]
    items[:] = [item for item in items if item["key"] in texts]
    return replace(manifests, config_map={**manifests.config_map, "data": texts}).list()


@pytest.mark.parametrize("scenario", USUAL_SCENARIOS)
def test_the_manifests_of_a_scenario_are_as_reviewed(scenario: str, tmp_path: Path) -> None:
    cases: dict[str, tuple[Kubernetes, dict[str, Any]]] = {
        "cold-start": (PLAIN, {"parallelism": 1, "renewal_url": None}),
        "sessions": (FULL, {}),
        "tools": (
            PLAIN.model_copy(update={"spread": "none"}),
            {
                "outputs": ("experimental-prometheus-rw",),
                "private_variables": {"K6_PROMETHEUS_RW_PASSWORD": "canary-password"},
            },
        ),
    }
    where, update = cases[scenario]
    manifests = build_manifests(build_request(tmp_path, scenario, SMOKE, **update), "prod", where)
    compare_golden(GOLDEN / f"{scenario}.yaml", render_manifests(shorten(manifests)))


def test_the_account_of_the_client_is_as_reviewed() -> None:
    compare_golden(GOLDEN / "client.yaml", render_manifests(build_client_access("prod", FULL)))


def test_rendered_manifests_equal_the_created_objects(tmp_path: Path) -> None:
    manifests = build_manifests(build_request(tmp_path, "sessions", PROFILES["full"]), "prod", FULL)
    read = list(yaml.safe_load_all(render_manifests(manifests.list())))
    masked = dict.fromkeys(manifests.secret["data"], "<masked>")
    assert read == [
        {**manifest, "data": masked} if manifest["kind"] == "Secret" else manifest
        for manifest in manifests.list()
    ]
    assert "*id" not in render_manifests(manifests.list())


def test_one_runner_has_the_same_manifest_as_many(tmp_path: Path) -> None:
    one, many = (
        build_manifests(
            build_request(tmp_path, "sessions", SMOKE, parallelism=count), "prod", PLAIN
        ).test_run
        for count in (1, 9)
    )
    assert find_faults(one) == []
    assert (one["spec"].pop("parallelism"), many["spec"].pop("parallelism")) == (1, 9)
    assert one == many


def test_a_runner_without_renewal_gets_no_token(tmp_path: Path) -> None:
    scenario_request = build_request(tmp_path, "sessions", SMOKE, renewal_url=None)
    text = str(build_manifests(scenario_request, "prod", PLAIN).test_run)
    assert "serviceAccountToken'" not in text
    assert "RENEWAL" not in text


def test_a_runner_s_token_outlives_its_start_and_the_scenario(tmp_path: Path) -> None:
    test_run = build_manifests(build_request(tmp_path, "sessions", SMOKE), "prod", PLAIN).test_run
    cluster = test_run["spec"]["runner"]["volumes"][-1]["projected"]
    assert cluster["sources"][0]["serviceAccountToken"]["expirationSeconds"] > 2000.5 + 300


@pytest.mark.parametrize(
    ("spread", "keys"),
    [
        ("none", []),
        ("node", ["kubernetes.io/hostname"]),
        ("zone", ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]),
    ],
)
def test_runners_are_spread_by_the_labels_that_the_operator_gives_them(
    spread: str, keys: list[str], tmp_path: Path
) -> None:
    where = PLAIN.model_copy(update={"spread": spread})
    test_run = build_manifests(build_request(tmp_path, "sessions", SMOKE), "prod", where).test_run
    constraints = test_run["spec"]["runner"].get("topologySpreadConstraints", [])
    assert [constraint["topologyKey"] for constraint in constraints] == keys
    labels = build_runner_job(test_run, 1)["metadata"]["labels"]
    for constraint in constraints:
        assert constraint["labelSelector"]["matchLabels"].items() <= labels.items()


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("json=run.json", "--out json: a runner's files are lost with its pod"),
        ("csv", "--out csv: a runner's files are lost with its pod"),
        ("influxdb=http://db.example/a,b", "--out influxdb: in a cluster"),
    ],
)
def test_an_output_that_does_not_work_in_a_cluster_is_refused(
    output: str, message: str, tmp_path: Path
) -> None:
    scenario_request = build_request(tmp_path, "sessions", SMOKE, outputs=(output,))
    with pytest.raises(UsageError) as caught:
        build_manifests(scenario_request, "prod", PLAIN)
    assert "db.example" not in str(caught.value)
    assert message in str(caught.value)


def test_more_runners_than_the_starter_can_call_are_refused(tmp_path: Path) -> None:
    build_manifests(build_request(tmp_path, "tools", SMOKE, parallelism=300), "prod", PLAIN)
    scenario_request = build_request(tmp_path, "tools", SMOKE, parallelism=301)
    with pytest.raises(
        UsageError, match="--parallelism 301: the operator starts at most 300 runners"
    ):
        build_manifests(scenario_request, "prod", PLAIN)


def test_manifests_can_be_rendered_without_a_bearer(tmp_path: Path) -> None:
    scenario_request = build_request(
        tmp_path, "sessions", SMOKE, bearer_file=tmp_path / "none.json"
    )
    assert "bearer.json: <masked>" in render_manifests(
        build_manifests(scenario_request, "prod", PLAIN).list()
    )


ENVIRONMENTS = st.text(min_size=1, max_size=80) | st.from_regex(r"[a-z0-9-]{1,80}", fullmatch=True)
LABEL = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")  # RFC 1035, as Services need it


@given(ENVIRONMENTS)
def test_names_are_valid_with_every_suffix_of_the_operator(name: str) -> None:
    for scenario in USUAL_SCENARIOS:
        made = build_name(name, scenario)
        for suffix in ("", "-9999", "-service-9999", "-starter", "-initializer"):
            assert LABEL.fullmatch(made + suffix), made
    for value in build_labels(name, USUAL_SCENARIOS[0]).values():
        assert re.fullmatch(r"[A-Za-z0-9]([-\w.]{0,61}[A-Za-z0-9])?", value, re.ASCII)


@given(st.sets(ENVIRONMENTS, min_size=2, max_size=4))
def test_different_environments_and_scenarios_never_share_a_name(names: set[str]) -> None:
    lasts = (*USUAL_SCENARIOS, "client")
    made = {build_name(name, last) for name in names for last in lasts}
    assert len(made) == len(names) * len(lasts)
    assert len({build_short_name(name) for name in names}) == len(names)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("prod", "Prod"),
        ("prod.eu", "prod-eu"),
        ("a" * 26, "a" * 27),
        ("a" * 60 + "1", "a" * 60 + "2"),
        ("-", "_"),
    ],
)
def test_similar_environment_names_stay_different(one: str, other: str) -> None:
    assert build_short_name(one) != build_short_name(other)


def test_a_short_plain_name_is_not_changed() -> None:
    assert build_name("staging", "cold-start") == "mcp-loadtest-staging-cold-start"
