import math

import mpmath
import numpy as np
import pytest
import torch
from e3nn import o3
from scipy.special import sph_harm_y

from basisgen.so3.clebsch_gordan import clebsch_gordan as exact_clebsch_gordan
from runtime.so3 import clebsch_gordan, cube_turns, random_rotations, spherical_harmonics, wigner_d


@pytest.fixture(autouse=True)
def _float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("degree", range(11))
def test_agrees_with_e3nn(degree):
    rotations = random_rotations(20)
    points = rotations[..., 0]
    torch.testing.assert_close(
        wigner_d(degree, rotations), o3.Irrep(degree, 1).D_from_matrix(rotations), rtol=0, atol=1e-12
    )
    expected = o3.spherical_harmonics(degree, points, normalize=True, normalization="component")
    torch.testing.assert_close(spherical_harmonics(degree, points), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("degree", range(7))
@pytest.mark.parametrize("parity", [1, -1])
def test_reflections_agree_with_e3nn(degree, parity):
    turns = cube_turns(reflections=True).double()
    expected = o3.Irrep(degree, parity).D_from_matrix(turns)
    torch.testing.assert_close(wigner_d(degree, turns, parity), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("degree", range(7))
def test_is_a_representation(degree):
    a, b = random_rotations(2)
    torch.testing.assert_close(wigner_d(degree, a @ b), wigner_d(degree, a) @ wigner_d(degree, b), rtol=0, atol=1e-13)
    wrong = wigner_d(degree, a @ b) - wigner_d(degree, b) @ wigner_d(degree, a)
    assert degree == 0 or wrong.abs().max() > 1e-2


def test_degree_one_is_the_rotation():
    rotations = random_rotations(5)
    torch.testing.assert_close(wigner_d(1, rotations), rotations, rtol=0, atol=1e-14)


def test_without_parity_reflections_are_refused():
    with pytest.raises(ValueError, match="cannot be reflected"):
        wigner_d(1, -torch.eye(3))


@pytest.mark.parametrize(
    "degrees", [(a, b, c) for a in range(4) for b in range(4) for c in range(abs(a - b), a + b + 1)]
)
def test_clebsch_gordan_agrees_with_e3nn(degrees):
    ours = clebsch_gordan(*degrees)
    theirs = o3.wigner_3j(*degrees) * (2 * degrees[2] + 1) ** 0.5
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    torch.testing.assert_close(torch.einsum("mnk,mnj->kj", ours, ours), torch.eye(2 * degrees[2] + 1))


TRIPLES = [(j, l, J) for j in range(7) for l in range(7) for J in range(abs(j - l), min(j + l, 6) + 1)]


def test_clebsch_gordan_equals_the_compilers_signs_included():
    """Every triple up to degree 6, against the exact signed roots."""
    for j, l, J in TRIPLES:
        expected = torch.zeros(2 * j + 1, 2 * l + 1, 2 * J + 1)
        for (m, n, M), root in exact_clebsch_gordan(j, l, J).items():
            expected[j + m, l + n, J + M] = float(root)
        assert expected.abs().max() > 0.1  # so that a wrong sign is a large difference
        torch.testing.assert_close(clebsch_gordan(j, l, J), expected, rtol=0, atol=3e-16)
    assert len(TRIPLES) == 175


def test_clebsch_gordan_of_exchanged_fields_differs_by_the_known_sign():
    for j, l, J in TRIPLES:
        exchanged = clebsch_gordan(l, j, J).transpose(0, 1)
        torch.testing.assert_close(exchanged, (-1) ** (j + l - J) * clebsch_gordan(j, l, J), rtol=0, atol=3e-16)


def test_changing_a_returned_constant_changes_no_other():
    mine = clebsch_gordan(1, 2, 3)
    mine.zero_()
    assert clebsch_gordan(1, 2, 3).abs().max() > 0.1


def test_constants_made_under_another_default_device_serve_all():
    degree = 13  # no other test uses it: the first call makes the constants
    with torch.device("meta"):
        clebsch_gordan(degree, 0, degree)
        wigner_d(degree, torch.eye(3, device="cpu"))
    torch.testing.assert_close(clebsch_gordan(degree, 0, degree)[:, 0], torch.eye(2 * degree + 1))
    torch.testing.assert_close(wigner_d(degree, torch.eye(3)), torch.eye(2 * degree + 1))


def test_clebsch_gordan_refuses_what_is_zero():
    with pytest.raises(ValueError, match="degrees 1 and 1 have no product of degree 3"):
        clebsch_gordan(1, 1, 3)


def test_the_cube_group_is_closed_and_complete():
    turns, all_48 = cube_turns(), cube_turns(reflections=True)
    assert turns.shape == (24, 3, 3) and all_48.shape == (48, 3, 3)
    assert torch.equal(turns[0], torch.eye(3, dtype=torch.int64)) and torch.equal(turns, all_48[:24])
    for group, signs in ((turns, {1}), (all_48, {1, -1})):
        members = {tuple(r.flatten().tolist()) for r in group}
        assert len(members) == len(group)
        assert {tuple((a @ b).flatten().tolist()) for a in group for b in group} == members
        assert {round(torch.linalg.det(r.double()).item()) for r in group} == signs


def test_random_rotations_are_uniform():
    rotations = random_rotations(20_000, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(rotations @ rotations.mT, torch.eye(3).expand(20_000, 3, 3))
    torch.testing.assert_close(torch.linalg.det(rotations), torch.ones(20_000))
    for degree in (1, 2, 3):  # the Haar mean of D^l is zero for l > 0
        assert wigner_d(degree, rotations).mean(0).abs().max() < 0.02


@pytest.mark.parametrize("degree", [1, 2, 17, 18, 40, 128])
def test_harmonics_of_high_degree_equal_scipys(degree):
    points = torch.cat([random_rotations(30)[..., 0], torch.eye(3), -torch.eye(3), torch.tensor([[1e-3, 1.0, 1e-3]])])
    points /= points.norm(dim=1, keepdim=True)
    x, y, z = (points[:, i].numpy() for i in (2, 0, 1))  # the standard harmonics' names
    theta, phi = np.arctan2(np.hypot(x, y), z), np.arctan2(y, x)
    columns = []
    for m in range(-degree, degree + 1):
        value = math.sqrt(4 * math.pi) * sph_harm_y(degree, abs(m), theta, phi) * (-1) ** m
        columns.append(value.real if m == 0 else math.sqrt(2) * (value.real if m > 0 else value.imag))
    expected = torch.from_numpy(np.stack(columns, -1))
    scale = math.sqrt(2 * degree + 1)
    ours = spherical_harmonics(degree, points)
    torch.testing.assert_close(ours / scale, expected / scale, rtol=0, atol=1e-13)
    torch.testing.assert_close(ours.square().sum(1), torch.full((len(points),), 2.0 * degree + 1))


def legendre_over_sine(l, m, z):
    """d^m P_l / dz^m, from the integer coefficients of P_l."""
    terms = (
        (-1) ** k * math.comb(l, k) * math.comb(2 * l - 2 * k, l) * math.perm(l - 2 * k, m) * z ** (l - 2 * k - m)
        for k in range((l - m) // 2 + 1)
    )
    return mpmath.fsum(terms) / 2**l


def test_harmonics_of_degree_128_are_those_of_exact_arithmetic():
    """Every order at three points, near the pole too, with 200 digits: the accuracy promised."""
    points = torch.tensor([[0.6, 0.64, 0.48], [0.02, 0.9996, 0.02], [-0.8, -0.01, 0.6]])
    points /= points.norm(dim=1, keepdim=True)
    ours = spherical_harmonics(128, points) / math.sqrt(257)
    with mpmath.workdps(200):
        for point, row in zip(points.tolist(), ours.tolist(), strict=True):
            y, z, x = map(mpmath.mpf, point)
            r = mpmath.sqrt(x * x + y * y + z * z)
            for m in range(129):
                norm = mpmath.sqrt(mpmath.factorial(128 - m) / mpmath.factorial(128 + m) * (2 if m else 1))
                value = norm * legendre_over_sine(128, m, z / r) * mpmath.mpc(x / r, y / r) ** m
                assert abs(row[128 + m] - value.real) < 1e-13
                assert m == 0 or abs(row[128 - m] - value.imag) < 1e-13


@pytest.mark.parametrize("degree", [20, 64, 128])
def test_wigner_matrices_of_high_degree_are_a_representation_and_rotate_harmonics(degree):
    a, b = random_rotations(2)
    D = wigner_d(degree, a)
    identity = torch.eye(2 * degree + 1)
    torch.testing.assert_close(D @ D.mT, identity, rtol=0, atol=1e-12)
    torch.testing.assert_close(wigner_d(degree, a @ b), D @ wigner_d(degree, b), rtol=0, atol=1e-12)
    points = random_rotations(5)[..., 0]
    expected = spherical_harmonics(degree, points) @ D.mT
    torch.testing.assert_close(spherical_harmonics(degree, points @ a.mT), expected, rtol=0, atol=2e-12)
