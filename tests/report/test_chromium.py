"""The page in a real browser: no error, no request, every picture, nothing too wide, nothing too small or too pale."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import Browser, find_chromium

from basisgen.commands.report.page import report

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_chromium() is None, reason="no Chromium here: install chromium or google-chrome"),
]

SMALLEST_TEXT = 11  # CSS pixels
LEAST_CONTRAST = 4.5  # WCAG 2.2, level AA

_PALE = """
(() => {
  const channel = v => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const parse = text => { const v = text.match(/[\\d.]+/g).map(Number); return v.length < 4 ? [...v, 1] : v; };
  const behind = element => {
    const layers = [];
    for (let e = element; e; e = e.parentElement) layers.push(parse(getComputedStyle(e).backgroundColor));
    return layers.reverse().reduce((below, [r, g, b, a]) =>
      [r, g, b].map((v, i) => v * a + below[i] * (1 - a)), [255, 255, 255]);
  };
  const pale = [];
  for (const e of document.querySelectorAll("body *:not(math *):not(svg *)")) {
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())) continue;
    const style = getComputedStyle(e), a = light(parse(style.color)), b = light(behind(e));
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < LEAST || parseFloat(style.fontSize) < SMALLEST)
      pale.push([e.tagName, e.className, contrast, style.fontSize]);
  }
  return pale;
})()
""".replace("LEAST", str(LEAST_CONTRAST)).replace("SMALLEST", str(SMALLEST_TEXT))
_OPEN_ALL = "document.querySelectorAll('details').forEach(d => d.open = true)"
_TOO_WIDE = """
[...document.querySelectorAll("body *")].filter(e => {
  for (let p = e; p; p = p.parentElement) if (["auto", "hidden"].includes(getComputedStyle(p).overflowX)) return false;
  return e.getBoundingClientRect().right > document.documentElement.clientWidth + 0.5;
}).map(e => e.tagName + "." + e.className)
"""
_CUT = """
[...document.querySelectorAll("table")].filter(t => t.getBoundingClientRect().width > 0).filter(t =>
  t.scrollWidth > t.parentElement.clientWidth + 1 || t.getBoundingClientRect().right > innerWidth
).map(t => t.textContent.trim().slice(0, 40))
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    executable = find_chromium()
    assert executable is not None
    with Browser(executable, tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module", params=["plain", "hard"])
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a package of convolutions."""
    return _written(request, tmp_path_factory)


@pytest.fixture(scope="module", params=["plain", "hard", "fields"])
def any_page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _written(request, tmp_path_factory)


def _written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / f"{request.param}.html"
    path.write_text(report(request.getfixturevalue(request.param)), "utf-8")
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_in_a_browser(browser: Browser, any_page: Path, width: int, scheme: str) -> None:
    browser.open(any_page.as_uri(), width, scheme)
    assert complaints(browser) == []
    assert requests(browser) == [any_page.as_uri()]

    pictures = browser.evaluate("[...document.images].map(i => [i.complete, i.naturalWidth, i.clientWidth])")
    assert bool(pictures) == (any_page.stem != "fields")  # filters are; graphs are drawings
    assert all(complete and natural > 0 and shown > 50 for complete, natural, shown in pictures)
    browser.evaluate(_OPEN_ALL)
    boxes = browser.evaluate(
        "[...document.querySelectorAll('svg, math')].map(e => e.getBoundingClientRect()).map(b => [b.width, b.height])"
    )
    assert boxes and all(across > 5 and high > 5 for across, high in boxes)

    assert browser.evaluate("innerWidth") == width
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.evaluate(_TOO_WIDE) == []
    assert browser.evaluate(_CUT) == []
    assert browser.evaluate(_PALE) == []
    background = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")


def test_matrices_have_their_rows_and_columns(browser: Browser, page: Path) -> None:
    """MathML is laid out, not shown as a line of text: the cells of a 3 x 1 kernel stand above one another."""
    browser.open(page.as_uri(), 1280)
    browser.evaluate(_OPEN_ALL)
    tops = browser.evaluate(
        "[...document.querySelectorAll('mtable')].filter(t => t.children.length === 3 && t.children[0].children.length"
        " === 1)[0].querySelectorAll('mtd').values().map(c => c.getBoundingClientRect().top).toArray()"
    )
    assert len(tops) == 3 and tops[0] < tops[1] < tops[2]


def test_the_checks_see_a_page_that_is_wrong(browser: Browser, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.html"
    wrong.write_text(
        "<!doctype html><meta name='viewport' content='width=device-width'>"
        "<img src='http://127.0.0.1:9/picture.png'><p style='color: #ccc; font-size: 6px'>pale</p>"
        "<div style='width: 900px'>wide</div>"
        "<div style='overflow-x: auto'><table style='width: 600px'><tr><td>cut</table></div>"
        "<script>console.error('broken'); missing()</script>"
    )
    browser.open(wrong.as_uri(), 390)
    assert any("broken" in complaint for complaint in complaints(browser))
    assert any("missing" in complaint for complaint in complaints(browser))
    assert "http://127.0.0.1:9/picture.png" in requests(browser)
    assert browser.evaluate("document.images[0].naturalWidth") == 0
    assert browser.evaluate(_PALE)[0][0] == "P"
    assert browser.evaluate(_TOO_WIDE) == ["DIV."]
    assert browser.evaluate(_CUT) == ["cut"]


def complaints(browser: Browser) -> list[str]:
    """Everything the console shows, exceptions included."""
    return [str(event) for kind in _CONSOLE for event in browser.reported(kind)]


_CONSOLE = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")


def requests(browser: Browser) -> list[str]:
    """Every address asked for, but what the page carries in itself."""
    asked = [event["request"]["url"] for event in browser.reported("Network.requestWillBeSent")]
    return [url for url in asked if not url.startswith("data:")]
