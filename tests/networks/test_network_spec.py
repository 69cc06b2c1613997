"""[network] as a pure function: a table -> convolutions whose types meet, with names that say where they stand."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from basisgen.cli import main
from basisgen.emission.manifest import made_from
from basisgen.emission.write import write_package
from basisgen.errors import SpecError
from basisgen.pipeline import compile_package
from basisgen.spec import PackageSpec, parse_package
from basisgen.volumes.conv_spec import ConvSpec
from basisgen.volumes.network import KINDS, NetworkSpec, expand, parse_network


def _package(*lines: str) -> PackageSpec:
    return parse_package("\n".join(['name = "net"', "[network]", *lines]))


CLASSIFIER = ('kind = "classifier"', 'in = "1x0"', 'out = "10x0"', 'fields = "8x0 + 4x1 + 1x2"')
UNET = ('kind = "unet"', 'in = "2x0e"', 'out = "3x0e"', 'fields = "4x0e + 2x1o"', "depth = 3")


def _layers(spec: PackageSpec) -> list[tuple[str, str, str, bool]]:
    return [
        (layer.name, str(layer.into), str(layer.out), layer.gated)
        for layer in spec.layers
        if isinstance(layer, ConvSpec)
    ]


def test_a_classifier_is_stem_levels_and_a_last_convolution_of_invariants() -> None:
    spec = _package(*CLASSIFIER)
    assert _layers(spec) == [
        ("Stem", "1x0", "8x0 + 4x1 + 1x2", True),
        ("Same1", "8x0 + 4x1 + 1x2", "8x0 + 4x1 + 1x2", True),
        ("Last", "8x0 + 4x1 + 1x2", "50x0", True),
    ]
    assert spec.network is not None and spec.expansion is not None
    assert spec.expansion.down == (("Stem", "Same1"), ("Last",))
    assert spec.network.strides == ((2, 2, 2), (2, 2, 2))
    stem, same, _ = (layer for layer in spec.layers if isinstance(layer, ConvSpec))
    assert stem.grid.size == (6, 6, 6) and same.grid.size == (3, 3, 3)


def test_a_unet_joins_the_coarser_fields_with_the_finer_ones() -> None:
    spec = _package(*UNET, "convs = [1, 2, 1]", "deep_supervision = true")
    a, b, c = "4x0e + 2x1o", "8x0e + 4x1o", "16x0e + 8x1o"
    assert _layers(spec) == [
        ("Stem", "2x0e", a, True),
        ("Same1", a, a, True),
        ("Widen2", a, b, True),
        ("Same2", b, b, True),
        ("Widen3", b, c, True),
        ("Join2", f"{c} + {b}", b, True),
        ("Join1", f"{b} + {a}", a, True),
        ("Head", a, "3x0e", False),
        ("Head2", b, "3x0e", False),
    ]
    assert spec.expansion is not None
    assert spec.expansion.down == (("Stem", "Same1"), ("Widen2", "Same2"), ("Widen3",))
    assert spec.expansion.up == (("Join1",), ("Join2", "Same2"))
    assert spec.expansion.heads == ("Head", "Head2")


def test_an_encoder_gives_what_it_is_asked_for() -> None:
    spec = _package(
        'kind = "encoder"', 'in = "1x0e + 1x1o"', 'out = "6x0e + 2x1o"', 'fields = ["4x0e + 2x1o", "4x0e + 4x1o"]'
    )
    assert _layers(spec)[-1] == ("Last", "4x0e + 2x1o", "6x0e + 2x1o", True)


def test_functions_on_the_sphere_have_no_gates_and_one_transform() -> None:
    lines = ('kind = "unet"', 'in = "1x0e"', 'out = "2x0e"', 'fields = "2x0..2n"', 'activation = "sphere"')
    spec = _package(*lines)
    assert not any(gated for *_, gated in _layers(spec))
    assert spec.expansion is not None and spec.expansion.sphere == "Sphere"
    assert str(spec.layers[-1].into) == "1x0e + 1x1o + 1x2e + 1x3o"
    assert str(_package(*lines, "grid_limit = 6").layers[-1].into).endswith("1x5o")
    assert _package(*UNET).expansion.sphere is None  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('fields = "4x0 + 2x1"', "takes functions on the sphere at every voxel, and '4x0 + 2x1' is not K of them"),
        ('fields = ["2x0..1", "2x1"]', "and '2x1' is not K of them: Kx0..L-1, for example '4x0..2'"),
        ('fields = "2x0..2"\ngrid_limit = 5', "grid_limit = 5 is not an even number of at least 3"),
        ('fields = "2x0..2"\ngrid_limit = 2', "grid_limit = 2 is not an even number of at least 3"),
        ('fields = "2x0..2"\ngrid_limit = 1000', "grid_limit = 1000 is not a whole number from 2 to 32"),
    ],
)
def test_functions_on_the_sphere_are_refused_in_one_line(line: str, message: str) -> None:
    lines = ('kind = "classifier"', 'in = "1x0"', 'out = "3x0"', 'activation = "sphere"')
    with pytest.raises(SpecError, match=re.escape(message)) as refused:
        _package(*lines, line)
    assert str(refused.value).startswith("[network]") and "\n" not in str(refused.value)


def test_other_activations_have_no_grid() -> None:
    with pytest.raises(SpecError, match="grid_limit is a key of activation = 'sphere', and this is 'gate'"):
        _package(*CLASSIFIER, "grid_limit = 4")


def test_the_coarse_axis_is_the_last_to_be_halved_and_has_fewer_taps() -> None:
    spec = _package(*CLASSIFIER[:-1], 'fields = "4x0 + 2x1"', "depth = 3", "voxel_spacing = [1, 1, 3]", "convs = 1")
    assert spec.network is not None
    assert spec.network.strides == ((2, 2, 1), (2, 2, 2), (2, 2, 2))
    assert [list(map(str, spacing)) for spacing in spec.network.spacings] == [
        ["1", "1", "3"],
        ["2", "2", "3"],
        ["4", "4", "6"],
        ["8", "8", "12"],
    ]
    layers = {layer.name: layer for layer in spec.layers if isinstance(layer, ConvSpec)}
    assert layers["Stem"].grid.size == (6, 6, 3)
    assert list(map(str, layers["Same1"].grid.spacing)) == ["1", "1", "3/2"]
    assert list(map(str, layers["Last"].grid.spacing)) == ["1", "1", "3/2"]


def test_channels_that_flat_kernels_leave_empty_are_said_with_a_cure_that_works(tmp_path: Path) -> None:
    table = ['name = "flat"', "[network]", *UNET[:1], 'in = "1x0"', 'out = "2x0"', 'fields = "2x0 + 1x1 + 1x2"']
    for cure in ("", 'radial = "optimal"'):
        (tmp_path / "flat.toml").write_text("\n".join([*table, "voxel_spacing = [1, 1, 3]", cure]))
        result = CliRunner().invoke(main, ["compile", str(tmp_path / "flat.toml"), "--out", str(tmp_path / "out")])
        assert result.exit_code == 0
        assert ("no kernel reaches 1x2 of Stem" in result.stderr) == (not cure)
        assert ("stem_size (of the first convolution), kernel_size and radial; on few taps" in result.stderr) == (
            not cure
        )


def test_levels_of_one_shape_of_voxel_share_their_filters() -> None:
    grids = {layer.grid for layer in _package(*UNET).layers if isinstance(layer, ConvSpec)}
    assert len(grids) == 2  # the stem's, and one for all levels


fields = st.lists(st.tuples(st.integers(1, 4), st.integers(0, 2)), min_size=1, max_size=3, unique_by=lambda t: t[1])
signals = st.builds("{}x0..{}".format, st.integers(1, 4), st.integers(1, 3))
tables = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(KINDS),
        "in": st.sampled_from(["1x0", "3x0", "1x0 + 1x1"]),
        "out": st.sampled_from(["1x0", "5x0"]),
        "fields": fields.map(lambda terms: " + ".join(f"{n}x{l}" for n, l in terms)),
        "depth": st.integers(1, 4),
        "growth": st.integers(1, 2),
        "convs": st.integers(1, 3),
        "activation": st.sampled_from(["gate", "norm"]),
        "even": st.booleans(),
        "fine": st.booleans(),
        "voxel_spacing": st.sampled_from([1, [1, 1, 3], ["1/2", 1, 4]]),
    }
)
tables |= st.builds(lambda table, of: {**table, "fields": of, "activation": "sphere"}, tables, signals)


@given(tables)
def test_types_meet_along_the_whole_network(table: dict[str, object]) -> None:
    network = parse_network(table)
    order = expand(network)
    layers = {str(layer["name"]): layer for layer in order.layers}
    assert len(layers) == len(order.layers)
    used = {name for names in (*order.down, *order.up, order.heads) for name in names}
    assert used | ({order.sphere} - {None}) == set(layers)
    way = [name for level in order.down for name in level]
    assert layers[way[0]]["in"] == str(network.into)
    for left, right in pairwise(way):
        assert layers[left]["out"] == layers[right]["in"]
    if network.kind == "unet":
        coarser = [*order.up[1:], order.down[-1]]
        for finer, up, below in zip(order.down, order.up, coarser, strict=False):
            assert layers[up[0]]["in"] == f"{layers[below[-1]]['out']} + {layers[finer[-1]]['out']}"
            assert layers[up[-1]]["out"] == layers[finer[-1]]["out"]
        assert layers["Head"]["in"] == layers[(order.up[0] if order.up else order.down[0])[-1]]["out"]


@given(tables)
def test_a_network_is_described_and_read_back(table: dict[str, object]) -> None:
    network = parse_network(table)
    again = parse_network(json.loads(json.dumps(network.describe())))
    assert again == network and expand(again) == expand(network)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('kind = "resnet"', "kind = 'resnet' is not one of classifier, encoder, unet"),
        ("depth = 0", "depth = 0 is not a whole number from 1 to 6"),
        ("depth = true", "depth = true is not a whole number"),
        ('fields = "8x0 + "', "cannot read field type"),
        ('fields = "8x0e"', "different groups"),
        ("fields = []", "lists the fields of each level"),
        ('fields = ["8x0"]\ngrowth = 2', "and no growth"),
        ("convs = [1, 0]", "convs = [1, 0] is not the number of convolutions"),
        ("convs = [1]", "a list of 2"),
        ("convs = 1.5", "convs = 1.5"),
        ("kernel_size = 4", "kernel_size = 4 is even"),
        ("stem_size = 5", "Take 6"),
        ('norm = "layer"', "norm = 'layer' is not one of batch, instance, none"),
        ("dropout = 1", "dropout = 1 is not a share of fields"),
        ('dropout = "a lot"', "dropout = 'a lot'"),
        ("voxel_spacing = 0", "voxel_spacing = 0 is not a length"),
        ("deep_supervision = true", "is a key of a unet"),
        ("residual = true\nconvs = 3", "cannot be paired"),
        ('out = "4x1"', "one score for each class"),
        ("stride = 2", "has a key 'stride'"),
        ("typo = 2", "unknown key 'typo'"),
        ('radial = { family = "nets" }', "'nets'"),
        ('fields = "9999x0"', "the limit is 4096"),
        ('radial = { family = "separable", count = [1] }\nfields = "4x1"\nin = "1x1"', "no kernel maps"),
    ],
)
def test_hostile_values_give_one_clear_line(line: str, message: str) -> None:
    key = line.partition(" ")[0]
    keys = {part.partition(" ")[0] for part in line.splitlines()}
    lines = [given_line for given_line in CLASSIFIER if given_line.partition(" ")[0] not in keys]
    with pytest.raises(SpecError) as caught:
        compile_package(_package(*lines, line))
    text = str(caught.value)
    assert message in text and "\n" not in text, (key, text)


def test_a_network_brings_its_own_layers() -> None:
    for more in ('[[conv]]\nname = "A"\nin = "1x0"\nout = "1x0"', "[defaults]\nkernel_size = 3"):
        with pytest.raises(SpecError, match="A network brings its own layers"):
            parse_package("\n".join(['name = "net"', "[network]", *CLASSIFIER, more]))


def test_verify_derives_the_network_and_refuses_another(tmp_path: Path) -> None:
    spec = _package(*CLASSIFIER[:-1], 'fields = "2x0 + 1x1"', "features = 4")
    write_package(compile_package(spec), tmp_path / "net")
    assert CliRunner().invoke(main, ["verify", str(tmp_path / "net")]).exit_code == 0
    path = tmp_path / "net" / "manifest.json"
    honest = path.read_text()
    for before, after in (
        ('"dropout": "0"', '"dropout": "1/2"'),
        ('"features": 4', '"features": 8'),
        ('"even": true', '"even": 1'),
    ):
        assert before in honest
        path.write_text(honest.replace(before, after))
        assert CliRunner().invoke(main, ["verify", str(tmp_path / "net")]).exit_code == 1
    path.write_text(honest)
    module = tmp_path / "net" / "network.py"
    module.write_text(module.read_text().replace("dropout = 0.0", "dropout = 0.5"))
    assert CliRunner().invoke(main, ["verify", str(tmp_path / "net")]).exit_code == 1


def test_what_determines_a_package_names_its_network() -> None:
    one, two = (_package(*CLASSIFIER, f"dropout = {share}") for share in (0, 0.5))
    assert one.layers == two.layers and made_from(one) != made_from(two)


def test_a_package_of_a_network_has_its_spec() -> None:
    assert isinstance(_package(*UNET).network, NetworkSpec)
