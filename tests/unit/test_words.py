"""Words that code, help and prose do not use any more, each with what is said instead.

    python tests/unit/test_words.py          # lowers the counts of words_left.txt to what is still found

words_left.txt lists, by file, how often such a word is still found. A count can only fall: a word in a new
file, or once more in an old one, fails the test. Nothing is added to that list by hand.
"""

import json
import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LEFT = Path(__file__).with_name("words_left.txt")

WORDS = {
    "asked": (r"\b[aA]sked\b|Asked\b", "request"),
    "settle": (r"\bsettle[sd]?\b", "choose_method, decide, write back"),
    "left the numbers": (r"\b(?:left|leaves?|leaving) the numbers\b", "became non-finite"),
    "worth": (r"(?<![a-z])worth(?![a-z])", "value"),
    "rests": (r"\b(?:at|to) rest\b|\brests(?! on)\b|\bresting\b", "fixed point"),
    "law": (r"(?<!power )(?<!power_)(?<![a-z])[lL]aws?(?![a-z])", "distribution"),
    "less": (r"\bless (?:the|that|those|its|KL|RKL|left|right|J)\b", "minus"),
    "programme": (r"(?<![a-z])programmes?(?![a-z])", "dynamic"),
    "forest": (r"\bforests?\b", "prompt graphs"),
    "unrolled": (r"\bunrolled\b", "many policies"),
    "ascending": (r"\bascending\b", "inner step"),
    "enumerated world": (r"\benumerated world\b", "toy world"),
}
"""Name of a word: the pattern that finds it, and what is said instead."""

HISTORY = {"CHANGELOG.md", "tests/unit/test_words.py", "tests/unit/words_left.txt"}
"""Files that name old words because it is their matter."""

KINDS = {".py", ".md", ".ipynb", ".yaml", ".toml"}


def texts() -> dict[str, str]:
    """Every tracked file that somebody reads; of a notebook its cells without their outputs."""
    names = subprocess.check_output(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, text=True)
    found = {}
    for name in sorted(set(names.splitlines())):
        path = ROOT / name
        if path.suffix in KINDS and name not in HISTORY and path.is_file():
            text = path.read_text(encoding="utf-8")
            found[name] = cells(text) if path.suffix == ".ipynb" else text
    return found


def cells(notebook: str) -> str:
    return "\n".join("".join(cell["source"]) for cell in json.loads(notebook)["cells"])


def counted(found: dict[str, str]) -> Counter[tuple[str, str]]:
    """How often each word stands in each file; a line break counts as a blank."""
    plain = {name: " ".join(text.replace("#", " ").split()) for name, text in found.items()}
    counts = {
        (name, word): len(re.findall(pattern, text))
        for name, text in plain.items()
        for word, (pattern, _) in WORDS.items()
    }
    return Counter({place: count for place, count in counts.items() if count})


def allowed() -> Counter[tuple[str, str]]:
    lines = (line.rsplit(": ", 2) for line in LEFT.read_text(encoding="utf-8").splitlines())
    return Counter({(name, word): int(count) for name, word, count in lines})


def beyond(found: Counter[tuple[str, str]], allowed: Counter[tuple[str, str]]) -> list[str]:
    return [
        f"{name}: {word!r} {found[name, word]} times, {allowed[name, word]} known; say {WORDS[word][1]!r}"
        for name, word in sorted(found - allowed)
    ]


def test_no_word_comes_back():
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout: which files are the project's is not known")
    assert beyond(counted(texts()), allowed()) == []


def test_the_list_names_only_files_and_words_that_there_are():
    assert {word for _, word in allowed()} <= set(WORDS)


def test_a_word_that_comes_back_is_named_with_what_is_said_instead():
    found = counted(
        {"a.py": "# what a response is\n# worth; a power law, the rest, less than", "b.md": "its law"}
    )
    assert beyond(found, Counter()) == [
        "a.py: 'worth' 1 times, 0 known; say 'value'",
        "b.md: 'law' 1 times, 0 known; say 'distribution'",
    ]
    assert beyond(found, Counter({("a.py", "worth"): 1, ("b.md", "law"): 2})) == []


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("asked", "Asked(x)"),
        ("settle", "it settles them"),
        ("left the numbers", "theta left the\n    # numbers"),
        ("rests", "comes to rest"),
        ("law", "outcome_law"),
        ("less", "right less left"),
        ("programme", "programme_weights"),
    ],
)
def test_each_word_is_found(word, text):
    assert set(counted({"a.py": text})) == {("a.py", word)}


def main() -> None:
    found = counted(texts())
    known = allowed() if LEFT.exists() else found
    lines = [f"{name}: {word}: {count}" for (name, word), count in sorted((found & known).items())]
    LEFT.write_text("\n".join([*lines, ""]), encoding="utf-8")
    print(f"{sum((found & known).values())} words left in {len({name for name, _ in found & known})} files")


if __name__ == "__main__":
    main()
