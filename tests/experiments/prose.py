"""Which numbers stand in a text, other than those that name or define something."""

import ast
import re
from collections.abc import Iterable

import nbformat

# What is no prose: code, tags, targets of links, and the findings, which experiments/paper_checks.py writes.
UNREAD = (
    r"<!-- findings.*?end of findings -->",
    r"```.*?```",
    r"^(?: {4}).*$",
    r"`[^`\n]*`",
    r"<[a-z/][^>]*>",
    r"\]\([^)\s]*\)",
    r"https?://\S+",
)

# Numbers that no experiment finds.
STRUCTURAL = (
    r"arXiv:\d{4}\.\d{4,5}(?: v\d)?",
    # Places in the paper.
    r"(?i:\b(?:eq|sec)\.|\b(?:theorem|figure|algorithm)s?) \d+(?:\.\d+)?"
    r"(?:(?:,| and| or| to)(?: eq\.)? \d+(?:\.\d+)?)*(?!\S*%)",
    # Names, such as Qwen3-1.7B-Base, k3, theta_1, float64, Apache-2.0, count-mod-3, LaTeX commands.
    r"(?<![\w.])\\?[A-Za-z_](?:[\w-]*\d[\w.-]*\w|\w*\d)",
    # Formulas: 1/G, O(1/G^2), -sd²/2, 1/(G |s|), A < 0, 1 - 1/G, T = 1.
    r"1/\(?\\?[A-Za-z|{]",
    r"sd\$?(?:²|\^2)?\$?/2",
    r"\^\{?-?\d",
    r"A\$? ?(?:<|>=) ?0",
    r"\bfar from 1\b",
    r"\bexit code is [01]\b",
    # A confidence level.
    r"\b95 ?\\?%(?= |$)",
)

# In titles of figures, too: the settings that a panel shows, and what 0 and 1 stand for on its axes.
SETTINGS = (
    r"[A-Za-z}|]\$? ?(?:=|>|\\to) ?\$?\d+(?:\.\d+)?",
    r"\b\d(?:\.\d)?B\b",
    r"\boptimum: 0\.5",
    r"\b3 times the learning rate",
    r"\bby 0 until|, 0 at\b|\(1 is tight\)|\bclose to 1\b|\bweight 1\b|\$2\(J",
    r"(?i:sampling error [12])\b",
)

NUMBER = re.compile(r"\d[\d.,]*(?:e[-+]?\d+)?\s?%?")


def numbers(text: str, computed: Iterable[str] = (), allowed: Iterable[str] = STRUCTURAL) -> list[str]:
    """Every number of `text` that is neither `allowed` nor in a `computed` phrase, with what surrounds it."""
    for pattern in UNREAD:
        text = re.sub(
            pattern, " ", text, flags=re.DOTALL | re.MULTILINE if ".*?" in pattern else re.MULTILINE
        )
    text = " ".join(text.split())
    for phrase in computed:
        text = text.replace(" ".join(phrase.split()), " ")
    for pattern in allowed:
        text = re.sub(pattern, " ", text)
    return [
        f"{hit[0].strip()} in '{text[max(0, hit.start() - 40) : hit.end() + 25]}'"
        for hit in NUMBER.finditer(text)
    ]


def sentences(code: str) -> list[str]:
    """The texts in Python code, without what f-strings compute: every constant with a space in it."""
    found: list[str] = []

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value.strip():
            found.append(node.value)
        for name, value in ast.iter_fields(node):
            if name == "format_spec":
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    visit(child)

    visit(ast.parse(code))
    return found


def titles(code: str) -> list[str]:
    """The texts that a module of plots writes above its figures and panels and below them."""
    tree = ast.parse(code)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    named = [call for call in calls if isinstance(call.func, ast.Attribute)]
    written = [call for call in named if call.func.attr in ("suptitle", "set_title", "supxlabel")]
    names = {node.id for call in written for node in ast.walk(call) if isinstance(node, ast.Name)}
    constants = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and {getattr(target, "id", "") for target in node.targets} & names
    ]
    return [text for node in (*written, *constants) for text in sentences(ast.unparse(node))]


def of_notebook(notebook: nbformat.NotebookNode) -> list[str]:
    """The prose that somebody typed: cells of text, and texts in the code."""
    typed = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return typed + [text for source in code for text in sentences(source)]
