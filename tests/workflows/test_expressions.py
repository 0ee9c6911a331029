"""The reader of GitHub's expressions: right in what it knows, and refusing the rest."""

from typing import Any

import pytest

from tests.workflows.expressions import ExpressionError, evaluate, fill_in

CONTEXTS = {"inputs": {"env": "Prod", "none": ""}, "github": {"run_id": "7"}}
FUNCTIONS = {"always": lambda: True}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("inputs.env", "Prod"),
        ("inputs.none || 'it''s'", "it's"),
        ("inputs.env == 'prod' && 20 || 30", 20),
        ("inputs.none != '' && 20 || 30", 30),
        ("!(inputs.none || inputs.env)", False),
        ("!inputs.none && inputs.none", ""),
        ("always() && github.run_id == '7'", True),
    ],
)
def test_a_supported_expression_has_the_value_that_github_gives(text: str, value: Any) -> None:
    assert evaluate(text, CONTEXTS, FUNCTIONS) == value


@pytest.mark.parametrize(
    "text",
    [
        "inputs.other",
        "secrets.A",
        "inputs.env.more",
        "failure()",
        "inputs['env']",
        "inputs.env == 1",
        "1 < 2",
        "'a' 'b'",
        "(inputs.env",
        "inputs.env ||",
        "",
    ],
)
def test_an_unsupported_expression_is_refused(text: str) -> None:
    with pytest.raises(ExpressionError):
        evaluate(text, CONTEXTS, FUNCTIONS)


def test_a_value_is_inserted_into_a_text_unchanged() -> None:
    contexts = {"inputs": {"env": "${{ github.token }}"}}
    assert fill_in("a ${{inputs.env}} b", contexts, {}) == "a ${{ github.token }} b"
