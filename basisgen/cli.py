"""The command line. An error is one message on stderr; exit 2: the caller's mistake, 1: a failed check or our bug."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click

import basisgen
from basisgen.commands import completion
from basisgen.commands.new.presets import HELP, PRESETS
from basisgen.commands.options import check_meaning, settings, value_of
from basisgen.commands.terminal import WIDTH, console, explains_errors, print_table, say, say_first, terminal_width
from basisgen.errors import SpecError

MAX_COMPLAINTS = 20  # that `verify` prints; --json prints all

_OUT = click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("generated"),
    show_default=True,
    help="Directory that holds the packages: generated, or one inside your own package.",
)
_CHECK = click.option(
    "--check",
    is_flag=True,
    help="Write nothing; exit 1 with a diff if the package is not current: its first lines, all with -v.",
)
_LONG = click.option("--long", is_flag=True, help="Go on where checking takes more than half a minute.")
_FORCE = click.option(
    "--force", is_flag=True, help="Compile even if nothing has changed (for work on basisgen itself)."
)
_VERBOSE = click.option("-v", "--verbose", is_flag=True, help="Show how each layer will run, and what it costs.")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(basisgen.__version__, prog_name="basisgen")
def main() -> None:
    """Compile rotation-equivariant layers, for volumes and for signals on the sphere, into plain PyTorch.

    The bases of their kernels and products are exact and proved.

    \b
    Example:
      basisgen conv "1x0" "4x0 + 4x1" --kernel-size 5 --name first_layer
      basisgen compile examples/tetris/tetris.toml
    """


@main.command("compile", short_help="Compile a spec into a package.")
@click.argument("spec", type=click.Path(dir_okay=False, path_type=Path))
@_OUT
@_CHECK
@_FORCE
@_VERBOSE
@click.option(
    "--jobs",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Number of processes; each takes the filters of one grid and radial family.",
)
@explains_errors
def compile_command(spec: Path, out: Path, check: bool, force: bool, verbose: bool, jobs: int) -> None:
    """Compile the layers of SPEC (TOML) into the package OUT/<name>.

    \b
    Example:
      basisgen compile examples/tetris/tetris.toml
      basisgen compile shapes.toml --out src/mine/kernels
    """
    from basisgen.commands.compile import compile_to, read_spec

    compile_to(out, read_spec(spec), check=check, force=force, verbose=verbose, jobs=jobs)


@main.command(short_help="Compile one layer, without a spec.")
@click.argument("into", metavar="IN")
@click.argument("out_type", metavar="OUT")
@click.option("--kernel-size", required=True, help="Taps per axis: 5, or 5,5,3.")
@click.option("--voxel-spacing", default="1", show_default=True, help="Physical voxel size: 1, or 1,1,3.")
@click.option("--dilation", default="1", show_default=True, help="Distance of neighbouring taps in voxels.")
@click.option(
    "--family",
    default=None,
    help="Radial family: separable, optimal, hermite or shells. Without it: separable, or the one with your settings.",
    shell_complete=completion.families,
)
@click.option(
    "--radial", multiple=True, metavar="KEY=VALUE", help="A setting of the family, as in a spec. May be repeated."
)
@click.option(
    "--execution",
    default="auto",
    show_default=True,
    help="auto, dense or separable.",
    shell_complete=completion.executions,
)
@click.option(
    "--gated", is_flag=True, help="Append one scalar per non-scalar field copy to OUT, for basisgen_runtime.Gate."
)
@click.option("--name", default="conv", show_default=True, help="The package; its class is Conv.")
@_OUT
@_CHECK
@_FORCE
@_VERBOSE
@explains_errors
def conv(into: str, out_type: str, family: str | None, radial: tuple[str, ...], **options: Any) -> None:
    """Compile one convolution from IN to OUT fields, without a spec file: package NAME, class Conv.

    \b
    Example:
      basisgen conv "1x0" "4x0 + 4x1" --kernel-size 5 --name first_layer
      basisgen conv "1x0e" "2x1o" --kernel-size 7,7,3 --voxel-spacing 1,1,3 --family shells
    """
    from basisgen.commands.compile import compile_to
    from basisgen.spec import parse_layer, single_layer_package

    table: dict[str, object] = {"name": "Conv", "in": into, "out": out_type, "radial": settings(family, radial)}
    for key in ("kernel_size", "voxel_spacing", "dilation"):
        table[key] = value_of(options[key])
    layer = parse_layer({**table, "gated": options["gated"], "execution": options["execution"]})
    flags = {key: options[key] for key in ("out", "check", "force", "verbose")}
    compile_to(spec=single_layer_package(options["name"], layer), **flags)
    for note in check_meaning(into, out_type):
        say(note, error=True)


@main.command(short_help="Compare filters for a layer, before training.")
@click.argument("into", metavar="IN")
@click.argument("out_type", metavar="OUT")
@click.option("--kernel-size", multiple=True, required=True, help="Taps per axis: 5, or 5,5,3. May be repeated.")
@click.option("--voxel-spacing", default="1", show_default=True, help="Physical voxel size: 1, or 1,1,3.")
@click.option("--dilation", default="1", show_default=True, help="Distance of neighbouring taps in voxels.")
@click.option(
    "--gated", is_flag=True, help="Append one scalar per non-scalar field copy to OUT, for basisgen_runtime.Gate."
)
@click.option(
    "--family",
    default=None,
    help="Add a line for this family with your settings. With --radial alone: the family that has them.",
    shell_complete=completion.families,
)
@click.option(
    "--radial", multiple=True, metavar="KEY=VALUE", help="A setting of that family, as in a spec. May be repeated."
)
@click.option(
    "--bandwidth",
    default="1/2",
    show_default=True,
    help="Bandwidth of the input, as a fraction of the Nyquist frequency.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@explains_errors
def defect(into: str, out_type: str, kernel_size: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Compare radial families and kernel sizes for one layer by weights and equivariance error. Nothing is written.

    The defect is the part of a layer's response that no rotation-equivariant layer could have, over inputs with power
    spectrum exp(-(w/w0)^2), w0 = bandwidth * Nyquist frequency. docs/defect.md says how to choose.

    \b
    Example:
      basisgen defect "1x0" "4x0 + 4x1 + 4x2" --kernel-size 5 --kernel-size 7
      basisgen defect "1x0e" "2x1o" --kernel-size 5,5,3 --voxel-spacing 1,1,3 --family shells --radial sigma=0.7
    """
    from rich.progress import track

    from basisgen.commands.defect import as_table, as_text, candidates, compare, parse_bandwidth, words

    table: dict[str, object] = {"in": into, "out": out_type, "gated": options["gated"]}
    for key in ("voxel_spacing", "dilation"):
        table[key] = value_of(options[key])
    given = options["family"] or options["radial"]
    own = settings(options["family"], options["radial"]) if given else {}
    sizes = [value_of(size) for size in kernel_size]
    spectrum = parse_bandwidth(options["bandwidth"])
    rivals = candidates(table, sizes, own, spectrum)
    bar = console(error=True)
    measured = compare(rivals, spectrum)
    shown = track(measured, "measuring", len(rivals), console=bar, disable=not bar.is_terminal, transient=True)
    comparisons = list(shown)
    if not any(one.figures for one in comparisons):
        raise SpecError(comparisons[0].problem)
    if as_json:
        say(json.dumps([one.describe() for one in comparisons], indent=1))
        return
    print_table(as_table(comparisons), as_text(comparisons))
    say(f"\n{words(comparisons)}")


