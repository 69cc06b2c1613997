"""A page of the documentation as a program: its blocks run in order, in a separate directory.

    ```toml after a line that names `first.toml`     becomes that file
    ```python                                        runs, all blocks of a page in one namespace, test functions too;
                                                     after a line that names `name.py`, it becomes that file instead
    ```sh, ```console and indented commands          `basisgen ...` and `python ...` run; `basisgen` must exit with 0
    ```console                                       what stands under a command is what it prints, apart from figures
    `basisgen ...` within a sentence                 runs; with a PLACEHOLDER, or without arguments, it must exist

Commands that take more than their page, a checkout or minutes, are left to `tests.docs.commands`, which says how each
is run; any other command is an error. `python -m tests.docs.page PAGE` runs a page in the present directory, which
should be empty.
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
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from tests.docs.commands import claims

REPOSITORY = Path(__file__).parent.parent.parent
PLACES = ("*.md", "docs/**/*.md", "examples/**/*.md", "benchmarks/**/*.md")
PAGES = {str(page.relative_to(REPOSITORY)): page for place in PLACES for page in sorted(REPOSITORY.glob(place))}
PROGRAM = (
    r"(?:[A-Z_]+=\S+ )*(?:basisgen|python3?|torchrun|pip|pytest|mkdocs|mypy|ruff|make|git|source|eval|export|bash|sh|"
    r"srun|sbatch|uv|conda|curl|docker|tensorboard) "
)
FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
INDENTED = re.compile(r"(?:\A|(?<=\n\n))(?: {4}[^\n]*\n+)+")
INLINE = re.compile(rf"`({PROGRAM}[^`]+)`")
PLAIN = ("", "text", "txt", "bash", "shell")  # languages of a fence that may hold commands
COMMENT = re.compile(r"(^|\s+)#( .*)?$")
PLACEHOLDER = re.compile(r"\b[A-Z]{1,}[A-Z_]*\b|\.\.\.|<")
FILE = re.compile(r"`(\w+\.(?:toml|py))`[^`\n]*\n+\Z")
NUMBER = re.compile(r"\d+(\.\d+)?(e[+-]\d+)?")


@dataclass(frozen=True)
class Block:
    """One block: the line it starts on, its language, its text, and the file it becomes, if it does.

    Languages besides those of fences: `inline`, a command within a sentence; `script`, a shell script.
    """

    line: int
    language: str
    text: str
    file: str | None = None

    def commands(self) -> list[tuple[str, str | None]]:
        """Its commands without comments, each with the output the page shows: None where it shows none."""
        if self.language == "sh":
            lines = [COMMENT.sub("", line).strip() for line in re.sub(r"\\\n\s*", "", self.text).splitlines()]
            return [(line, None) for line in lines if line]
        if self.language == "console":
            parts = re.split(r"^\$ ", self.text, flags=re.MULTILINE)
            return [tuple(part.split("\n", 1)) for part in parts if part.strip()]  # type: ignore[misc]
        return [(self.text.strip(), None)] if self.language in ("inline", "script") else []


class PageError(Exception):
    """A block of a page does not do what it says."""


def blocks(text: str) -> list[Block]:
    """The blocks of a page in order."""
    found = []
    for match in FENCE.finditer(text):
        indent = len(match[1])
        body = "".join(line[indent:] if line.strip() else line for line in match[3].splitlines(True))
        named = FILE.search(text[: match.start()])
        found.append(Block(_line(text, match.start(3)), _language(match[2], body), body, named[1] if named else None))
    text = FENCE.sub(_blank, text + "\n")
    for match in INDENTED.finditer(text):
        body = re.sub("(?m)^ {4}", "", match[0])
        found.append(Block(_line(text, match.start()), _language("", body), body))
    text = INDENTED.sub(_blank, text)
    for match in INLINE.finditer(text):
        command = " ".join(match[1].split()).replace("\\|", "|")  # as in a table
        found.append(Block(_line(text, match.start()), "inline", command))
    return sorted(found, key=lambda block: block.line)


def runs(command: str, page: Collection[Block]) -> bool:
    """Whether a command runs with its page: it is ours, or a script that stands on the page."""
    words = command.split()
    return words[0] in ("basisgen", "cd") or words[:2] in (["python", block.file] for block in page)


def _language(named: str, body: str) -> str:
    """The language of a block; where it is not named, by what stands in it."""
    if named not in PLAIN:
        return named
    if body.startswith("#!"):
        return "script"
    if named in ("bash", "shell") or re.search(rf"(?m)^{PROGRAM}", body):
        return "sh"
    return "console" if re.search(r"(?m)^\$ ", body) else named


def _blank(match: re.Match[str]) -> str:
    """As many lines and columns without anything in them."""
    return re.sub(r"[^\n]", " ", match[0])


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
    home = Path.cwd()
    try:
        return sum(_run_command(command, shown) for command, shown in block.commands())
    finally:
        os.chdir(home)  # a block's `cd` holds within the block


def _run_command(command: str, shown: str | None) -> int:
    if claims(command):
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
        raise PageError(f"`{command}` neither runs with its page nor stands in tests/docs/commands.py")
    importlib.invalidate_caches()
    if shown and shown.strip() and NUMBER.sub("#", shown.strip()) != NUMBER.sub("#", printed.strip()):
        raise PageError(f"`{command}` prints\n{printed}")
    return 1


def _run_inline(command: str) -> int:
    if not command.startswith("basisgen "):
        return _run_command(command, None)
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
