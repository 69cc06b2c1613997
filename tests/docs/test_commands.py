"""Every command on every page is run: with its page (test_pages.py), or typed into a copy of the repository, here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from basisgen.commands.new.presets import PRESETS
from basisgen.commands.new.project import project
from tests.conftest import REPOSITORY
from tests.docs.checkout import SMALL, Checkout, TypedError, checkout, small
from tests.docs.commands import COMMANDS, UNSHOWN, Typed, claims
from tests.docs.page import PAGES, blocks, runs

NEW = {f"README.md of a new {preset}": project("shapes", preset)["README.md"] for preset in PRESETS}
TEXTS = {name: page.read_text("utf-8") for name, page in PAGES.items()} | NEW
SCRIPTS = [f"python {path.relative_to(REPOSITORY)}" for path in sorted(REPOSITORY.glob("benchmarks/*.py"))]


def shown(texts: Mapping[str, str]) -> Iterator[tuple[str, str, bool]]:
    """Every command: where it stands, what it says, and whether it runs with its page."""
    for name, text in texts.items():
        page = blocks(text)
        for block in page:
            for command, _ in block.commands():
                yield f"{name}, line {block.line}", command, runs(command, page)


def complaints(texts: Mapping[str, str], table: Mapping[str, Typed]) -> list[str]:
    """Commands that are not run in exactly one way, and entries of the table without a command."""
    found, used = [], set()
    for where, command, with_page in shown(texts):
        ways = [*(["its page"] if with_page else []), *claims(command, table)]
        used |= set(ways)
        if not ways:
            found.append(f"{where}: no test runs `{command}`. Add it to COMMANDS in tests/docs/commands.py.")
        elif len(ways) > 1:
            found.append(f"{where}: `{command}` is claimed by {' and '.join(ways)}.")
    return found + [f"COMMANDS: no page shows a command of '{name}'." for name in table if name not in used]


def test_every_command_of_every_page_is_run_in_one_way() -> None:
    assert complaints(TEXTS, COMMANDS) == []
    assert len(list(shown(TEXTS))) > 100


def test_every_benchmark_is_run() -> None:
    ways = {script: claims(script, COMMANDS | UNSHOWN) for script in SCRIPTS}
    assert [script for script, names in ways.items() if len(names) != 1] == []
    assert {name for names in ways.values() for name in names} >= set(UNSHOWN)


LOST = {
    "a shell block": ("Then\n\n```sh\nmake tea  # with milk\n```\n", "line 4: no test runs `make tea`"),
    "any line of it": ("```sh\nbasisgen show 1 1\nfrobnicate\n```\n", "no test runs `frobnicate`"),
    "a console block": ("```console\n$ pip install tea\ndone\n```\n", "no test runs `pip install tea`"),
    "a block without a language": ("```\n$ make tea\n```\n", "no test runs `make tea`"),
    "an indented block": ("Then\n\n    torchrun brew.py  # or\n    make tea\n", "no test runs `torchrun brew.py`"),
    "continued lines": ("    make \\\n      tea\n", "no test runs `make tea`"),
    "a sentence": ("Say `python benchmarks/tea.py\n--hot` twice.\n", "no test runs `python benchmarks/tea.py --hot`"),
    "a script": ("    #!/bin/bash\n    srun tea\n", "no test runs `#!/bin/bash\nsrun tea`"),
    "a script that is not on the page": ("```sh\npython brew.py\n```\n", "no test runs `python brew.py`"),
    "an option too many": ("    make test --really\n", "no test runs `make test --really`"),
}


@pytest.mark.parametrize("case", LOST)
def test_a_command_that_no_test_runs_is_found(case: str) -> None:
    text, complaint = LOST[case]
    (first, *_) = complaints({"page.md": text}, COMMANDS)
    assert first.startswith("page.md, line") and complaint in first


def test_entries_without_a_command_and_commands_with_two_entries_are_found() -> None:
    (idle,) = complaints(TEXTS, COMMANDS | {"tea": Typed("make tea")})
    assert "'tea'" in idle
    (double,) = {text.split(": ", 1)[1] for text in complaints(TEXTS, COMMANDS | {"tea": Typed("make lint")})}
    assert double == "`make lint` is claimed by make lint and tea."


def test_presets_become_small() -> None:
    presets = sorted(REPOSITORY.glob("examples/*/presets/*.toml"))
    texts = [small(preset.read_text("utf-8")) for preset in presets]
    assert all(text.count("test_rotations = 2\n") == text.count("test_rotations =") == 1 for text in texts)
    for key in ("epochs", "size"):
        assert all(text.count(f"\n{key} = {SMALL[key]}\n") == text.count(f"\n{key} = ") for text in texts)
    kinds = ("\nepochs = ", "\nbased_on = ", "\nband_limits = ")  # the last: what is measured without training
    assert all(any(kind in text for kind in kinds) for text in texts)
    assert all(any(f"\n{key} = {value}\n" in f"\n{text}" for text in texts) for key, value in SMALL.items())


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    return checkout(tmp_path_factory.mktemp("copy"))


TYPED = sorted({command for _, command, with_page in shown(TEXTS) if not with_page} | set(SCRIPTS))


@pytest.mark.slow
@pytest.mark.parametrize("command", TYPED, ids=[command.split("\n")[0] for command in TYPED])
def test_the_command_does_what_its_page_says(command: str, copy: Checkout, tmp_path: Path) -> None:
    (name,) = claims(command, COMMANDS | UNSHOWN)
    copy.type((COMMANDS | UNSHOWN)[name], command, tmp_path)


PIP = COMMANDS["pip"]
FAILS = {
    "a command that fails": (Typed(""), "ls nowhere", "exits with 2"),
    "what comes before it fails": (Typed("", before="false\n"), "true", "exits with 1"),
    "other output": (Typed("", says="done"), "echo do", "does not print done"),
    "nothing written": (Typed("", leaves=("{out}/results.json",)), "true", "does not write .*/results.json"),
    "a file of an earlier command": (Typed("", leaves=("aa_env.npz",)), "true", "does not write .*/aa_env.npz"),
    "committed results changed": (
        Typed(""),
        "echo 1 > benchmarks/results/speed.md",
        "changes benchmarks/results/speed.md",
    ),
    "a committed file removed": (Typed("", changes=("Makefile",)), "rm README.md", "changes README.md"),
    "an extra that is not there": (PIP, 'pip install ".[tea]"', "does not print"),
    "an option that is not there": (
        UNSHOWN["benchmark of degrees"],
        "python benchmarks/degrees.py --tea",
        "exits with 2",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", FAILS)
def test_a_command_that_does_not_is_found(case: str, copy: Checkout, tmp_path: Path) -> None:
    typed, command, complaint = FAILS[case]
    with pytest.raises(TypedError, match=complaint):
        copy.type(typed, command, tmp_path)
    assert all((copy.place / name).read_bytes() == content for name, content in copy.committed.items())