@main.command(short_help="Re-check a package independently.")
@click.argument("package", type=click.Path(path_type=Path), shell_complete=completion.packages)
@click.option("--no-run", is_flag=True, help="Run no code of the package: leave out the checks of what it computes.")
@click.option("--seed", type=click.IntRange(0), help="Repeat the random checks of an earlier run.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@_LONG
@explains_errors
def verify(package: Path, no_run: bool, seed: int | None, as_json: bool, long: bool) -> None:
    """Re-check the package in directory PACKAGE, trusting neither solver nor files. Exit 1 if anything is wrong.

    The package's Python code runs only if every other check has passed, in a separate process. What would take more
    than half a minute is not begun, unless you say --long.

    \b
    Example:
      basisgen verify generated/tetris
    """
    from basisgen.commands.recompile import recompile
    from basisgen.verify.verify import verify_package

    with console(error=True).status("checking"):
        verdict = verify_package(package, run=not no_run, recompile=partial(recompile, long=long), seed=seed)
    if as_json:
        say(verdict.as_json())
    else:
        print_table(verdict.as_table(), verdict.as_text())
        say_first(MAX_COMPLAINTS, verdict.complaints)
        say(verdict.summary())
    sys.exit(0 if verdict.verified else 1)


@main.command("tune", short_help="Choose how layers run by measurement.")
@click.argument("package", type=click.Path(path_type=Path), shell_complete=completion.packages)
@click.option("--volume", default="24", show_default=True, help="Voxels per axis: 32, or 64,64,32.")
@click.option("--samples", type=click.IntRange(1, 1024), default=2, show_default=True, help="Volumes in a batch.")
@click.option("--stride", type=click.IntRange(1, 1024), default=1, show_default=True, help="The stride you will use.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, ...")
@click.option(
    "--threads", type=click.IntRange(1, 1024), default=None, help="Number of CPU threads.  [default: torch's]"
)
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Timed steps for each way to run.")
@click.option("--undo", is_flag=True, help="Measure nothing; let the package run as the compiler predicts again.")
@explains_errors
def tune_command(package: Path, volume: str, undo: bool, **options: Any) -> None:
    """Time the layers in PACKAGE that can run in two ways, on this machine, and keep the faster way.

    These are convolutions with execution "auto" and filters that are sums of products (separable, hermite): dense, or
    as passes. And on a GPU products of fields: in stock torch, or by a Triton kernel; signals are fields of one voxel.
    They are compiled both ways, and a training step of each is timed. The choice goes into the package, and compiling
    an unchanged spec keeps it. It changes how a layer runs, not what it computes: weights trained before still fit.

    \b
    Example:
      basisgen tune generated/segmentation --volume 48 --samples 1
      basisgen tune generated/sphere --device cuda --volume 1 --samples 128
      basisgen tune generated/segmentation --undo
    """
    from basisgen.commands.plan_table import tuning_as_text
    from basisgen.commands.recompile import free_layers
    from basisgen.commands.tune import Setting, read_spec, tune
    from basisgen.emission.render import render
    from basisgen.emission.write import check_place, write_package
    from basisgen.pipeline import plan

    spec = read_spec(package)
    check_place(package)
    if undo:
        write_package(render(plan(replace(spec, tuned=None))), package)
        say(f"{package} is written: every layer runs as the compiler predicts")
        return
    setting = Setting.parse(value_of(volume), **options)
    with console(error=True).status("") as status:
        in_a_log = None if status.console.is_terminal else partial(say, error=True)  # a line per layer
        tuned = tune(spec, setting, lambda name: status.update(f"timing {name}"), in_a_log)
    planned = plan(tuned)
    say(tuning_as_text(plan(replace(spec, layers=free_layers(spec, products=setting.is_on_gpu))), planned))
    write_package(render(planned), package)
    say(f"\n{package} is tuned; compiling the same spec keeps it so. To undo: basisgen tune {package} --undo")


@main.command("report", short_help="Write an HTML page about a package.")
@click.argument("package", type=click.Path(path_type=Path), shell_complete=completion.packages)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("report.html"),
    show_default=True,
    help="The page to write.",
)
@_LONG
@explains_errors
def report_command(package: Path, output: Path, long: bool) -> None:
    """Write one HTML page about the package in directory PACKAGE: formulas, filters, errors, proof. It opens offline.

    The package is checked first, as `basisgen verify --no-run` does; none of its code is run.

    \b
    Example:
      basisgen report generated/tetris -o tetris.html
    """
    from basisgen.commands.report.page import report
    from basisgen.files import write_file

    with console(error=True).status("checking and drawing"):
        page = report(package, long=long)
    write_file(output, page)
    say(f"{output}: {len(page.encode()) // 1024 + 1} KiB, opens in any browser")


