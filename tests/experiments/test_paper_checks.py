"""The committed table and certificates are what the checks give now, and every name in them exists."""

import dataclasses
import importlib
import importlib.util
import json
import re
from pathlib import Path

import pytest

from tests.thinned import more
from ticgrpo_theory.claims import table
from ticgrpo_theory.claims.claim import MARK, Claim, Finding, Verdict
from ticgrpo_theory.claims.front_page import BEGIN, END, findings_list, with_findings
from ticgrpo_theory.claims.paper.quotes import QUOTES, V5
from ticgrpo_theory.claims.table import CLAIMS, certificates, document, findings
from ticgrpo_theory.claims.world_line import parse

pytestmark = more

ROOT = Path(__file__).parents[2]

REQUIRED = """
E1 E2 E3 E3.sampled E4 G.statistics
E5 E6 E6.clip E6.events Alg1 Alg1.kl
E7 E7.main E7.grad E7.se1 E7.se2 E7.clip E7.unbiased E7.proof E7.target E7.vanish E7.dapo E8
E9 E9.clip E10 Alg2 E11 E11.scale E11.event E11.main E11.se1 E11.se2 E11.clip E11.unbiased E11.vanish
E11.consistent TIC.unbiased TIC.reuse
E7.asymptotic E9.variance E9.noise Alg2.kl TIC.efficient TIC.further F2.accuracy P.first P.slips L7
A5.1 A5.2 A5.3 C.L C.L0 C.R E12 E13 T5.1 T5.2 T5.faster T5.length
P.lower P.why P.group P.dapo P.gspo P.memory P.timeline
F1 F1.models F2 F2.models L1 L2 L3 L4 L5 L6
""".split()


@pytest.fixture(scope="module")
def found() -> dict[str, Finding]:
    """Every claim decided anew, once for this file."""
    return dict(findings())


