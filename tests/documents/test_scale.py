"""The page on scale: its sums are right, its sources exist, and its configuration is valid."""

import ast
import operator
import re
import tomllib
from collections.abc import Callable
from fractions import Fraction

import pytest

from loadtest.config.models import Environment, Profile
from tests.support.checkout import ROOT

PAGE = (ROOT / "docs" / "explanation" / "scale.md").read_text(encoding="utf-8")
MINUS, TIMES, DIVIDED = "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}", "\N{DIVISION SIGN}"
SUMS = re.findall(rf"`([\d,. ()+{MINUS}{TIMES}{DIVIDED}]+) = ([\d,.]+)`", PAGE)
SIGNS = str.maketrans({MINUS: "-", TIMES: "*", DIVIDED: "/", ",": None})
OPERATORS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def compute(node: ast.AST) -> Fraction:
    if isinstance(node, ast.BinOp):
        return OPERATORS[type(node.op)](compute(node.left), compute(node.right))
    assert isinstance(node, ast.Constant)
    return Fraction(str(node.value))


@pytest.mark.parametrize(("terms", "result"), SUMS)
def test_a_sum_is_right_to_its_last_digit(terms: str, result: str) -> None:
    value = compute(ast.parse(terms.translate(SIGNS), mode="eval").body)
    digits = len(result.partition(".")[2])
    assert abs(value - Fraction(result.replace(",", ""))) <= Fraction(1, 2 * 10**digits)


def test_every_equation_is_among_the_sums() -> None:
    assert len(SUMS) == len(re.findall(r"`[^`\n]* = [\d,.]+`", PAGE)) > 40


def test_every_source_is_cited_and_every_citation_has_a_source() -> None:
    text, sources = PAGE.split("## Sources")
    listed = re.findall(r"^(\d+)\. ", sources, re.MULTILINE)
    assert set(re.findall(r"\[(\d+)\]", text)) == set(listed)


def test_every_measurement_that_is_cited_was_made() -> None:
    made = re.findall(r"^\| (M\d+) \|", PAGE, re.MULTILINE)
    assert set(re.findall(r"\bM\d+\b", PAGE)) == set(made)


def test_its_configuration_is_valid() -> None:
    (text,) = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    settings = tomllib.loads(text)
    profile = Profile(**settings["profile"]["huge"])
    environment = Environment(**settings["environment"]["prod-eu"])
    assert environment.limits.max_vus == max(profile.sessions.stages)
