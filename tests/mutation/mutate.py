"""Run mutmut, and compare the surviving mutants with the list of equivalent ones; fail if they differ.

    python tests/mutation/mutate.py                            test all mutants from scratch
    python tests/mutation/mutate.py 'aiosupervise._policy*'    test the mutants with these mutmut names again
    python tests/mutation/mutate.py --compare                  only compare the results of the last run with the list

mutmut numbers its mutants, and the numbers change with the code. The list therefore identifies a mutant by its function
and by the lines that it changes.

mutmut does not mutate class bodies, module constants, decorated functions such as properties, `__new__`, and the
arguments of `len` and `isinstance`.
"""

import argparse
import ast
import difflib
import json
import os
import shutil
import signal
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

from hang import SELECTED, TIMEOUT

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "mutants" / "src"
INTEGRATIONS = "aiosupervise.integrations"
LIST = Path(__file__).with_name("equivalent.toml")
# The exit codes of the tests of a mutant. 2: a KeyboardInterrupt was raised by a test; 255: pytest itself crashed.
ENDS = {1: "killed", 2: "killed", 3: "killed", 255: "killed", TIMEOUT: "timeout", -signal.SIGXCPU: "timeout"}


def mutmut(names: list[str], tests: str) -> None:
    """Run mutmut with the mutated package first on the path, also for programs that tests start."""
    # Python ignores a folder of the path that does not exist when it starts.
    SOURCE.mkdir(parents=True, exist_ok=True)
    # Discard the statistics that mutmut has collected from the other tests.
    (ROOT / "mutants" / "mutmut-stats.json").unlink(missing_ok=True)
    env = os.environ | {"PYTHONPATH": str(SOURCE), "PYTHONHASHSEED": "0", SELECTED: tests}
    subprocess.run([Path(sys.executable).with_name("mutmut"), "run", *names], cwd=ROOT, env=env, check=True)


def ends_of(module: Path) -> dict[str, str]:
    """Return the result of each mutant in a module: "killed", "timeout", or any other exit code of pytest."""
    ends = json.loads(Path(f"{module}.meta").read_text())["exit_code_by_key"]
    return {name: ENDS.get(code, str(code)) for name, code in ends.items()}


def mutants_of(module: Path) -> dict[str, str]:
    """Return the mutants in a module by mutmut's names: the function of each, and the lines that differ."""
    dotted = ".".join(module.relative_to(SOURCE).with_suffix("").parts)
    text = module.read_text()
    functions = {
        node.name: [line.strip() for line in text.splitlines()[node.lineno - 1 : node.end_lineno]]
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and "__mutmut_" in node.name
    }
    found = {}
    for name, lines in functions.items():
        mangled, _, number = name.rpartition("__mutmut_")
        if number == "orig":
            continue
        plain = mangled.removeprefix("x_") if mangled.startswith("x_") else mangled[2:].replace("ǁ", ".")
        bare = plain.rpartition(".")[2]
        before = [line.replace(f"{mangled}__mutmut_orig", bare) for line in functions[f"{mangled}__mutmut_orig"]]
        diff = difflib.unified_diff(before, [line.replace(name, bare) for line in lines], lineterm="", n=0)
        changes = [line for line in list(diff)[2:] if not line.startswith("@@")]
        found[f"{dotted}.{name}"] = "\n".join([f"{dotted.removeprefix('aiosupervise.')}.{plain}", *changes])
    return found


def listed() -> Counter[str]:
    """Return the mutants that the list declares equivalent."""
    groups = tomllib.loads(LIST.read_text())["equivalent"]
    assert all(group["reason"] for group in groups)
    return Counter(mutant for group in groups for mutant in group["mutants"].strip().split("\n\n"))


def compare() -> int:
    """Print the totals and the differences from the list; return the number of differences."""
    names, ends = dict[str, str](), dict[str, str]()
    for meta in SOURCE.rglob("*.meta"):
        names |= mutants_of(meta.with_suffix(""))
        ends |= ends_of(meta.with_suffix(""))
    unnoticed = Counter(names[name] for name, end in ends.items() if end not in ENDS.values())
    expected = listed()
    survived, wrongly_listed = unnoticed - expected, expected - unnoticed
    for mutant in survived.elements():
        print(f"\nsurvived, and not listed as equivalent:\n{mutant}")  # noqa: T201 - the report
    for mutant in wrongly_listed.elements():
        why = "the tests find it" if mutant in names.values() else "there is no such mutant"
        print(f"\nlisted as equivalent, but {why}:\n{mutant}")  # noqa: T201 - the report
    counts = Counter(ends.values())
    print(  # noqa: T201 - the report
        f"\nmutants {len(ends)}: killed {counts['killed']}, timeouts {counts['timeout']}, "
        f"equivalent {(unnoticed & expected).total()}, survived {survived.total()}"
    )
    return survived.total() + wrongly_listed.total()


def main() -> int:
    """Run mutmut, compare with the list, and return whether they agree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compare", action="store_true")
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    if not args.compare:
        # mutmut keeps the results of unchanged functions, although the tests may have changed.
        if not args.names:
            shutil.rmtree(ROOT / "mutants", ignore_errors=True)
        names = args.names or ["aiosupervise._*", "aiosupervise.testing*", f"{INTEGRATIONS}*"]
        # The integrations have their own tests, which are slow, and would be run for every mutant of the code they use.
        if core := [name for name in names if not name.startswith(INTEGRATIONS)]:
            mutmut(core, "core")
        if integrations := [name for name in names if name.startswith(INTEGRATIONS)]:
            mutmut(integrations, "integrations")
    return min(compare(), 1)


if __name__ == "__main__":
    sys.exit(main())
