"""What `basisgen verify` would take too long for is refused before anything is computed, and done when asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from basisgen.cli import main
from basisgen.commands import recompile
from basisgen.commands.effort import _NUMBERS, effort
from basisgen.errors import EffortError
from basisgen.spec import KINDS, PackageSpec, parse_package
from tests.verify.conftest import Files, write
from tests.verify.test_bombs import SPECS

MANY = "".join(
    f'[[layer]]\nkind = "transform"\nname = "Grid{L}"\nin = "1x0..{L - 1}"\ngrid = "{grid}"\n'
    for L, grid in ((100, "mw"), (128, "gauss"), (127, "mw"))
)
PRODUCT = '[[layer]]\nkind = "product"\nname = "Wide"\nin = "1x0..30"\nmixing = "all"\n'
PAIRS = 'kind = "conv"\nname = "Pairs"\nin = "0..12"\nout = "0..12"\nkernel_size = 3\n'
TAPS = 'kind = "conv"\nname = "Taps"\nin = "0 + 4"\nout = "0 + 4"\nkernel_size = 21\n'


def _spec(layers: str) -> PackageSpec:
    return parse_package(f'name = "long"\n{layers}')


def _manifest(spec: PackageSpec) -> dict[str, object]:
    import basisgen

    layers = [layer.describe() for layer in spec.layers]
    return {"basisgen": basisgen.__version__, "name": spec.name, "command": spec.command, "spec": layers}


def test_every_kind_has_an_estimate() -> None:
    assert _NUMBERS.keys() == KINDS.keys()


@pytest.mark.parametrize("spec", SPECS, ids=lambda path: path.stem)
def test_what_is_committed_is_within_the_budget(spec: Path) -> None:
    assert 0 <= sum(effort(parse_package(spec.read_text())).values()) < recompile.BUDGET / 2


@pytest.mark.parametrize(
    ("layers", "name"),
    [(MANY, "Grid127"), (PRODUCT, "Wide"), (f"[[layer]]\n{PAIRS}", "Pairs"), (f"[[layer]]\n{TAPS}", "Taps")],
)
def test_long_work_is_refused_before_it_begins(layers: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recompile, "compile_package", lambda spec: pytest.fail("it was begun"))
    with pytest.raises(EffortError, match=rf"layer '{name}' takes about \d+ seconds to check.*--long"):
        recompile.recompile(_manifest(_spec(layers)))


def test_transforms_within_the_budget_are_those_measured_to_take_less_than_half_a_minute() -> None:
    layer = '[[layer]]\nkind = "transform"\nname = "Grid"\nin = "1x0..{}"\ngrid = "{}"\n'
    seconds = {of: sum(effort(_spec(layer.format(*of))).values()) for of in ((127, "gauss"), (111, "mw"), (127, "mw"))}
    assert max(seconds[127, "gauss"], seconds[111, "mw"]) < recompile.BUDGET < seconds[127, "mw"]


def test_what_layers_share_counts_once() -> None:
    layer = '[[layer]]\nkind = "transform"\nname = "{}"\nin = "{}x0..31"\ngrid = "mw"\n'
    found = effort(_spec(layer.format("A", 1) + layer.format("B", 5)))
    assert found["A"] > 0 and found["B"] == 0


def test_the_command_line_says_what_to_do_and_never_verified(
    tiny: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tiny, tmp_path / "tiny")
    monkeypatch.setattr(recompile, "BUDGET", 0)
    result = CliRunner().invoke(main, ["verify", "--no-run", str(tmp_path / "tiny")])
    assert result.exit_code == 2 and "layer 'Conv1'" in result.output and "--long" in result.output
    assert ": verified" not in result.output
    result = CliRunner().invoke(main, ["verify", "--no-run", "--long", str(tmp_path / "tiny")])
    assert result.exit_code == 0 and ": verified" in result.output
    result = CliRunner().invoke(main, ["report", str(tmp_path / "tiny"), "-o", str(tmp_path / "report.html")])
    assert result.exit_code == 2 and not (tmp_path / "report.html").exists()