def committed(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def table_rows(text: str) -> list[list[str]]:
    """The cells of every row below the head of the table."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_committed_table_is_what_the_checks_give_now(found):
    made = document(found)
    assert made == committed("paper_checks.md"), "run `python experiments/paper_checks.py` and read the diff"


def test_the_comparison_rejects_another_number_and_another_verdict(found):
    one = found["E7"]
    assert "0.388315" in one.number
    for changed in (
        dataclasses.replace(one, number=one.number.replace("0.388315", "0.388316")),
        dataclasses.replace(one, verdict=Verdict.HOLDS),
    ):
        assert document(found | {"E7": changed}) != committed("paper_checks.md")


def test_the_comparison_rejects_a_missing_row(found, monkeypatch):
    kept = tuple(claim for claim in CLAIMS if claim.id != "T5.2")
    monkeypatch.setattr(table, "CLAIMS", kept)
    short = document({claim.id: found[claim.id] for claim in kept})
    assert short != committed("paper_checks.md")
    assert missing(short) == ["T5.2"]


def missing(text: str) -> list[str]:
    """Required ids without a row."""
    ids = {cells[0] for cells in table_rows(text)}
    return [name for name in REQUIRED if name not in ids]


def test_every_item_has_one_row_of_eleven_cells_with_one_of_four_verdicts():
    text = committed("paper_checks.md")
    rows = table_rows(text)
    assert missing(text) == []
    ids = [cells[0] for cells in rows]
    assert len(set(ids)) == len(ids) == len(CLAIMS)
    assert all(re.fullmatch(r"[A-Za-z0-9.]+", name) for name in ids)
    answers = (*(kind.value for kind in Verdict), table.CONTRADICTED)
    for cells in rows:
        assert len(cells) == 11 and all(cells), cells
        assert cells[4].startswith(answers), cells


def test_every_row_quotes_words_and_states_a_world_in_a_line_that_is_read_back(found):
    assert set(QUOTES) == {claim.id for claim in CLAIMS} and set(V5) < set(QUOTES)
    for name, finding in found.items():
        assert len(QUOTES[name]) <= 160, name
        decided = finding.verdict is not Verdict.UNCHECKABLE and name not in OF_THE_RECORD
        assert bool(finding.lines) == decided, name
        for line in finding.lines:
            assert str(parse(line)) == line


OF_THE_RECORD = {"L3", "L7"}
"""Rows that printed configurations decide, and no world."""


def marks_and_numbers(finding: Finding) -> tuple[int, list[str]]:
    """(marks in the text, proved numbers that it does not show)."""
    shown = [witness.shown for witness in table.proved(finding)]
    return finding.number.count(MARK), [text for text in shown if text not in finding.number]


def test_the_certified_mark_stands_behind_the_numbers_that_are_certified_and_no_others(found):
    for name, finding in found.items():
        assert marks_and_numbers(finding) == (len(table.proved(finding)), []), name
    # Partner: a mark at another number, and a certified number that the row does not show.
    moved = dataclasses.replace(found["C.R"], number="7 of 8 [certified]")
    assert marks_and_numbers(moved)[1] == ["7 [certified]"]


def test_a_verdict_says_which_correction_which_counter_example_and_why_not(found):
    for name, finding in found.items():
        if finding.verdict is not Verdict.HOLDS:
            assert finding.reason, name


def test_the_count_of_verdicts_is_a_sentence():
    holds, fails = (Finding(kind, "why", "0") for kind in (Verdict.HOLDS, Verdict.FAILS))
    assert table.counted([holds] * 13 + [fails] * 2) == "13 claims hold exactly and 2 fail"
    assert table.counted([holds]) == "1 claim holds exactly"
    assert table.counted([]) == "no claim was checked"


def test_what_is_unequal_is_certified_and_nothing_else(found):
    for name, finding in found.items():
        unequal = finding.verdict in (Verdict.FAILS, Verdict.CORRECTED) and not finding.record
        assert bool(finding.witnesses and all(w.positive for w in finding.witnesses)) or not unequal, name
    named = {f"{name}.json" for name in found if any(not w.zero for w in found[name].witnesses)}
    assert set(certificates(found)) == named
    failing = [name for name, each in found.items() if each.verdict is Verdict.FAILS and not each.record]
    assert {f"{name}.json" for name in failing} <= named


def test_the_committed_certificates_are_what_the_checks_give_now(found):
    made = certificates(found)
    folder = ROOT / "results" / "certified"
    assert {path.name for path in folder.glob("*")} == set(made)
    for name, text in made.items():
        assert (folder / name).read_text(encoding="utf-8") == text, name


def test_certificates_hold_thirty_digits_a_radius_and_what_float64_agrees_on(found):
    for text in certificates(found).values():
        for value in json.loads(text)["values"]:
            digits = value["value"].replace("-", "").replace(".", "").split("e")[0].lstrip("0")
            exact = value["radius"] == "0"
            assert exact or len(digits) == 30, value
            assert float(value["value"]) > 0
            assert exact or value["radius"] == "below 1e-40"
            assert value["float64_agrees_on_digits"] >= 9
            assert value["quantity"] and str(parse(value["line"])) == value["line"]


def resolve(path: str) -> object:
    """The object at a dotted path: the longest importable module, then attributes."""
    parts = path.split(".")
    for length in range(len(parts), 0, -1):
        name = ".".join(parts[:length])
        try:
            present = importlib.util.find_spec(name) is not None
        except ModuleNotFoundError:
            continue
        if present:
            thing: object = importlib.import_module(name)
            for attribute in parts[length:]:
                thing = getattr(thing, attribute)
            return thing
    raise ImportError(path)


def defined_tests(file: str) -> list[str]:
    """Names of the test functions of all files of that name under tests/."""
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob(file)]
    return [name for text in texts for name in re.findall(r"^def (test_\w+)\(", text, re.M)]


def checkable() -> list[Claim]:
    return [claim for claim in CLAIMS if claim.function or claim.test]


def test_every_function_that_a_row_names_exists():
    for claim in checkable():
        assert callable(resolve(claim.function)), claim.id


def test_every_test_that_a_row_names_exists():
    for claim in checkable():
        file, name = claim.test.split("::")
        assert defined_tests(file).count(name) == 1, claim.test


def test_every_experiment_that_a_row_names_exists():
    for claim in CLAIMS:
        assert not claim.experiment or (ROOT / "experiments" / claim.experiment).is_file(), claim.id


def test_only_what_cannot_be_checked_here_names_no_function_and_no_test(found):
    for claim in CLAIMS:
        unnamed = not (claim.function and claim.test)
        assert unnamed == (found[claim.id].verdict is Verdict.UNCHECKABLE), claim.id


def test_names_that_do_not_exist_are_noticed():
    with pytest.raises(AttributeError):
        resolve("ticgrpo_theory.exact.expectation.expected_gradients")
    with pytest.raises(ImportError):
        resolve("no_such_package.f")
    assert "test_names_that_do_not_exist" not in defined_tests("test_paper_checks.py")
    assert "test_names_that_do_not_exist_are_noticed" in defined_tests("test_paper_checks.py")


def test_the_command_writes_the_table_and_the_certificates_and_nothing_else(found, tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("paper_checks", ROOT / "experiments" / "paper_checks.py")
    assert spec is not None and spec.loader is not None
    command = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(__import__("sys").modules, "paper_checks", command)
    spec.loader.exec_module(command)
    monkeypatch.chdir(tmp_path)
    left_over = tmp_path / "results" / "certified" / "gone.json"
    left_over.parent.mkdir(parents=True)
    left_over.write_text("{}")
    page = tmp_path / "README.md"
    page.write_text(f"before\n{BEGIN}\nthe list before\n{END}\nafter\n")
    command.main(command.Config(claim="E6.clip"))
    assert sorted(tmp_path.rglob("*.md")) == [page]
    with pytest.raises(ValueError, match=r"no claim 'E6.clop'; near ones: E6.clip"):
        command.main(command.Config(claim="E6.clop"))
    command.main(command.Config())
    assert "the list before" in page.read_text()
    command.main(command.Config(page=page))
    written = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert written == {"paper_checks.md", "README.md"} | {
        f"results/certified/{name}" for name in certificates(found)
    }
    assert (tmp_path / "paper_checks.md").read_text(encoding="utf-8") == document(found)
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n") and text.endswith("\nafter\n") and findings_list(found) in text
    assert "the list before" not in text


def test_the_list_on_the_front_page_is_what_the_checks_give_now(found):
    page = committed("README.md")
    assert with_findings(page, found) == page, "run `python experiments/paper_checks.py --page README.md`"
    # Partner: a finding that no longer fails is a different page.
    changed = dataclasses.replace(found["E7.vanish"], verdict=Verdict.HOLDS)
    assert with_findings(page, found | {"E7.vanish": changed}) != page


def test_every_claim_that_does_not_hold_exactly_has_one_line_on_the_front_page(found):
    lines = [line for line in findings_list(found).splitlines() if line.startswith("- ")]
    listed = [re.match(r"- \[([^]]+)\]\(([^)]+)\)", line).groups() for line in lines]
    assert sorted(name for name, _ in listed) == sorted(
        name for name, finding in found.items() if finding.verdict is not Verdict.HOLDS
    )
    assert all((ROOT / link).exists() for _, link in listed)


@pytest.mark.parametrize("page", ["no marks", f"{END} {BEGIN}", f"{BEGIN} {END} {BEGIN} {END}"])
def test_a_page_without_its_marks_is_refused(found, page):
    with pytest.raises(ValueError, match=r"each once; put them back in"):
        with_findings(page, found)


def test_neither_dates_nor_seconds_nor_hosts_are_written(found):
    text = document(found) + "".join(certificates(found).values())
    assert not re.search(r"\b20\d\d-\d\d-\d\d\b|\b\d+ seconds\b|/work|/tmp|/home", text)
