"""What mkdocs does besides: formulas become MathML, pages beside the code of benchmarks and examples pages of the site.

Formulas are written in TeX between dollars, as repositories show them too, and the site needs no script for them. Pages
keep their addresses in the repository, and `docs/` is the root of the site: links between the two are rewritten.
Links of pages elsewhere to files outside the site, code and data, become plain names.
"""

from __future__ import annotations

import posixpath
import re
from html import escape, unescape
from pathlib import Path

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
TAG = re.compile(r"\\tag\{(\w+)\}")
CODE = re.compile(r"(<code>)([^<]*-[^<]*)(</code>)(?!</pre>)")
HYPHENED = re.compile(r"(?<!\S)(?=\S{1,32}(?!\S))\S*-\S*")  # a longer word has to break on a phone
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#:\s]+)(#[^)\s]*)?\)")


def _pages() -> list[Path]:
    """Every page of benchmark results, and the README of the examples and of each."""
    return sorted([*ROOT.glob("benchmarks/results/**/*.md"), *ROOT.glob("examples/**/README.md")])


def _address(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages and the pictures beside them or in folders below."""
    for page in _pages():
        for path in (page, *sorted(page.parent.rglob("*.png")), *sorted(page.parent.rglob("*.svg"))):
            if files.get_file_from_path(_address(path)) is None:
                kind = InclusionLevel.NOT_IN_NAV
                files.append(File.generated(config, _address(path), abs_src_path=str(path), inclusion=kind))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lists the pages at the end of the page of results; adapts the links from and to them."""
    if page.file.src_uri == "results.md":
        titles = {_address(path): path.read_text("utf-8").splitlines()[0].lstrip("# ") for path in _pages()}
        markdown += "\n" + "\n".join(f"* [{title}](../{address})" for address, title in titles.items()) + "\n"
    place = page.file.src_uri
    elsewhere = place.startswith(("benchmarks/", "examples/"))
    folder = posixpath.dirname(place if elsewhere else f"docs/{place}")  # in the repository

    def adapted(match: re.Match[str]) -> str:
        image, text, target, anchor = match.groups()
        address = posixpath.normpath(posixpath.join(folder, target)).removeprefix("docs/")
        if files.get_file_from_path(address) is None:
            return text if elsewhere else match[0]  # on pages of our own a dead link is an error
        return f"{image}[{text}]({posixpath.relpath(address, posixpath.dirname(place))}{anchor or ''})"

    return LINK.sub(adapted, markdown)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Formulas as MathML, equations with their numbers; inline code breaks at spaces, not behind a hyphen."""

    def as_mathml(match: re.Match[str]) -> str:
        element, tex = match[1], unescape(match[2])
        numbers = [escape(number) for number in TAG.findall(tex)]
        formula = convert(TAG.sub("", tex).strip(), display="block" if element == "div" else "inline")
        if "\\" in unescape(formula):
            raise PluginError(f"{page.file.src_uri}: a formula has a command that MathML has not: {tex}")
        label = "".join(f'<span class="number" id="equation-{number}">({number})</span>' for number in numbers)
        return f'<{element} class="formula">{formula}{label}</{element}>'

    def whole_words(match: re.Match[str]) -> str:
        before, code, after = match.groups()
        return before + HYPHENED.sub(r'<span class="word">\g<0></span>', code) + after

    return CODE.sub(whole_words, FORMULA.sub(as_mathml, html))