@main.command(short_help="Show the exact kernels between two field types.")
@click.argument("into", metavar="IN", required=False)
@click.argument("out_type", metavar="OUT", required=False)
@click.option(
    "--degrees", nargs=2, type=int, metavar="J L", help="Instead of IN and OUT: from degree L (in) to degree J (out)."
)
@click.option("--product", nargs=3, type=click.IntRange(0), metavar="L1 L2 L", help="The product of degrees L1 and L2.")
@click.option("--zonal", nargs=2, type=int, metavar="L ANCHORS", help="Zonal filters between anchors.")
@click.option("--rotation", type=int, metavar="L", help="D^L of a rotation, in its angles.")
@click.option("--format", "style", type=click.Choice(["text", "latex", "json"]), default="text", show_default=True)
@explains_errors
def show(
    into: str | None,
    out_type: str | None,
    degrees: tuple[int, int] | None,
    style: str,
    product: tuple[int, int, int] | None,
    zonal: tuple[int, int] | None,
    rotation: int | None,
) -> None:
    """Show the exact kernels from IN to OUT fields, as polynomials in x, y, z: one basis for every pair of degrees.

    With --product, --zonal or --rotation, show what these say instead.

    \b
    Example:
      basisgen show 1x0 2x1
      basisgen show "1o" "0e + 2e" --format latex
      basisgen show --degrees 1 2
      basisgen show --product 2 3 4
      basisgen show --rotation 2
    """
    if (product, zonal, rotation) != (None, None, None):
        from basisgen.commands.show_other import text_of

        say(text_of(style, (into, degrees) == (None, None), product, zonal, rotation))
        return
    from basisgen.commands.show import STYLES, pairs_of
    from basisgen.volumes.conv_spec import check_one_group, read_field_type
    from basisgen.volumes.kernels.proof import prove
    from basisgen.volumes.kernels.solver import solve

    if degrees is not None and into is None:
        out_type, into = map(str, degrees)
    if into is None or out_type is None or (degrees is not None and str(degrees[0]) != out_type):
        raise SpecError("show takes IN and OUT, or --degrees J L: for example basisgen show 1x0 2x1.")
    types = read_field_type("IN", into), read_field_type("OUT", out_type)
    check_one_group(*types)
    pairs = pairs_of(*types)
    with console(error=True).status("") as status:
        bases = []
        for number, (out, of) in enumerate(pairs, 1):
            status.update(f"{of} -> {out}: {number} of {len(pairs)}; a minute for a pair of the highest degrees")
            bases.append(prove(solve(out, of)))
        text = STYLES[style](bases, terminal_width() or WIDTH)
    say(text)


@main.command(short_help="Start a project that runs as it is.", help=HELP)
@click.argument("name")
@click.option("--preset", type=click.Choice(list(PRESETS)), required=True, help="What the project does.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="Directory in which NAME is made.  [default: here]",
)
@explains_errors
def new(name: str, preset: str, out: Path) -> None:
    """See presets.HELP."""
    from basisgen.commands.new.project import project, write_project

    content = project(name, preset)
    write_project(content, out / name)
    for file in sorted(content):
        say(out / name / file)
    say(f"\n  cd {out / name}\n  basisgen compile {name}.toml\n  python train.py")
    say('  pytest  # after: pip install -e ".[test]"')


if __name__ == "__main__":
    main()
