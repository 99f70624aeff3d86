"""Whatever anybody wrote reaches a page as text: nothing gives a browser markup, or a script with somebody's words in it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import quantry_dashboard

ROOT = Path(quantry_dashboard.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))
MARKUP = frozenset({"html", "markdown", "mermaid", "restructured_text", "add_body_html", "code", "chat_message", "notify"})
"""Of NiceGUI, what takes markup, or may."""
HEADS = frozenset({"frame.py", "datasets.py"})
"""Modules that add to a page's head: names of this package's own files alone."""
SINKS = ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "v-html", "eval(", "new Function", "DOMParser", "javascript:")
SCRIPTS = frozenset({"run_javascript", "js_handler"})


def scripts_of(tree: ast.AST) -> Iterator[ast.expr]:
    """Yields what is given to a browser to run."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Attribute) and node.func.attr in SCRIPTS:
                yield node.args[0]
            yield from (keyword.value for keyword in node.keywords if keyword.arg in SCRIPTS)


def is_harmless(part: ast.expr, tree: ast.AST) -> bool:
    """Tells whether a part of a script holds no words of anybody's: a constant, an element's number, JSON, or what is made of those."""
    match part:
        case ast.JoinedStr(values=values):
            made_of = [value.value if isinstance(value, ast.FormattedValue) else value for value in values]
        case ast.BinOp(left=left, op=ast.Mod()):
            made_of = [left]
        case ast.Call(func=ast.Attribute(attr="format", value=template), keywords=keywords):
            made_of = [template, *(keyword.value for keyword in keywords)]
        case ast.Name(id=name) if not name.isupper():
            made_of = [node.value for node in ast.walk(tree) if isinstance(node, ast.Assign) and _names(node.targets, name)]
        case _:
            return _is_plain(part)
    return bool(made_of) and all(is_harmless(one, tree) for one in made_of)


def _is_plain(part: ast.expr) -> bool:
    match part:
        case ast.Constant() | ast.Name() | ast.Attribute(attr="id"):
            return True
        case ast.Call(func=ast.Attribute(attr="dumps", value=ast.Name(id="json"))):
            return True
    return False


def _names(targets: list[ast.expr], name: str) -> bool:
    return any(isinstance(target, ast.Name) and target.id == name for target in targets)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_makes_markup_or_scripts_of_words(path: Path) -> None:
    tree = ast.parse(path.read_text())
    called = {node.func.attr for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)}
    assert not called & MARKUP
    assert "add_head_html" not in called or path.name in HEADS
    for script in scripts_of(tree):
        assert is_harmless(script, tree), ast.unparse(script)


@pytest.mark.parametrize("path", sorted((ROOT / "static").glob("*.js")), ids=lambda path: path.name)
def test_no_script_makes_markup_of_texts(path: Path) -> None:
    text = path.read_text()
    assert not [sink for sink in SINKS if sink in text]


@pytest.mark.parametrize(
    ("source", "is_found_harmless"),
    [
        ("ui.run_javascript(f'go({json.dumps(name)})')", True),
        ("ui.run_javascript(f'go({name})')", False),
        ("name = json.dumps(given)\nui.run_javascript(f'go({name})')", True),
        ("name = given\nui.run_javascript(f'go({name})')", False),
        ("node.on('click', js_handler=f'() => close({node.id})')", True),
        ("node.on('click', js_handler=f'() => close({job.id_text})')", False),
    ],
)
def test_what_this_looks_for_is_found(source: str, is_found_harmless: bool) -> None:
    tree = ast.parse(source)
    assert all(is_harmless(script, tree) for script in scripts_of(tree)) is is_found_harmless
