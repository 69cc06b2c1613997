"""The page: it says what the package says, asks nothing of any network, and every snippet on it runs."""

from __future__ import annotations

import base64
import contextlib
import html
import importlib
import io
import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from click.testing import CliRunner, Result
from markup import parse, pixels

from basisgen.cli import main
from basisgen.commands.report import pictures, usage
from basisgen.commands.report.error import STATED, TESTED, WAVELENGTHS, WIDTH, Waves, predicted
from basisgen.commands.report.page import render, report
from basisgen.commands.report.read import Package, read_package
from basisgen.commands.report.turns import named
from basisgen.commands.report.words import in_words
from basisgen.errors import OutputError
from basisgen.pipeline import plan
from basisgen.spec import parse_package
from basisgen.text import percent, times
from basisgen.verify.canonical import to_json
from basisgen.verify.manifest import Term
from basisgen.verify.statement import Irrep
from basisgen.volumes.sampling.defect import measure
from basisgen.volumes.sampling.families import FilterGroup
from basisgen.volumes.sampling.grid import VoxelGrid
from basisgen.volumes.sampling.shells import Shells

VOID = {"meta", "img", "br", "hr", "link", "input"}


class Reader(HTMLParser):
    """Tags, their attributes, ids and text; tags that are not closed in order are an error."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="session")
def plain_page(plain: Path) -> str:
    return report(plain)


@pytest.fixture(scope="session")
def hard_page(hard: Path) -> str:
    return report(hard)


@pytest.fixture(scope="session")
def package(plain: Path) -> Package:
    return read_package(plain)


@pytest.fixture(params=["plain_page", "hard_page"])
def page(request: pytest.FixtureRequest) -> str:
    text: str = request.getfixturevalue(request.param)
    return text


def test_the_page_refers_to_nothing_but_itself(page: str) -> None:
    tags = Reader(page).tags
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & {tag for tag, _ in tags}
    ids = {attributes["id"] for _, attributes in tags if "id" in attributes}
    for tag, attributes in tags:
        assert not [name for name in attributes if name.startswith("on")], tag
        assert (attributes.get("src") or "data:").startswith("data:")
        target = attributes.get("href") or "#layers"
        assert target[0] == "#" and target[1:] in ids
    assert "url(" not in page and "@import" not in page and "://" not in page
    assert "default-src 'none'" in page


def test_formulas_and_drawings_are_well_formed(page: str) -> None:
    for tag in ("math", "svg"):
        found = re.findall(rf"<{tag}\b.*?</{tag}>", page, re.DOTALL)
        assert found
        for markup in found:
            parse(markup)


def test_same_package_same_page(plain: Path, plain_page: str) -> None:
    assert report(plain) == plain_page


def test_the_page_says_what_the_manifest_says(plain: Path, plain_page: str) -> None:
    manifest = json.loads((plain / "manifest.json").read_bytes())
    text = html.unescape(plain_page)
    for name, layer in manifest["layers"].items():
        assert f"{layer['weights']:,} instead of {layer['dense_weights']:,}" in text
        (row,) = re.findall(rf'<tr><td data-label="layer">{name}</td>.*?</tr>', text)
        *_, defect, _, _ = percentages(row)
        assert defect == pytest.approx(layer["defect_of_random_weights"], abs=6e-3)
    degrees = re.findall(r"<h4>.*?(?=<h4>|</section>)", text, re.DOTALL)
    stated = manifest["filters"]["filters_3x3x3"]["defect"].values()
    for shown, degree in zip(degrees, stated, strict=True):
        figures = [degree["random"], degree["worst"], *degree["each"]]
        assert percentages(shown) == pytest.approx(figures, abs=6e-3, rel=0.02)


def test_the_error_is_one_number_in_head_list_and_table(plain: Path, plain_page: str) -> None:
    text, package = html.unescape(plain_page), read_package(plain)
    errors = []
    for layer in package.layers:
        (listed,) = re.findall(rf'<a href="#layer-{layer.name}">.*?</tr>', text)
        (row,) = re.findall(rf'<tr><td data-label="layer">{layer.name}</td>.*?</tr>', text)
        assert percentages(row)[WAVELENGTHS.index(STATED)] == percentages(listed)[-1]
        errors.append(percentages(listed)[-1])
    (card,) = re.findall(r"<li><strong>[^<]*</strong> error at other angles", text)
    assert percentages(card) == [min(errors), max(errors)]


def test_the_error_is_what_assert_equivariant_measures(compile_and_import: Callable[[str], ModuleType]) -> None:
    """Under a narrow envelope, and many fields and directions, so that few voxels and one module are enough."""
    import torch

    from runtime.testing import assert_equivariant

    text = 'name = "many"\n[[conv]]\nname = "Conv"\nin = "6x0 + 4x1"\nout = "6x0 + 4x1 + 4x2"\nkernel_size = 3\n'
    torch.manual_seed(0)
    module, (layer,) = compile_and_import(text).Conv(), plan(parse_package(text)).layers
    few = {"turns": torch.eye(3)[None], "turn_tolerance": 1.0, "batch": 16, "rotations": 6}
    measured = assert_equivariant(module, rotation_size=9, **few).rotation_errors
    assert [wavelength for wavelength, _ in measured] == list(TESTED)
    for wavelength, error in measured:
        defects = measure(layer.filters, Waves(wavelength, width=0.9))
        assert error == pytest.approx(predicted(defects, layer.variance), rel=0.25)
    assert error != pytest.approx(predicted(measure(layer.filters), layer.variance), rel=0.5)  # the control, at 16


@pytest.mark.usefixtures("importable")
def test_the_envelope_is_the_one_of_assert_equivariant_by_default(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from runtime import testing

    widths, random = [], testing.SmoothField.random
    monkeypatch.setattr(
        testing.SmoothField, "random", lambda *a, **k: widths.append(a[2] if len(a) > 2 else 0) or random(*a, **k)
    )
    testing.assert_equivariant(importlib.import_module("plain").Conv1(), rotations=1)
    assert widths[-1] == WIDTH


def percentages(text: str) -> list[float]:
    return [float(figure) / 100 for figure in re.findall(r"([\d.]+) %", text)]


def test_the_layers_are_those_of_the_manifest(plain: Path, hard: Path) -> None:
    for directory in (plain, hard):
        manifest, package = json.loads((directory / "manifest.json").read_bytes()), read_package(directory)
        for layer in package.layers:
            facts = manifest["layers"][layer.name]
            assert (layer.weights, layer.dense_weights) == (facts["weights"], facts["dense_weights"])
            defect = measure(layer.filters).layer(layer.variance)
            assert defect == pytest.approx(facts["defect_of_random_weights"], abs=6e-5)


def test_what_no_kernel_reaches_is_said(hard_page: str) -> None:
    assert "No kernel reaches <code>1x3o</code>" in hard_page
    assert re.search(r"Parity leaves no kernel for .*0e → 1e", hard_page)


def test_every_filter_group_has_its_picture(page: str) -> None:
    assert page.count('<figure class="group">') == page.count("<img ") == page.count('<svg class="radial"')
    assert page.count("data:image/png;base64,") == page.count("<img ")


def test_every_pair_of_the_certificate_is_there(plain: Path, plain_page: str) -> None:
    pairs = json.loads((plain / "certificate.json").read_bytes())["pairs"]
    for pair in pairs:
        assert f"<strong>{pair['in']} → {pair['out']}</strong>" in plain_page
    assert plain_page.count('<div class="kernel">') == sum(len(pair["J"]) for pair in pairs)


# ---- pictures ----


def test_a_slice_shows_x_to_the_right_and_y_up_and_z_from_left_to_right() -> None:
    grid = VoxelGrid((3, 3, 3))
    x, y, z = grid.coordinates
    picture = pictures.slices(FilterGroup(1, "r", np.stack([x, y, z])), grid)
    image = pixels(base64.b64decode(picture.source.partition(",")[2])).astype(int)
    assert image.shape == (11, 11, 4) == (picture.height, picture.width, 4)
    reddish = (image[:, :, 0] - image[:, :, 2]) * image[:, :, 3]  # positive: orange, negative: blue
    tile = [slice(0, 3), slice(4, 7), slice(8, 11)]
    for k in range(3):
        assert (np.sign(reddish[tile[0], tile[k]]) == [[-1, 0, 1]] * 3).all()
        assert (np.sign(reddish[tile[1], tile[k]]) == np.array([[1, 0, -1]] * 3).T).all()
        assert (np.sign(reddish[tile[2], tile[k]]) == k - 1).all()
    assert not image[3].any() and not image[:, 3].any()


def test_the_strongest_tap_is_opaque_and_zero_is_faint() -> None:
    values = np.zeros((1, 3, 3, 3))
    values[0, 1, 1, 1], values[0, 0, 0, 0] = 2.0, -1.0
    image = pixels(base64.b64decode(pictures.slices(FilterGroup(0, "r", values), VoxelGrid((3, 3, 3))).source[22:]))
    assert image[1, 5, 3] == 255 and 100 < image[2, 0, 3] < 200 and image[0, 0, 3] < 50


@pytest.mark.parametrize(("size", "shown"), [(5, 5), (9, 9), (11, 9), (12, 9), (1, 1)])
def test_at_most_nine_slices_the_middle_ones(size: int, shown: int) -> None:
    chosen = pictures.slice_indices(VoxelGrid((3, 3, size)))
    assert len(chosen) == shown and abs((chosen[0] + chosen[-1]) / 2 - (size - 1) / 2) <= 0.5


def test_arrows_point_where_the_vectors_do() -> None:
    grid = VoxelGrid((3, 3, 3))
    x, y, _ = grid.coordinates[:, :, :, 1]
    drawing = parse(pictures.arrows(np.stack([x, y, 0 * x]), grid))
    shafts = [path.get("d", "") for path in drawing if path.get("class") == "shaft"]
    assert len(shafts) == 8 and len([c for c in drawing if c.get("class") == "tap"]) == 9
    for shaft in shafts:
        x0, y0, x1, y1 = map(float, re.findall(r"-?[\d.]+", shaft))
        assert x1**2 + y1**2 > x0**2 + y0**2  # outwards
    up = parse(pictures.arrows(np.stack([0 * x, 0 * x, x]), grid))
    assert [mark.get("class") for mark in up if mark.get("class") != "tap"] == ["away"] * 3 + ["towards"] * 3


def test_the_radial_plot_has_one_dot_for_each_distance_of_an_exact_shell() -> None:
    grid = VoxelGrid((5, 5, 5))
    (group,) = Shells(cutoff=(0, 2, 0)).groups(grid, [2])
    drawing = parse(pictures.radial_plot(group, grid))
    assert len(drawing.findall("circle")) == len({a * a + b * b + c * c for a, b, c in np.ndindex(3, 3, 3)}) - 1


# ---- turns ----

GRIDS = {
    "cube": (VoxelGrid((5, 5, 5)), 24, 48),
    "flat voxels": (VoxelGrid((5, 5, 5), (1, 1, 3)), 8, 16),  # type: ignore[arg-type]
    "flat kernel": (VoxelGrid((5, 3, 5)), 8, 16),
    "three sizes": (VoxelGrid((5, 3, 4)), 4, 8),
    "equal pitch of unequal voxels": (VoxelGrid((3, 3, 3), (2, 1, 1), (1, 2, 2)), 8, 16),  # type: ignore[arg-type]
}


@pytest.mark.parametrize(("grid", "proper", "both"), GRIDS.values(), ids=GRIDS)
def test_the_exact_turns_are_counted_and_named(grid: VoxelGrid, proper: int, both: int) -> None:
    for mirrors, count in ((False, proper), (True, both)):
        turns = grid.exact_turns(mirrors=mirrors)
        assert len(turns) == count == sum(number for number, _ in named(turns))
        assert (turns[0] == np.eye(3)).all() and named(turns)[0] == (1, "the identity")


def test_the_names_of_the_turns_of_flat_voxels() -> None:
    grid = VoxelGrid((5, 5, 3), (1, 1, 3))  # type: ignore[arg-type]
    assert named(grid.exact_turns(mirrors=True)) == [
        (1, "the identity"),
        (3, "half turns about x, y, z"),
        (2, "turns by ±90° about z"),
        (2, "half turns about x + y, x − y"),
        (1, "the inversion x → −x"),
        (3, "reflections along x, y, z"),
        (2, "turns by ±90° with inversion, about z"),
        (2, "reflections along x + y, x − y"),
    ]


# ---- words ----


def test_field_types_in_words() -> None:
    terms = [Term(1, Irrep(0, None)), Term(4, Irrep(1, None)), Term(2, Irrep(2, None)), Term(6, Irrep(0, None))]
    assert in_words(terms, gated=True) == "1 scalar, 4 vectors, 2 symmetric traceless tensors and 6 scalars as gates"
    odd = [Term(1, Irrep(0, -1)), Term(2, Irrep(1, 1)), Term(1, Irrep(1, -1)), Term(3, Irrep(3, 1))]
    assert in_words(odd) == "1 pseudoscalar, 2 pseudovectors, 1 vector and 3 degree-3 pseudotensors"


def test_numbers_in_words() -> None:
    assert [percent(value) for value in (0, 0.00012, 0.0094, 0.0567, 0.0996, 0.701)] == [
        "0 %",
        "0.012 %",
        "0.94 %",
        "5.7 %",
        "10 %",
        "70 %",
    ]
    assert (times(216, 1), times(14, 10), times(12000, 1)) == ("216 times", "1.4 times", "12,000 times")


# ---- code to paste ----


@pytest.fixture
def importable(plain: Path, hard: Path) -> Iterator[None]:
    places = [str(plain.parent), str(hard.parent)]
    sys.path[:0] = places
    yield
    for place in places:
        sys.path.remove(place)
    for name in [name for name in sys.modules if name.partition(".")[0] in ("plain", "hard")]:
        del sys.modules[name]


@pytest.mark.usefixtures("importable")
def test_every_snippet_runs(page: str) -> None:
    snippets = [html.unescape(code) for code in re.findall(r"<pre><code>(.*?)</code></pre>", page, re.DOTALL)]
    python = [code for code in snippets if "import" in code]
    for code in python:
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(code, "<snippet>", "exec"), {})
    (command,) = (code for code in snippets if code not in python)
    assert command.startswith("basisgen defect ")
    result = CliRunner().invoke(main, [*_words(command)[1:], "--json"], catch_exceptions=False)
    assert result.exit_code == 0 and json.loads(result.stdout)


@pytest.mark.usefixtures("importable")
def test_the_network_runs_on_a_volume(plain_page: str) -> None:
    import torch

    (code,) = (code for code in re.findall(r"<code>(.*?)</code>", plain_page, re.DOTALL) if "nn.Sequential" in code)
    names: dict[str, object] = {}
    exec(html.unescape(code), names)
    model = names["example"]
    assert isinstance(model, torch.nn.Module) and model(torch.randn(1, 1, 7, 7, 7)).shape == (1, 8)


@pytest.mark.parametrize(
    ("directory", "lines"),
    [
        ("generated/tetris", "from generated.tetris import Conv1"),
        ("tetris", "from tetris import Conv1"),
        ("HERE/generated/tetris", "from generated.tetris import Conv1"),
        ("HERE-too/tetris", "import sys|sys.path.insert(0, 'HERE-too')|from tetris import Conv1"),
        ("../x/tetris", "import sys|sys.path.insert(0, '../x')|from tetris import Conv1"),
        ("my-models/tetris", "import sys|sys.path.insert(0, 'my-models')|from tetris import Conv1"),
        ("json/tetris", "import sys|sys.path.insert(0, 'json')|from tetris import Conv1"),
        ("class/tetris", "import sys|sys.path.insert(0, 'class')|from tetris import Conv1"),
        ("tetris-2", "import sys|sys.path.insert(0, '.')|from tetris_2 import Conv1"),
    ],
)
def test_the_package_is_imported_from_where_it_is(
    directory: str, lines: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    code = usage.imports(Path(directory.replace("HERE", str(Path.cwd()))), ["Conv1"])
    found = [line.partition("  #")[0] for line in code.splitlines() if line and not line.startswith("#")]
    assert found == lines.replace("HERE", str(Path.cwd())).split("|")


# ---- the command ----


def test_the_command_writes_the_page(plain: Path, plain_page: str, tmp_path: Path) -> None:
    result = _run(str(plain), "-o", str(tmp_path / "page.html"))
    assert result.exit_code == 0 and "opens in any browser" in result.stdout
    assert (tmp_path / "page.html").read_text("utf-8") == plain_page


def test_an_empty_directory_is_not_a_package(tmp_path: Path) -> None:
    result = _run(str(tmp_path), "-o", str(tmp_path / "page.html"))
    assert result.exit_code == 2 and "is not a package of basisgen's: it has no manifest.json" in result.stderr
    assert _run(str(tmp_path / "nowhere")).exit_code == 2
    assert not list(tmp_path.iterdir())


def test_a_page_that_cannot_be_written_is_explained(plain: Path, tmp_path: Path) -> None:
    result = _run(str(plain), "-o", str(tmp_path / "missing" / "page.html"))
    assert result.exit_code == 2 and "cannot write" in result.stderr


@pytest.mark.parametrize("name", ["conv1.py", "certificate.json", "basis.safetensors"])
def test_a_changed_file_gets_no_page(plain: Path, tmp_path: Path, name: str) -> None:
    copy = _copy(plain, tmp_path)
    (copy / name).write_bytes((copy / name).read_bytes() + b" ")
    with pytest.raises(OutputError, match=f"{name} has changed"):
        report(copy)


def test_a_missing_file_gets_no_page(plain: Path, tmp_path: Path) -> None:
    copy = _copy(plain, tmp_path)
    (copy / "conv2.py").unlink()
    with pytest.raises(OutputError, match=r"conv2\.py is missing"):
        report(copy)


@pytest.mark.parametrize("key", ["gated", "radial", "execution", "cost"])
def test_a_manifest_that_lacks_something_gets_no_page(plain: Path, tmp_path: Path, key: str) -> None:
    copy = _copy(plain, tmp_path)
    manifest = json.loads((copy / "manifest.json").read_bytes())
    del (manifest["layers"]["Conv1"] if key in ("execution", "cost") else manifest["spec"][0])[key]
    (copy / "manifest.json").write_bytes(to_json(manifest))
    with pytest.raises(OutputError, match=r"manifest\.json is not|manifest\.json: its spec"):
        report(copy)


def test_nothing_in_the_manifest_becomes_markup(plain: Path) -> None:
    """Verified packages hold no markup; the page would not let it through either."""
    evil = "</code><script>alert(1)</script>"
    package = read_package(plain)
    layer = replace(package.layers[0], radial={"family": evil, evil: [evil]}, execution=evil, timed=evil)
    page = render(replace(package, version=evil, command=evil, layers=(layer, *package.layers[1:])), plain)
    assert page.count("&lt;script&gt;") >= 7 and "<script" not in page
    Reader(page)


def test_the_reader_sees_markup_that_is_not_closed() -> None:
    with pytest.raises((AssertionError, IndexError)):
        Reader("<p><b></p></b>")


def _copy(directory: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(directory, tmp_path / directory.name, ignore=shutil.ignore_patterns("__pycache__")))


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["report", *arguments], catch_exceptions=False)


def _words(command: str) -> list[str]:
    import shlex

    return shlex.split(command)
