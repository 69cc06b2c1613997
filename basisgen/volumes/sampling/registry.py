"""The radial families a spec can name. A new family is one file and one line here."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from basisgen.errors import SpecError
from basisgen.reading import Settings, quoted
from basisgen.volumes.sampling.families import RadialFamily
from basisgen.volumes.sampling.hermite import Hermite
from basisgen.volumes.sampling.optimal import Optimal
from basisgen.volumes.sampling.separable import Separable
from basisgen.volumes.sampling.shells import Shells

FAMILIES: Mapping[str, Callable[[Settings], RadialFamily]] = {
    "separable": Separable.parse,
    "optimal": Optimal.parse,
    "hermite": Hermite.parse,
    "shells": Shells.parse,
}


DEFAULT_FAMILY = "separable"


def parse_radial(table: Mapping[str, object]) -> RadialFamily:
    """Reads `{ family = "shells", sigma = 0.6, .. }`; keys left out take the family's defaults.

    Raises SpecError that quotes the value for an unknown family or key, or a value of the wrong kind or size.
    """
    if not isinstance(table, Mapping):
        raise SpecError(f'radial = {quoted(table)} is not a table. Write radial = {{ family = "{DEFAULT_FAMILY}" }}.')
    settings = Settings(table)
    family = settings.choice("family", FAMILIES)
    if family is None:
        raise SpecError(
            f"radial = {quoted(dict(table))} names no family. Add family = {' | '.join(map(repr, FAMILIES))}."
        )
    radial = FAMILIES[family](settings)
    settings.finish()
    return radial


def family_with(keys: Collection[str]) -> str:
    """The family that settings without one mean: the default if it has them, else the only one that has all of them."""
    having = [name for name, parse in FAMILIES.items() if set(keys) <= set(_keys(parse))]
    return having[0] if len(having) == 1 else DEFAULT_FAMILY


def _keys(parse: Callable[[Settings], RadialFamily]) -> tuple[str, ...]:
    settings = Settings({})
    parse(settings)
    return settings.known
