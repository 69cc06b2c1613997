"""Shell completion: what a Tab offers."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from basisgen.cli import main


def _offered(words: list[str], incomplete: str) -> list[str]:
    complete = ShellComplete(main, {}, "basisgen", "_BASISGEN_COMPLETE")
    return [item.value for item in complete.get_completions(words, incomplete)]


def test_commands_and_option_values_are_completed() -> None:
    assert {"compile", "verify", "new"} <= set(_offered([], ""))
    assert _offered(["new", "x", "--preset"], "seg") == ["segmentation"]
    assert _offered(["show", "1", "2", "--format"], "") == ["text", "latex", "json"]
    for command in ("conv", "defect"):
        assert _offered([command, "1x0", "1x1", "--family"], "o") == ["optimal"]
    assert _offered(["conv", "1x0", "1x1", "--execution"], "") == ["auto", "dense", "separable"]


@pytest.mark.parametrize("command", ["verify", "report"])
def test_packages_are_completed(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for place in ("generated/first", "elsewhere/second"):
        Path(place).mkdir(parents=True)
        Path(place, "manifest.json").touch()
    Path("generated/none").mkdir()
    assert _offered([command], "") == ["generated/first"]
    assert _offered([command], "generated/f") == ["generated/first"]
    assert _offered([command], "elsewhere/") == ["elsewhere/second"]
    assert _offered([command], "nowhere") == ["nowhere"]  # a directory: the shell's own completion
