"""QM7: the file's format is read, signals and kernel are what their formulas say, turns change nothing, a run works."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor

from examples.common.files import DataError, compiled
from examples.common.measure import parameter_count
from examples.common.presets import load_preset
from examples.qm7.__main__ import main
from examples.qm7.data import ELEMENTS, Composition, Molecules, load
from examples.qm7.experiment import HERE, Preset, build, input_of, scores
from examples.qm7.figure import page
from examples.qm7.geometry import ElementDensities, Geometry, Potentials, Shells
from examples.qm7.kernel import KernelConfig, KernelRidge
from runtime.so3 import random_rotations
from runtime.spheres import atom_potentials, neighbour_densities

SHELLS = Shells(tuple(1.7 * 1.17**k for k in range(12)), 16.0, 4)
PRESETS = ("quick", "full", "published", "tiny", "tiny_published")


def make(path: Path, count: int = 40) -> None:
    """Made molecules of two to four heavy atoms and some hydrogens in QM7's format, bound by a pair potential."""
    generator = np.random.default_rng(0)
    positions, numbers = np.zeros((count, 23, 3)), np.zeros((count, 23))
    energies = np.zeros((1, count))
    for molecule in range(count):
        heavy, hydrogens = generator.integers(2, 5), generator.integers(1, 4)
        atoms = heavy + hydrogens
        numbers[molecule, :heavy] = generator.choice([6, 6, 7, 8, 16], heavy)
        numbers[molecule, heavy:atoms] = 1
        points = np.stack(np.meshgrid(*[[0, 2.6]] * 3), -1).reshape(8, 3)[generator.permutation(8)[:atoms]]
        positions[molecule, :atoms] = points + 0.2 * generator.standard_normal((atoms, 3))
        distances = np.linalg.norm(positions[molecule, :atoms, None] - positions[molecule, None, :atoms], axis=-1)
        energies[0, molecule] = -100 * atoms - 50 * np.exp(-distances[np.triu_indices(atoms, 1)]).sum()
    folds = generator.permutation(count).reshape(5, -1)
    np.savez(path, R=positions, Z=numbers, T=energies, P=folds)


@pytest.fixture
def made(tmp_path: Path) -> Path:
    make(tmp_path / "made.npz")
    return tmp_path / "made.npz"


@pytest.fixture
def molecules(made: Path) -> Molecules:
    return load(made)


def test_the_public_format_is_read(made: Path, molecules: Molecules) -> None:
    with np.load(made) as file:
        arrays = dict(file)
    assert len(molecules) == 40 and len(molecules.folds) == 5
    there = arrays["Z"][7] > 0
    torch.testing.assert_close(molecules.positions[7], torch.from_numpy(arrays["R"][7][there]))
    assert [ELEMENTS[kind] for kind in molecules.kinds[7]] == arrays["Z"][7][there].tolist()
    assert molecules.energies.tolist() == arrays["T"][0].tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"Z": None}, "lacks Z"),
        ({"R": np.zeros((40, 22, 3))}, "is no QM7 file"),
        ({"P": np.zeros((5, 8), int)}, "do not hold every molecule once"),
        ({"Z": np.full((40, 23), 9)}, "elements beside"),
    ],
)
def test_a_file_of_another_format_is_refused(
    made: Path, tmp_path: Path, change: dict[str, np.ndarray | None], message: str
) -> None:
    with np.load(made) as file:
        arrays = {**file, **change}
    np.savez(tmp_path / "other.npz", **{key: value for key, value in arrays.items() if value is not None})
    with pytest.raises(DataError, match=message):
        load(tmp_path / "other.npz")


def test_training_sets_leave_out_the_fold_and_are_nested(molecules: Molecules) -> None:
    whole, quarter, eighth = (set(molecules.training(2, factor).tolist()) for factor in (1, 4, 8))
    assert whole == set(range(40)) - set(molecules.folds[2].tolist())
    assert eighth < quarter < whole and (len(quarter), len(eighth)) == (8, 4)


def test_formulas_are_in_hills_order() -> None:
    kinds = torch.tensor([3, 1, 0, 0, 4, 1, 2, 2])
    one = Molecules((torch.zeros(8, 3),), (kinds,), torch.zeros(1), ())
    assert one.formula(0) == "C2H2N2OS"


