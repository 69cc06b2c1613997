"""`basisgen compile` and `basisgen conv`: a spec becomes a package on disk, or is compared with what is there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from basisgen.commands.plan_table import as_text
from basisgen.commands.terminal import console, say
from basisgen.emission.manifest import made_from
from basisgen.emission.package import PackagePlan
from basisgen.emission.render import render
from basisgen.emission.write import check_place, difference, is_up_to_date, read_package, tuning_of, write_package
from basisgen.errors import SpecError, StaleError
from basisgen.files import read_bounded
from basisgen.pipeline import plan
from basisgen.spec import KINDS, MAX_SPEC_BYTES, PackageSpec, parse_package

_NETWORK_KEYS = (
    "Under [network] the keys are stem_size (of the first convolution), kernel_size and radial; on few taps, as along "
    'a coarse axis, radial = "optimal" has filters of more degrees.'
)
_LINES_SHOWN = 24  # of each file that differs, by `compile --check`


def read_spec(path: Path) -> PackageSpec:
    """The package that a spec file states.

    Raises OutputError where it cannot be read, SpecError where it is not a spec.
    """
    body = read_bounded(path, MAX_SPEC_BYTES, "a spec")
    try:
        return parse_package(body.decode("utf-8-sig"))  # Windows' editors begin with the signature
    except UnicodeDecodeError as error:
        raise SpecError(f"{path} is not UTF-8 text: byte {error.start} cannot be read.") from None


def compile_to(
    out: Path, spec: PackageSpec, *, check: bool = False, force: bool = False, verbose: bool = False, jobs: int = 1
) -> None:
    """Compiles a package and writes it below `out`, unless it is up to date there.

    Prints what it did and what a user should know about the layers. Raises StaleError if it is told to compare and
    the package on disk differs.
    """
    directory, facts = out / spec.name, made_from(spec)
    spec = replace(spec, tuned=tuning_of(directory, spec))
    if not check and not force and is_up_to_date(directory, facts):
        if verbose:
            _show(plan(spec, jobs))
        say(f"{directory} is up to date")
        return
    if not check:
        check_place(directory)
    with console(error=True).status(f"compiling {spec.name}"):
        planned = plan(spec, jobs)
        content = render(planned)
    if check:
        stale = difference(read_package(directory), content, longest=None if verbose else _LINES_SHOWN)
        if stale:
            say(stale, end="")
            raise StaleError(f"{directory} is not what the compiler writes. Run the command without --check.")
        say(f"{directory} is what the compiler writes")
        return
    write_package(content, directory)
    _tell(planned, directory)
    if name := _name_inside(directory):
        say(f"{directory}: import it as {name}")
    if verbose:
        _show(planned)


def _name_inside(directory: Path) -> str | None:
    """What a package inside one of the user's is imported as, `mine.kernels.shapes`; None for one that stands alone.

    The user's is the nearest directory around it with an `__init__.py`, or the outermost of those around that; the
    present directory, where `generated` lies, and what is around it do not count.
    """
    place, here = directory.resolve(), Path.cwd()
    marked = [above for above in place.parents if not here.is_relative_to(above) and (above / "__init__.py").is_file()]
    if not marked:
        return None
    users = marked[0]
    while users.parent in marked:
        users = users.parent
    names = place.relative_to(users.parent).parts
    return ".".join(names) if all(map(str.isidentifier, names)) else None


def _tell(planned: PackagePlan, directory: Path) -> None:
    for layer in planned.layers:
        spec = layer.spec
        say(f"{directory}: {spec.name} {spec.into.brief()} -> {spec.gives.brief()}, {layer.weights} weights")
        for note in KINDS[spec.kind].notes(layer):
            if planned.spec.network is None:
                say(note, error=True)
            elif note.startswith("warning"):  # other notes are for who places a layer by hand
                say(f"{note} {_NETWORK_KEYS}", error=True)
    if planned.spec.network is not None:
        say(f"{directory}: basisgen_runtime.network builds the {planned.spec.network.kind} of these layers")


def _show(planned: PackagePlan) -> None:
    say(f"\n{as_text(planned)}\n")
