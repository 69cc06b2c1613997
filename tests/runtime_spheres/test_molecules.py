"""Molecules as coefficients: against values on the sphere, rotations, gradients, hostile input."""

import math

import pytest
import torch

from runtime.so3 import random_rotations
from runtime.spheres.molecules import atom_potentials, neighbour_densities
from runtime.spheres.signals import as_packed, evaluate, rotate_signal, signal_type, smooth
from tests.runtime_spheres.test_signals import directions

KINDS = torch.tensor([[6, 1, 8, 1, 1], [8, 1, 1, -1, -1]])
OPTIONS = {"elements": (1, 6, 8), "limit": 5}


def molecules():
    return 2.0 * torch.randn(2, 5, 3, dtype=torch.float64)


def potentials(positions, **more):
    return atom_potentials(positions, KINDS, **{**OPTIONS, "radius": 0.7, **more})


def densities(positions, **more):
    return neighbour_densities(positions, KINDS, **{**OPTIONS, "radii": (1.0, 2.0, 4.0), "cutoff": 6.0, **more})


MAKERS = {"potentials": (potentials, 3), "densities": (densities, 9)}


def test_potential_is_that_of_the_charges():
    """Summed to a high degree the coefficients are q_i q_j / distance on the sphere."""
    positions = torch.tensor([[[0.0, 0, 0], [1.5, 0, 0], [0, -2, 1], [0.2, 0.1, 0.1]]], dtype=torch.float64)
    kinds = torch.tensor([[6, 1, 1, 8]])
    f = atom_potentials(positions, kinds, elements=(1, 6, 8), limit=17, radius=0.7)
    packed, points = as_packed(f, signal_type(3, 17)), directions(10)
    for i in range(4):
        values = evaluate(packed[0, :, :, i], points)
        for e, z in enumerate((1, 6, 8)):
            expected = torch.zeros(10, dtype=torch.float64)
            for j in range(4):
                if j != i and kinds[0, j] == z:
                    place = positions[0, i] + 0.7 * points
                    expected += kinds[0, i] * z / (place - positions[0, j]).norm(dim=-1)
            torch.testing.assert_close(values[e], expected, atol=0, rtol=1e-4)


def test_density_is_a_sum_of_points_with_their_radial_weights():
    positions = torch.tensor([[[0.0, 0, 0], [0, 2.0, 0]]], dtype=torch.float64)
    f = neighbour_densities(positions, torch.tensor([[1, 1]]), elements=(1,), limit=17, radii=(1.0, 2.0, 4.0))
    packed = smooth(as_packed(f, signal_type(3, 17))[0, :, :, 0], 0.35)
    at = evaluate(packed, torch.tensor([[0.0, 1, 0], [0, -1, 0]], dtype=torch.float64))
    # log 2 from the neighbouring radii, one width
    torch.testing.assert_close(at[:, 0] / at[1, 0], torch.tensor([math.exp(-0.5), 1, math.exp(-0.5)]).double())
    assert at[:, 1].abs().max() < 1e-3 * at[1, 0]


@pytest.mark.parametrize("name", MAKERS)
def test_turning_the_molecule_turns_the_signals(name):
    make, multiplicity = MAKERS[name]
    positions, rotation = molecules(), random_rotations(1)[0]
    f = make(positions)
    assert f.shape == (2, multiplicity * 25, 5)
    turned = make(positions @ rotation.mT + 3.0)
    torch.testing.assert_close(turned, rotate_signal(f, rotation, signal_type(multiplicity, 5)), atol=1e-11, rtol=1e-11)


@pytest.mark.parametrize("name", MAKERS)
def test_gradients_reach_positions_and_padding_changes_nothing(name):
    make, _ = MAKERS[name]
    positions = molecules().requires_grad_()
    assert torch.autograd.gradcheck(lambda p: make(p, limit=3), (positions,))
    f = make(positions)
    assert not f[1, :, 3:].any()  # no atom, no signal
    f.square().sum().backward()
    assert positions.grad.isfinite().all() and not positions.grad[1, 3:].any()
    moved = positions.detach().clone()
    moved[1, 3:] += 100
    assert torch.equal(make(moved), f)


@pytest.mark.parametrize("name", MAKERS)
def test_atoms_in_one_place_give_finite_values_and_gradients(name):
    positions = torch.zeros(2, 5, 3, requires_grad=True)
    f = MAKERS[name][0](positions)
    f.sum().backward()
    assert not f.any() and positions.grad.isfinite().all()


def test_wrong_input_is_one_clear_error():
    with pytest.raises(ValueError, match=r"kind 8 is not among the elements \[1, 6\]"):
        potentials(molecules(), elements=(1, 6))
    with pytest.raises(ValueError, match=r"positions \(batch, atom, 3\) and kinds .* got \(2, 4, 3\) and \(2, 5\)"):
        densities(molecules()[:, :4])
    with pytest.raises(ValueError, match=r"positive, increasing radii, got \[2.0, 1.0\]"):
        densities(molecules(), radii=(2, 1))
