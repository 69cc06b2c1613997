"""The site: builds strictly, has no dead link, asks nothing of any network, and names everything public."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urldefrag

import pytest

import runtime
from tests.conftest import REPOSITORY
from tests.docs.checkout import copy_files
from tests.report.chromium import Browser, find_chromium

pytestmark = pytest.mark.slow
pytest.importorskip("mkdocs", reason="the docs extra is not installed")

LOADED = {"img": "src", "script": "src", "link": "href", "iframe": "src", "source": "src"}  # tags that fetch


class _Page(HTMLParser):
    """What a page loads, where it links, and its anchors."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        self.anchors |= {given[key] for key in ("id", "name") if given.get(key)}  # type: ignore[misc]
        if tag == "a" and given.get("href"):
            self.links.append(given["href"] or "")
        elif tag in LOADED and given.get(LOADED[tag]) and given.get("rel") not in ("canonical", "prev", "next"):
            self.loads.append(given[LOADED[tag]] or "")


def _build(root: Path, site: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)


@contextmanager
def _served(site: Path) -> Iterator[str]:
    """The site at an address of this machine."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("site")
    result = _build(REPOSITORY, place)
    assert result.returncode == 0, result.stderr
    return place


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, _Page]:
    return {path: _Page(path.read_text("utf-8")) for path in site.rglob("*.html")}


def test_every_link_leads_somewhere(site: Path, pages: dict[Path, _Page]) -> None:
    dead = []
    for path, page in pages.items():
        for link in page.links:
            address, anchor = urldefrag(link)
            if re.match(r"[a-z]+:", address):
                assert address.startswith("https://"), f"{path.name}: {link}"
                continue
            target = (path.parent / unquote(address)).resolve() if address else path
            target = target / "index.html" if target.is_dir() else target
            known = pages.get(target)
            if not target.exists() or (anchor and known and unquote(anchor) not in known.anchors):
                dead.append(f"{path.relative_to(site)}: {link}")
    assert not [link for link in dead if not link.startswith("404")], dead


def test_nothing_is_loaded_from_elsewhere(site: Path, pages: dict[Path, _Page]) -> None:
    for path, page in pages.items():
        for address in page.loads:
            assert not re.match(r"[a-z]+:|//", address), f"{path.name} loads {address}"
            if path.name != "404.html":
                assert (path.parent / unquote(urldefrag(address)[0])).exists(), f"{path.name} lacks {address}"
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//|@import", style.read_text("utf-8")), style


def test_the_reference_names_everything_public(pages: dict[Path, _Page]) -> None:
    anchors = set().union(*(page.anchors for page in pages.values()))
    last = {anchor.rsplit(".", 1)[-1] for anchor in anchors if anchor.startswith("runtime.")}
    assert set(runtime.__all__) <= last
    for name in ("runtime.train.train", "runtime.testing.assert_equivariant", "basisgen.pipeline.compile_package"):
        assert name in anchors


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_pages_in_a_browser_ask_nothing_of_the_network(site: Path, tmp_path: Path, width: int, scheme: str) -> None:
    chromium = find_chromium()
    if chromium is None:
        pytest.skip("no Chromium")
    with _served(site) as home, Browser(chromium, tmp_path) as browser:
        for name in ("index.html", "start.html", "coming-from.html", "api/layers.html"):
            browser.open(f"{home}/{name}", width, scheme)
            asked = [event["request"]["url"] for event in browser.reported("Network.requestWillBeSent")]
            assert not [url for url in asked if not url.startswith((home, "data:", "blob:"))]
            assert not browser.reported("Runtime.exceptionThrown")
            errors = [e["entry"]["text"] for e in browser.reported("Log.entryAdded") if e["entry"]["level"] == "error"]
            assert not errors
            assert browser.evaluate("document.documentElement.scrollWidth") <= width
            assert browser.evaluate("[...document.images].every(image => image.naturalWidth > 0)")


def test_a_dead_link_fails_the_build(tmp_path: Path) -> None:
    copy_files(tmp_path)
    assert _build(tmp_path, tmp_path / "site").returncode == 0
    with (tmp_path / "docs" / "start.md").open("a") as page:
        page.write("\n[nowhere](nowhere.md)\n")
    result = _build(tmp_path, tmp_path / "site")
    assert result.returncode and "nowhere.md" in result.stderr
