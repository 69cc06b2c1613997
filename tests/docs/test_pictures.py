"""The pictures of the documentation are made by the command that says so, and every picture shown exists."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import REPOSITORY
from tests.docs.page import PAGES
from tests.report.chromium import find_chromium

IMAGES = REPOSITORY / "docs" / "images"


def test_every_picture_and_page_linked_exists() -> None:
    for name, page in PAGES.items():
        for target in re.findall(r"\]\(([^)#\s]*[./][^)#\s]*)", page.read_text("utf-8")):
            assert target.startswith("https://") or (page.parent / target).is_file(), f"{name} links to {target}"


def test_every_picture_is_small() -> None:
    for picture in IMAGES.glob("*.png"):
        assert picture.stat().st_size < 200_000, picture


@pytest.mark.slow
def test_the_command_makes_the_pictures(tmp_path: Path) -> None:
    command = [sys.executable, "docs/make_pictures.py", str(tmp_path)]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)
    made = {path.name for path in tmp_path.glob("*.png")}
    assert made == {"fields.png", "networks.png", "signals.png", "grids.png", "mixing.png"} | (
        {"report.png", "report-dark.png", "report-phone.png"} if find_chromium() else set()
    )
    for name in made:
        with Image.open(tmp_path / name) as new, Image.open(IMAGES / name) as committed:
            assert new.width == committed.width and len(new.convert("RGB").getcolors(1 << 20) or []) > 20