def test_rings_are_counted() -> None:
    turns = torch.arange(6) * math.pi / 3
    hexagon = torch.stack([turns.cos(), turns.sin(), 0 * turns], 1).double()  # sides are as long as radii
    benzene, kinds = torch.cat([2.63 * hexagon, 4.7 * hexagon]), torch.tensor([1] * 6 + [0] * 6)
    chain = torch.arange(4)[:, None] * torch.tensor([2.8, 0.0, 0.0], dtype=torch.float64)
    both = Molecules((benzene, chain), (kinds, torch.ones(4, dtype=torch.long)), torch.zeros(2), ())
    assert (both.rings(0), both.rings(1)) == (1, 0)
    assert both.formula(0) == "C6H6"


def test_the_composition_recovers_energies_of_atoms() -> None:
    counts = torch.randint(0, 9, (30, 5), generator=torch.Generator().manual_seed(0))
    atoms = torch.tensor([-10.0, -20.0, -30.0, -40.0, -50.0], dtype=torch.float64)
    composition = Composition.of(counts, counts.double() @ atoms + 7)
    torch.testing.assert_close(composition.energies(counts), counts.double() @ atoms + 7)
    assert composition.scale < 1e-8


def centred(molecules: Molecules, index: int) -> tuple[Tensor, Tensor, Tensor]:
    """Positions (1, atom, 3), elements' indices and numbers (1, atom) of a molecule, centres first."""
    order = molecules.kinds[index].eq(0).long().argsort(stable=True)
    kinds = molecules.kinds[index][order]
    return molecules.positions[index][order][None].float(), kinds[None], torch.tensor(ELEMENTS)[kinds][None]


def test_densities_of_elements_are_those_of_the_runtime(molecules: Molecules) -> None:
    geometry = Geometry(molecules, SHELLS)
    positions, kinds, _ = centred(molecules, 5)
    summed = Geometry(molecules, ElementDensities(SHELLS)).batch(torch.tensor([5])).signals
    whole = neighbour_densities(positions, kinds, elements=range(5), limit=4, radii=SHELLS.radii, cutoff=16.0)
    sizes = [5 * 12 * (2 * degree + 1) for degree in range(4)]
    batch = geometry.batch(torch.tensor([5]))
    atoms, centres = kinds.shape[1], int((kinds > 0).sum())
    members = torch.nn.functional.one_hot(kinds[0], 5).float()  # (atom, element)
    for signal, own, length, expected in zip(
        batch.signals, summed, geometry.lengths, whole.split(sizes, 1), strict=True
    ):
        sums = torch.einsum("je,jrc->erc", members, signal[0, :atoms]) * length
        torch.testing.assert_close(sums.flatten(0, 1)[:, :centres], expected[0][:, :centres])
        torch.testing.assert_close(own[0].float() * length, sums)
        assert not signal[0, atoms:].any()


def test_potentials_are_those_of_the_runtime_at_the_centres(molecules: Molecules) -> None:
    geometry = Geometry(molecules, Potentials(3))
    positions, _, numbers = centred(molecules, 5)
    whole = atom_potentials(positions, numbers, elements=ELEMENTS, limit=3, radius=1.0)
    batch = geometry.batch(torch.tensor([5]))
    centres = int(batch.centre.sum())
    for signal, length, expected in zip(batch.signals, geometry.lengths, whole.split([5, 15, 25], 1), strict=True):
        torch.testing.assert_close(signal[0, :, :centres] * length, expected[0, :, :centres])


def kernel_by_hand(model: KernelRidge, geometry: Geometry, rows: Tensor, columns: Tensor) -> Tensor:
    """The formula of `kernel.py`, centre by centre, in double precision."""

    def centres(index: Tensor) -> list[tuple[int, Tensor]]:
        kinds, pairs = model.invariants(geometry.batch(index[None]))
        return [(int(k), p) for k, p in zip(kinds[kinds >= 0], pairs, strict=True)]

    def value(a: tuple[int, Tensor], b: tuple[int, Tensor]) -> float:
        if a[0] != b[0] or a[0] not in model.maps:
            return 0.0
        apart = ((a[1] - b[1]) @ model.maps[a[0]][1]).norm().item()
        return math.exp(-(apart**2) / (2 * model.config.sigma**2))

    left, right = [centres(i) for i in rows], [centres(j) for j in columns]
    found = [[sum(value(a, b) for a in one for b in other) for other in right] for one in left]
    return torch.tensor(found, dtype=torch.float64)


