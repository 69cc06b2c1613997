"""The `radial` table of a spec: every key, its bounds, and what a wrong one is told."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from basisgen.errors import SamplingError, SpecError
from basisgen.reading import exact_number
from basisgen.volumes.sampling.grid import VoxelGrid
from basisgen.volumes.sampling.hermite import Hermite
from basisgen.volumes.sampling.optimal import Optimal
from basisgen.volumes.sampling.registry import FAMILIES, parse_radial
from basisgen.volumes.sampling.shells import Cutoff, Shells


@pytest.mark.parametrize(
    ("table", "family"),
    [
        ({"family": "shells"}, Shells(Cutoff.COMPROMISE, None, None)),
        ({"family": "shells", "sigma": Decimal("0.6")}, Shells(sigma=Fraction(3, 5))),
        ({"family": "shells", "sigma": 0.1}, Shells(sigma=Fraction(1, 10))),
        ({"family": "shells", "sigma": "2/3", "cutoff": "sfcnn"}, Shells(Cutoff.SFCNN, Fraction(2, 3))),
        (
            {"family": "shells", "radii": [0, 1.5], "cutoff": [0, 2]},
            Shells((0, 2), None, (Fraction(0), Fraction(3, 2))),
        ),
        ({"family": "optimal"}, Optimal()),
        ({"family": "optimal", "max_defect": Fraction(1, 10)}, Optimal(max_defect=Fraction(1, 10))),
        ({"family": "optimal", "count": [3, 2], "bandwidth": 0.35}, Optimal(count=(3, 2), bandwidth=Fraction(7, 20))),
        ({"family": "hermite"}, Hermite()),
        ({"family": "hermite", "n_max": 4, "scale": 1}, Hermite(4, Fraction(1))),
    ],
)
def test_radial_tables_are_read(table: dict[str, object], family: object) -> None:
    assert parse_radial(table) == family


@pytest.mark.parametrize("name", FAMILIES)
def test_a_description_reads_back_as_the_family(name: str) -> None:
    family = parse_radial({"family": name})
    described = {key: value for key, value in family.describe().items() if value is not None}
    assert family.name == name
    assert parse_radial({"family": name, **described}) == family


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({}, r"radial = \{\} names no family. Add family = 'separable' \| 'optimal' \| 'hermite' \| 'shells'\."),
        ({"family": "gauss"}, "family = 'gauss': must be one of 'separable', 'optimal', 'hermite', 'shells'"),
        ({"family": ["shells"]}, "must be one of"),
        (
            {"family": "shells", "sigam": 1},
            "sigam = 1: there is no such setting here. Known: family, cutoff, sigma, radii",
        ),
        ({"family": "shells", 3: 1}, "there is no such setting"),
        ({"family": "shells", "sigma": 0}, "sigma = 0: must be a number from 0.001 to 1000, for example sigma = 0.6"),
        ({"family": "shells", "sigma": -1}, "sigma = -1"),
        ({"family": "shells", "sigma": 1001}, "sigma = 1001"),
        ({"family": "shells", "sigma": float("nan")}, "sigma = nan"),
        ({"family": "shells", "sigma": float("inf")}, "sigma = inf"),
        ({"family": "shells", "sigma": True}, "sigma = true"),
        ({"family": "shells", "sigma": None}, "sigma = None"),
        ({"family": "shells", "sigma": "1e999999999"}, "sigma = '1e999999999'"),
        ({"family": "shells", "sigma": Decimal("1E+999999")}, "sigma = 1E"),
        ({"family": "shells", "sigma": 10**400}, "sigma = 1000"),
        ({"family": "shells", "sigma": "1/0"}, "sigma = '1/0'"),
        ({"family": "shells", "cutoff": "none"}, "must be one of 'conservative', 'compromise', 'sfcnn'"),
        ({"family": "shells", "cutoff": 3}, "must be a list of 1 to 64 numbers"),
        ({"family": "shells", "cutoff": []}, "must be a list of 1 to 64 numbers"),
        ({"family": "shells", "cutoff": [0] * 65}, "must be a list of 1 to 64 numbers"),
        ({"family": "shells", "cutoff": [0, -1]}, "whole numbers from 0 to 1000"),
        ({"family": "shells", "cutoff": [0, 1.5]}, "whole numbers from 0 to 1000"),
        ({"family": "shells", "cutoff": [False]}, "whole numbers from 0 to 1000"),
        ({"family": "shells", "radii": [1, 1]}, "must increase"),
        ({"family": "shells", "radii": [-1]}, "must increase, from 0"),
        ({"family": "shells", "radii": ["x"]}, "must increase"),
        ({"family": "optimal", "max_defect": 1}, "from 0.001 to 0.9"),
        ({"family": "optimal", "max_defect": 0.1, "count": [1]}, "exclude one another"),
        ({"family": "optimal", "bandwidth": 3}, "bandwidth = 3: must be a number from 0.05 to 2"),
        ({"family": "optimal", "sigma": 1}, "sigma = 1: there is no such setting"),
        ({"family": "hermite", "n_max": 41}, "whole number from 0 to 40"),
        ({"family": "hermite", "n_max": "4"}, "whole number from 0 to 40"),
        ("shells", "radial = 'shells' is not a table"),
    ],
)
def test_bad_radial_tables_are_refused(table: Any, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        parse_radial(table)


def test_messages_stay_short() -> None:
    for table in ({"family": "x" * 10_000}, {"x" * 10_000: 1, "family": "shells"}, {"n": ["y"] * 10_000}):
        with pytest.raises(SpecError) as error:
            parse_radial(table)
        assert len(str(error.value)) < 300


scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=50), st.decimals())


@given(
    st.dictionaries(
        st.one_of(st.sampled_from(["sigma", "cutoff", "radii", "count", "n_max", "scale"]), st.text(max_size=10)),
        st.one_of(scalars, st.lists(scalars, max_size=5), st.dictionaries(st.text(max_size=3), scalars, max_size=2)),
        max_size=3,
    ),
    st.sampled_from(sorted(FAMILIES)),
)
def test_anything_at_all_is_read_or_refused(table: dict[str, object], family: str) -> None:
    try:
        parse_radial({"family": family, **table})
    except SpecError as error:
        assert str(error)


@given(st.fractions(min_value=Fraction(-(10**6)), max_value=Fraction(10**6), max_denominator=10**6))
def test_numbers_are_exact(number: Fraction) -> None:
    assert exact_number(number) == number
    assert exact_number(str(number)) == number
    assert exact_number(Decimal("0.1")) == exact_number(0.1) == exact_number("0.1") == Fraction(1, 10)


def test_the_grid_may_lack_what_the_settings_ask() -> None:
    cube = VoxelGrid((3, 3, 3))
    with pytest.raises(SamplingError, match=r"cutoff \[0, 1, 2\] names 3 shells, a 3x3x3 kernel has 2 \(radii 0, 1\)"):
        Shells(cutoff=(0, 1, 2)).groups(cube, [0])
    with pytest.raises(SamplingError, match="shell of radius 0 holds no filter of degree J = 2 on a 1x1x1 grid"):
        Shells(cutoff=(4,)).groups(VoxelGrid((1, 1, 1)), [2])
    with pytest.raises(SamplingError, match="count asks for 5 filters of degree J = 1, a 3x3x3 grid has"):
        Optimal(count=(1, 5)).groups(cube, [0, 1])
    with pytest.raises(SamplingError, match="oscillator filter of degree J = 1, level 1 is zero at every tap"):
        Hermite(n_max=1).groups(VoxelGrid((1, 1, 1)), [0, 1])
