"""The k6-operator's schema of a TestRun, applied like an API server does, but more strictly.

`testruns-crd.yaml.gz` is `config/crd/bases/k6.io_testruns.yaml` of grafana/k6-operator v1.6.
"""

import gzip
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

CRD = Path(__file__).parent / "testruns-crd.yaml.gz"


@cache
def load_validator() -> Draft202012Validator:
    """Return a validator that refuses what the API server would drop or refuse."""
    definition = yaml.safe_load(gzip.decompress(CRD.read_bytes()))
    (version,) = definition["spec"]["versions"]
    assert version["name"] == "v1alpha1"
    schema = _close(version["schema"]["openAPIV3Schema"])
    # A definition does not describe metadata, because all objects have the same.
    schema["properties"]["metadata"]["additionalProperties"] = True
    schema["required"] = ["apiVersion", "kind", "metadata", "spec"]
    return Draft202012Validator(schema)


def find_faults(test_run: dict[str, Any]) -> list[str]:
    """Return each fault with its path."""
    return [
        f"{fault.json_path}: {fault.message}" for fault in load_validator().iter_errors(test_run)
    ]


def _close(schema: Any) -> Any:
    """Return the schema with additionalProperties false for every object."""
    if isinstance(schema, list):
        return [_close(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _close(value) for key, value in schema.items()}
    if schema.get("type") == "object":
        closed.setdefault("additionalProperties", False)
    return closed
