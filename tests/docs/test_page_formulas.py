"""Formulas of the pages: TeX between dollars becomes MathML, and what MathML has not is an error of the build."""

from __future__ import annotations

import importlib.util
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tests.conftest import REPOSITORY

pytest.importorskip("mkdocs", reason="the docs extra is not installed")
markdown = pytest.importorskip("markdown")


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_hooks", REPOSITORY / "docs" / "hooks.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _html(hooks: ModuleType, text: str) -> str:
    extensions = {"pymdownx.arithmatex": {"generic": True}}
    page: Any = SimpleNamespace(file=SimpleNamespace(src_uri="page.md"))
    content = markdown.markdown(text, extensions=["tables", *extensions], extension_configs=extensions)
    return str(hooks.on_page_content(content, page, config=None, files=None))


def test_an_equation_has_its_number_and_prose_none(hooks: ModuleType) -> None:
    html = _html(hooks, "Let $a < b$ be.\n\n$$a^2 \\tag{1}$$\n\n`$HOME` costs $5.")
    assert html.count("<math") == 2 and 'id="equation-1">(1)</span>' in html
    assert "&lt;" in html or "&#x0003C;" in html
    assert "<code>$HOME</code> costs $5." in html and "arithmatex" not in html


def test_inline_code_breaks_at_spaces_but_not_behind_the_hyphens_of_an_option(hooks: ModuleType) -> None:
    html = _html(hooks, "Say `show A -v --degrees 1`; not `4x0 + 2x1`.\n\n    show --degrees 1\n")
    word = '<span class="word">{}</span>'.format
    assert f"<code>show A {word('-v')} {word('--degrees')} 1</code>" in html
    assert "<code>4x0 + 2x1</code>" in html and html.count('class="word"') == 2
    assert "word" not in _html(hooks, f"`--{'a' * 40}`")  # a phone has no room for it


def test_a_command_that_mathml_has_not_stops_the_build(hooks: ModuleType) -> None:
    with pytest.raises(hooks.PluginError, match=r"page\.md: a formula has a command that MathML has not: \\nonsense"):
        _html(hooks, "$\\nonsense{x}$")


@pytest.mark.parametrize("path", sorted((REPOSITORY / "docs").glob("*.md")), ids=lambda path: path.stem)
def test_no_formula_of_a_page_is_left_as_tex(hooks: ModuleType, path: Any) -> None:
    text = path.read_text("utf-8")
    html = _html(hooks, text)
    assert "arithmatex" not in html and html.count("<math") >= text.count("$$") // 2
