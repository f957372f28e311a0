"""The architecture is the one that the package's docstring and the picture in Contributing show."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import aiosupervise

SOURCE = Path(aiosupervise.__file__).parent
ROOT = Path(__file__).parents[1]
MODULES = sorted(SOURCE.rglob("*.py"))
EXCEPTION = ("_batch.api", "integrations.tqdm")  # progress=True imports it when it is called


def dotted(module: Path) -> str:
    """The name of a module below the package; "" for the package itself."""
    parts = module.relative_to(SOURCE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


NAMES = {dotted(module) for module in MODULES}


def room(name: str) -> str:
    """The room that a module is in: a folder, or a module that stands alone."""
    return name.partition(".")[0]


@cache
def imports(module: Path) -> frozenset[str]:
    """The modules of the package that a module imports, wherever the import stands, for type checkers too."""
    return frozenset(_imports(module))


def _imports(module: Path) -> Iterator[str]:
    package = module.relative_to(SOURCE).parts[:-1]
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            bases = [alias.name for alias in node.names if room(alias.name) == "aiosupervise"]
            yield from (base.removeprefix("aiosupervise").removeprefix(".") for base in bases)
        elif isinstance(node, ast.ImportFrom) and (base := _base(node, package)) is not None:
            for alias in node.names:
                below = f"{base}.{alias.name}".removeprefix(".")
                yield below if below in NAMES else base


def _base(node: ast.ImportFrom, package: tuple[str, ...]) -> str | None:
    if node.level:
        return ".".join([*package[: len(package) - node.level + 1], *([node.module] if node.module else [])])
    absolute = node.module or ""
    return absolute.removeprefix("aiosupervise").removeprefix(".") if room(absolute) == "aiosupervise" else None


def stated() -> list[set[str]]:
    """The floors of the docstring, the highest first."""
    line = re.search(r"^integrations.*->.*_policy\.$", aiosupervise.__doc__ or "", re.MULTILINE)
    assert line is not None
    return [set(floor.rstrip(".").split(", ")) for floor in line[0].split(" -> ")]


def drawn() -> list[set[str]]:
    """The floors of the picture, the highest first."""
    picture = (ROOT / "docs/architecture.svg").read_text()
    floors: dict[int, set[str]] = {}
    for height, name in re.findall(r'y="(\d+)" [^>]* class="room">(\w+)<', picture):
        floors.setdefault(int(height), set()).add(name)
    return [floors[height] for height in sorted(floors)]


def test_the_docstring_and_the_picture_show_the_same_floors() -> None:
    """And every room of the source is on one of them, but for the text of `python -m aiosupervise`."""
    assert stated() == drawn()
    assert set().union(*stated()) == {room(name) for name in NAMES} - {"", "__main__"}


@pytest.mark.parametrize("module", MODULES, ids=lambda module: dotted(module) or "__init__")
def test_imports_point_down(module: Path) -> None:
    """A room imports itself and the floors below it; an integration and an example may use what users do."""
    floors = {name: height for height, names in enumerate(reversed(stated())) for name in names}
    here = dotted(module)
    assert here != "__main__" or not imports(module)
    top = max(floors.values())
    for target in imports(module):
        if not here or (here, target) == EXCEPTION:
            continue
        if not target:
            assert floors[room(here)] == top, f"{here} imports the package itself"
        else:
            is_below = floors[room(target)] < floors[room(here)]
            assert room(target) == room(here) or is_below or room(here) == "examples", f"{here} imports {target}"


def test_no_module_is_in_a_circle() -> None:
    """Among files, imports for type checkers included, none leads back."""
    arrows = {
        dotted(module): {name for name in imports(module) if (dotted(module), name) != EXCEPTION} for module in MODULES
    }
    while leaves := {name for name, targets in arrows.items() if not targets & arrows.keys() - {name}}:
        arrows = {name: targets for name, targets in arrows.items() if name not in leaves}
    assert arrows == {}


def named_files() -> Iterator[tuple[str, str]]:
    """The rows of the table in Contributing, and the files that each names; one without a folder is beside the last."""
    text = (ROOT / "docs/contributing.md").read_text()
    table = text[text.index("| to change | look in |") :]
    for row in table[: table.index("\n\n")].splitlines()[2:]:
        change, _, places = row.strip("| ").partition(" | ")
        folder = ""
        for name in re.findall(r"`([\w/]+\.(?:py|toml))`", change + places):
            folder = name.rpartition("/")[0] if "/" in name else folder
            yield change, f"{folder}/{name.rpartition('/')[2]}"


def test_the_table_in_contributing_names_files_that_exist() -> None:
    """Whoever follows it finds the file."""
    named, tops = list(named_files()), (SOURCE, SOURCE.parent, ROOT)
    assert len(named) > 80
    assert [(row, file) for row, file in named if not any((top / file).exists() for top in tops)] == []
