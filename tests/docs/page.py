"""A page of the documentation as a program: its blocks run in order, in a directory of its own.

    ```toml after a line that names `first.toml`     becomes that file
    ```python                                        runs, all blocks of a page in one namespace, test functions too;
                                                     after a line that names `name.py`, it becomes that file instead
    ```sh, ```console and indented commands          `basisgen ...` and `python ...` run; `basisgen` must exit with 0
    ```console                                       what stands under a command is what it prints, but for figures
    `basisgen ...` within a sentence                 runs; with a PLACEHOLDER, or without arguments, it must exist

Commands that set up a machine are not run; they are in SETUP, and any other command is an error. `python -m
tests.docs.page PAGE` runs a page in the present directory, which should be empty.
"""

from __future__ import annotations

import importlib
import inspect
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent.parent
SETUP = re.compile(r"pip install|make (demo|test|lint|docs)|git clone|pytest\b|eval |echo |source |#")
LONG = re.compile(r"python (benchmarks/|-m examples\.|train\.py|docs/make_pictures)|UPDATE_DOCS=1")
FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
INDENTED = re.compile(r"^    ((?:\$ )?(?:basisgen|python|make|pip) [^\n]+)$", re.MULTILINE)
INLINE = re.compile(r"`(basisgen [^`]+)`")
PLACEHOLDER = re.compile(r"\b[A-Z]{1,}[A-Z_]*\b|\.\.\.|<")
FILE = re.compile(r"`(\w+\.(?:toml|py))`[^`\n]*\n+\Z")
NUMBER = re.compile(r"\d+(\.\d+)?(e[+-]\d+)?")


@dataclass(frozen=True)
class Block:
    """One block: the line it starts on, its language, its text, and the file it becomes, if it does."""

    line: int
    language: str
    text: str
    file: str | None


class PageError(Exception):
    """A block of a page does not do what it says."""


def blocks(text: str) -> list[Block]:
    """The blocks of a page in order; indented commands are blocks of language `sh`."""
    found = []
    for match in FENCE.finditer(text):
        indent = len(match[1])
        body = "".join(line[indent:] if line.strip() else line for line in match[3].splitlines(True))
        named = FILE.search(text[: match.start()])
        found.append(Block(_line(text, match.start(3)), match[2], body, named[1] if named else None))
    outside = FENCE.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)
    found += [Block(_line(text, match.start()), "sh", match[1] + "\n", None) for match in INDENTED.finditer(outside)]
    found += [
        Block(_line(text, match.start()), "inline", " ".join(match[1].split()), None)
        for match in INLINE.finditer(outside)
    ]
    return sorted(found, key=lambda block: block.line)


def run(page: Path) -> int:
    """Runs every block of a page in the present directory; returns how many did something.

    Raises PageError, with page and line, at the first that fails.
    """
    for name in ("generated/tetris", "examples/tetris"):
        shutil.copytree(REPOSITORY / name, name, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    namespace: dict[str, object] = {"__name__": "page"}
    done = 0
    for block in blocks(page.read_text("utf-8")):
        try:
            done += _run_block(block, page, namespace)
        except Exception as error:
            raise PageError(f"{page.name}, line {block.line}: {type(error).__name__}: {error}") from error
    return done


def _run_block(block: Block, page: Path, namespace: dict[str, object]) -> int:
    if block.file and block.language in ("toml", "python"):
        Path(block.file).write_text(block.text, "utf-8")
        return 1
    if block.language == "python":
        before = set(namespace)
        source = "\n" * (block.line - 1) + block.text
        exec(compile(source, str(page), "exec"), namespace)  # the page is ours
        for name in sorted(set(namespace) - before):
            if name.startswith("test_") and inspect.isfunction(namespace[name]):
                namespace[name]()
        return 1
    if block.language == "inline":
        return _run_inline(block.text)
    if block.language not in ("sh", "console"):
        return 0
    home = Path.cwd()
    try:
        return sum(_run_command(command, shown) for command, shown in _commands(block))
    finally:
        os.chdir(home)  # a block's `cd` holds within the block


def _commands(block: Block) -> list[tuple[str, str | None]]:
    """Commands of a block, each with the output the page shows: None for `sh`, which shows none."""
    if block.language == "sh":
        return [(line.removeprefix("$ ").strip(), None) for line in block.text.splitlines() if line.strip()]
    parts = re.split(r"^\$ ", block.text, flags=re.MULTILINE)
    return [tuple(part.split("\n", 1)) for part in parts if part.strip()]  # type: ignore[misc]


def _run_command(command: str, shown: str | None) -> int:
    if SETUP.match(command) or LONG.match(command):
        return 0
    words = shlex.split(command, comments=True)
    if words[0] == "cd":
        os.chdir(words[1])
        return 0
    if words[0] == "basisgen":
        printed = _basisgen(words[1:])
    elif words[0] == "python":
        result = subprocess.run([sys.executable, *words[1:]], capture_output=True, text=True, check=False)
        if result.returncode:
            raise PageError(f"`{command}` exits with {result.returncode}: {result.stderr}")
        printed = result.stdout
    else:
        raise PageError(f"`{command}` is not a command that pages may show: neither run nor listed as not run")
    importlib.invalidate_caches()
    if shown and shown.strip() and NUMBER.sub("#", shown.strip()) != NUMBER.sub("#", printed.strip()):
        raise PageError(f"`{command}` prints\n{printed}")
    return 1


def _run_inline(command: str) -> int:
    words = shlex.split(command)[1:]
    if len(words) > 1 and not PLACEHOLDER.search(re.sub(r'"[^"]*"', "", command)):
        return _run_command(command, None)
    from basisgen.cli import main

    known = main.commands.get(words[0])
    if known is None and not words[0].startswith("-") and not PLACEHOLDER.fullmatch(words[0]):
        raise PageError(f"`{command}`: there is no such command")
    options = {option for parameter in (known or main).params for option in parameter.opts} | {"--help"}
    unknown = [word for word in words if word.startswith("-") and word.split("=")[0] not in options]
    if unknown:
        raise PageError(f"`{command}`: there is no option {unknown[0]}")
    return 0


def _basisgen(arguments: list[str]) -> str:
    from click.testing import CliRunner

    from basisgen.cli import main

    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    if result.exit_code:
        raise PageError(f"basisgen {shlex.join(arguments)} exits with {result.exit_code}: {result.output}")
    return result.stdout


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


if __name__ == "__main__":
    print(run(Path(sys.argv[1])), "blocks and commands")
