"""A project: spec, data, network, training script, property test, README.

    name, preset -> {file name: text} -> a new directory, whole or not at all

`templates/common` holds what all presets share, `templates/<preset>` the rest. The data is made by the project itself,
so that it runs as it is; it is the part to replace.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from basisgen.commands.new.presets import NETWORK, PRESETS
from basisgen.errors import OutputError
from basisgen.files import fill, make_parents, staged
from basisgen.reading import identifier
from basisgen.text import template


def project(name: str, preset: str) -> dict[str, str]:
    """Every file of a project by name.

    Raises SpecError if the name is not one that Python can import.
    """
    facts = {
        "name": identifier(name, "package name"),
        "preset": preset,
        "about": PRESETS[preset],
        "network": preset in NETWORK,
    }
    templates = files("basisgen.commands.new") / "templates"
    return {
        _file_name(entry.name, name): template("basisgen.commands.new", "templates", f"{folder}/{entry.name}").render(
            facts
        )
        for folder in ("common", preset)
        for entry in sorted((templates / folder).iterdir(), key=lambda entry: entry.name)
    }


def write_project(content: dict[str, str], directory: Path) -> None:
    """Makes the directory with these files in it: written beside its place, put there by one rename.

    Raises OutputError where something is there already, other than an empty directory, or nothing can be written.
    """
    try:
        make_parents(directory)
        with staged(directory) as temporary:
            fill(temporary, {name: text.encode() for name, text in content.items()})
            temporary.rename(directory)  # fails unless the place is free or an empty directory
    except OSError as error:
        if directory.is_symlink() or (directory.exists() and not _is_empty(directory)):
            raise OutputError(
                f"{directory} is there already, and not an empty directory. Choose another name, or remove it."
            ) from None
        raise OutputError(f"cannot write {directory}: {error.strerror or error}. Nothing was written.") from None


def _is_empty(directory: Path) -> bool:
    return directory.is_dir() and not any(directory.iterdir())


def _file_name(template: str, name: str) -> str:
    """`spec.toml.jinja` is the spec, named as the package; `gitignore.jinja` is hidden."""
    plain = template.removesuffix(".jinja")
    return {"spec.toml": f"{name}.toml", "gitignore": ".gitignore"}.get(plain, plain)
