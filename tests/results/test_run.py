"""The words that rows and scripts share."""

import re

from loadtest.report.content.wording import format_reasons
from loadtest.results.run import REASONS, REFUSALS
from tests.support.checkout import ROOT


def test_the_reasons_of_failed_calls_are_those_of_the_scripts() -> None:
    script = (ROOT / "k6" / "lib" / "outcome.js").read_text(encoding="utf-8")
    constants = dict(re.findall(r"const ([A-Z_]+) = '([a-z_]+)';", script))
    listed = re.search(r"export const REASONS = (.*?)\.concat\(CODES", script, re.DOTALL)
    assert listed is not None
    words = re.findall(r"\b[A-Z_]{2,}\b|'[a-z_]+'", listed[1])
    assert sorted(constants.get(word, word.strip("'")) for word in words) == sorted(REASONS)


def test_a_report_has_plain_words_for_every_reason() -> None:
    assert set(REFUSALS) < set(REASONS)
    for reason in REASONS:
        assert "_" not in format_reasons({reason: 2})
