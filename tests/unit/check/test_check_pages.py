"""The forms of a report: JSON of a fixed schema, Markdown, one page of HTML."""

import json
import re

from tests.unit.check.wrong_losses import sequence_mean
from ticgrpo_theory.check import check_loss
from ticgrpo_theory.check.pages import html, markdown

REPORT = set(
    "schema name form verdict rows conventions notes versions seconds interrupted answered".split(" ")
)
ROW = set("name claim target number holds how detail witness cause cure command reference".split(" "))


def test_the_forms_of_a_report():
    report = check_loss(
        sequence_mean, name="a|b <c>", rows=["mask", "unbiased_on_policy_any_length", "sampler"]
    )
    found = json.loads(report.to_json())
    assert set(found) == REPORT and found["schema"] == 1
    assert all(set(row) == ROW for row in found["rows"])
    assert [row["holds"] for row in found["rows"]] == [True, False, None]
    text = report.to_markdown()
    assert "### a\\|b <c>" in text and re.search(
        r"\| unbiased_on_policy_any_length \| \*\*fails\*\* \| 2\d\.\d deg", text
    )
    page = report.to_html()
    assert "a|b &lt;c&gt;" in page and "<c>" not in page and "E[g]   = [3/32" in page
    # Nothing is loaded from anywhere.
    assert not re.search(r"(?:src|href)=|@import|url\(", page)
    assert markdown([report, report]).count("| row | a\\|b <c> | a\\|b <c> |") == 1
    assert html([report, report]).count("<h2>") == 2