def test_the_kernel_is_its_formula_and_the_solution_solves(molecules: Molecules) -> None:
    geometry = Geometry(molecules, ElementDensities(SHELLS))
    torch.manual_seed(0)
    model = KernelRidge(compiled(HERE / "specs" / "pairs.toml"), KernelConfig(SHELLS, components=12))
    train, test = torch.arange(0, 12), torch.arange(12, 16)
    energies = torch.randn(12, dtype=torch.float64)
    model.fit(geometry, train, energies)
    kernel = kernel_by_hand(model, geometry, train, train)
    ridged = kernel + model.config.ridge * kernel.diagonal().mean() * torch.eye(12, dtype=torch.float64)
    alpha = torch.linalg.solve(ridged, energies)
    expected = kernel_by_hand(model, geometry, test, train) @ alpha
    torch.testing.assert_close(model(geometry.batch(test)).double(), expected, rtol=1e-6, atol=1e-6)
    assert expected.abs().max() > 0.01


@pytest.mark.parametrize(
    ("preset_name", "name"),
    [
        ("tiny", "ours"),
        ("tiny", "ours-network"),
        ("tiny_published", "ours-potentials"),
        ("tiny_published", "cobb-tree"),
    ],
)
def test_turned_molecules_have_the_same_energy(molecules: Molecules, preset_name: str, name: str) -> None:
    preset = load_preset(Preset, HERE / "presets" / f"{preset_name}.toml")
    torch.manual_seed(0)
    model, seen = build(name, preset).eval(), input_of(name, preset)
    straight = Geometry(molecules, seen)
    turned = Geometry(molecules.turned(random_rotations(1)[0]), seen, lengths=straight.lengths)
    stretched = Geometry(
        replace(molecules, positions=tuple(p * torch.tensor([1.0, 1.0, 1.1]) for p in molecules.positions)),
        seen,
        lengths=straight.lengths,
    )
    everything = torch.arange(len(molecules))
    with torch.no_grad():
        if isinstance(model, KernelRidge):
            model.fit(straight, everything[:30], torch.randn(30, dtype=torch.float64))
        else:
            for weight in model.parameters():  # also those that are zero at the beginning
                weight += 0.1 * torch.randn_like(weight)
        energies, again, other = (model(geometry.batch(everything)) for geometry in (straight, turned, stretched))
    size = energies.std()
    assert (energies - again).abs().max() < 1e-3 * size
    assert (energies - other).abs().max() > 1e-2 * size  # what is not a rotation is seen


@pytest.mark.parametrize("name", ["cobb-tree", "cobb-reduced"])
def test_specs_are_those_of_the_presets_sizes(name: str) -> None:
    for preset_name in PRESETS:
        preset = load_preset(Preset, HERE / "presets" / f"{preset_name}.toml")
        if name in preset.networks:
            spec = HERE / "specs" / preset.networks[name].spec
            assert spec.read_text("utf-8") == preset.potentials[name].spec(f"qm7_{spec.stem}")
            weights = parameter_count(build(name, replace(preset, width=128)))
            assert 335_000 < weights < 337_000  # published: 335 k reduced, 337 k tree


def test_scores_of_known_errors() -> None:
    errors = torch.cat([torch.ones(99), torch.tensor([-11.0])])
    found = scores(errors)
    assert found == pytest.approx({"RMSE": math.sqrt((99 + 121) / 100), "MAE": 1.1, "RMSE of 99 %": 1.0})


@pytest.mark.parametrize(
    ("preset_name", "networks"),
    [
        ("tiny", ("ours", "ours-network")),
        ("tiny_published", ("ours-potentials", "cobb-tree", "cobb-reduced")),
    ],
)
def test_a_tiny_run_leaves_results(made: Path, tmp_path: Path, preset_name: str, networks: tuple[str, ...]) -> None:
    arguments = ["--preset", preset_name, "--data", str(made), "--out", str(tmp_path / "runs")]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    place = tmp_path / "runs" / preset_name
    outcomes = json.loads((place / "results.json").read_text())["outcomes"]
    assert tuple(outcome["case"]["network"] for outcome in outcomes) == networks
    assert all(math.isfinite(outcome["scores"]["RMSE"]) for outcome in outcomes)
    assert (place / "curves.png").stat().st_size > 1000
    assert "| folds |" in (place / "results.md").read_text()
    worst = (place / "molecules.md").read_text()
    assert worst.count("| molecule | formula |") == len(networks) and f"## {networks[0]}, fold 0" in worst
    assert page(load(made), []) == "# QM7: where the errors are\n"
