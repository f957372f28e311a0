"""How to work on the project: `nox -s tests` and its neighbours; `nox -l` lists them."""

import shutil
import subprocess
from pathlib import Path

import nox

nox.needs_version = ">=2025.5"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.error_on_missing_interpreters = False  # nox turns it on where CI is set; one Python is enough
nox.options.sessions = ["tests", "slow", "lint", "types", "docs"]

PROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = nox.project.python_versions(PROJECT)  # those that its classifiers name


def _works(python: str) -> bool:
    """Return whether this Python runs: a version manager's shim can be on the PATH and still have nothing behind it."""
    command = shutil.which(f"python{python}")
    return command is not None and subprocess.run([command, "-c", ""], check=False, capture_output=True).returncode == 0  # noqa: S603


FOUND = [python for python in PYTHONS if _works(python)]
COVERAGE = {"COVERAGE_FILE": str(Path(".nox", ".coverage").absolute())}
SITE = "docs/_build/html"
SCHEMAS = {
    "vendor.github-workflows": [".github/workflows/ci.yml"],
    "custom.github-workflows-require-timeout": [".github/workflows/ci.yml"],
    "vendor.dependabot": [".github/dependabot.yml"],
    "vendor.github-issue-config": [".github/ISSUE_TEMPLATE/config.yml"],
    "vendor.github-issue-forms": [".github/ISSUE_TEMPLATE/bug.yml", ".github/ISSUE_TEMPLATE/feature.yml"],
    "vendor.readthedocs": [".readthedocs.yaml"],
}


def _install(session: nox.Session, *groups: str) -> None:
    """Install the wheel with all extras, and the groups: the source tree plays no part in what is tested."""
    session.install(".[all]", *nox.project.dependency_groups(PROJECT, *groups))


def _test(session: nox.Session, *selected: str) -> None:
    _install(session, "tests")
    parallel = ["-n", "auto", "--dist", "loadfile"]  # the tests of a file share a process, its fixtures and its heap
    session.run("coverage", "run", "-m", "pytest", *parallel, *selected, *session.posargs, env=COVERAGE)


@nox.session(python=FOUND or None)
def tests(session: nox.Session) -> None:
    """Run the tests against the built wheel, on every Python found and all cores, and measure their coverage."""
    _test(session, "-m", "not slow")


@nox.session(python=FOUND or None)
def slow(session: nox.Session) -> None:
    """Run the tests that need a server or real seconds, in the same way."""
    _test(session, "-m", "slow")


@nox.session(python=FOUND[:1] or None)
def clients(session: nox.Session) -> None:
    """Compare what HTTP clients raise with the table of the documentation."""
    _install(session, "unit", "clients")
    session.run("pytest", "tests/integrations/test_http_clients.py", *session.posargs)


@nox.session
def coverage(session: nox.Session) -> None:
    """Combine what `tests` and `slow` measured on each Python; fail under 100 % of the branches."""
    session.install(*nox.project.dependency_groups(PROJECT, "tests"))
    session.run("coverage", "combine", env=COVERAGE)
    session.run("coverage", "report", env=COVERAGE)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and formatting, and the files that configure GitHub, Read the Docs and pre-commit."""
    session.install(*nox.project.dependency_groups(PROJECT, "lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    for schema, files in SCHEMAS.items():
        session.run("check-jsonschema", "--builtin-schema", schema, *files)
    session.run("zizmor", "--offline", "--pedantic", "--strict-collection", "--no-progress", ".")
    session.run("pre-commit", "validate-config")


@nox.session
def types(session: nox.Session) -> None:
    """Check types: mypy --strict, pyright, and that the public types are complete."""
    _install(session, "tests", "types", "bench", "browser", "search")
    session.run("mypy")
    session.run("pyright", "tests/typing")
    session.run("pyright", "--ignoreexternal", "--verifytypes", "aiosupervise")


@nox.session
def package(session: nox.Session) -> None:
    """Build the sdist, and the wheel from it; check their contents, their metadata and the links on their page."""
    session.install(*nox.project.dependency_groups(PROJECT, "package"))
    shutil.rmtree("dist", ignore_errors=True)
    session.run("python", "-m", "build")
    session.run("twine", "check", "--strict", *map(str, Path("dist").iterdir()))
    session.run("check-wheel-contents", "--package", "src/aiosupervise", "dist")
    session.run("python", "tests/docs/description.py", "dist")


@nox.session(python=FOUND[:1] or None)
def lowest(session: nox.Session) -> None:
    """Run the tests with the lowest versions of the dependencies that pyproject.toml admits, on the lowest Python."""
    session.install(*nox.project.dependency_groups(PROJECT, "lowest"))
    versions = str(Path(session.create_tmp(), "lowest.txt"))
    resolve = ["--quiet", "--resolution", "lowest-direct", "--all-extras", "--output-file", versions]
    session.run("uv", "pip", "compile", *resolve, "pyproject.toml")
    session.install(".[all]", *nox.project.dependency_groups(PROJECT, "unit"), "--constraint", versions)
    # The examples of the documentation need newer versions, and those two directories do not import a dependency.
    left_out = ["--ignore=tests/docs", "--ignore=tests/conformance", "--ignore=tests/faults"]
    session.run("pytest", "-n", "auto", "--dist", "loadfile", *left_out, *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation; a warning is an error, and so is a dead link. Test its search, in Node.js."""
    _install(session, "docs", "unit", "search")
    _build_site(session)
    session.run("python", "tests/docs/links.py", SITE)
    session.run("pytest", "-q", "tests/docs/test_search.py")


@nox.session
def browser(session: nox.Session) -> None:
    """Look at each page in Chromium, as wide as a desktop and a phone, light and dark; needs chromedriver."""
    _install(session, "docs", "browser")
    _build_site(session)
    session.run("python", "tests/docs/browser.py", SITE, "docs/_build/pictures")


def _build_site(session: nox.Session) -> None:
    session.run("sphinx-build", "-W", "-n", "-q", "-b", "html", "docs", SITE)


@nox.session
def example(session: nox.Session) -> None:
    """Run the reference example: twenty fetches of a flaky site, under each strategy."""
    _install(session)
    session.run("python", "-m", "aiosupervise.examples.fetch", *session.posargs)


@nox.session
def service(session: nox.Session) -> None:
    """Run the example of a supervised program, whose upstream fails; Ctrl-C ends it."""
    _install(session)
    session.run("python", "-m", "aiosupervise.examples.service", *session.posargs)


@nox.session
def storm(session: nox.Session) -> None:
    """Run the simulations of overload and outages, and draw their pictures; takes some minutes."""
    _install(session, "docs")
    page = Path("docs/explanation")
    everything = [["--seeds", "10"], ["--plot", str(page / "storm")]]
    for options in [session.posargs] if session.posargs else everything:
        session.run("python", "-m", "storm", *options, env={"PYTHONPATH": str(page)})
    if not session.posargs:
        session.run("python", "-m", "storm.bars", str(page / "storm"), env={"PYTHONPATH": str(page)})


@nox.session
def pictures(session: nox.Session) -> None:
    """Make the pictures of the tutorial; needs tmux."""
    _install(session)
    session.run("python", "docs/tutorial/pictures.py")


@nox.session
def bench(session: nox.Session) -> None:
    """Measure beside the peers, and write the tables and pictures of that page anew; wants a quiet machine."""
    _install(session, "bench")
    page = ["--page", "docs/explanation/benchmarks"]
    session.run("python", "tests/benchmarks/run.py", *(session.posargs or page))


@nox.session
def compare(session: nox.Session) -> None:
    """Ask each peer what it does, and print the tables of the comparison; `-- --write` puts them into that page."""
    _install(session, "bench")
    session.run("python", "tests/benchmarks/compare.py", *session.posargs)


# What the page "How it is tested" counts; each prints its numbers.


@nox.session
def otp(session: nox.Session) -> None:
    """Run the programs about OTP's semantics in Erlang and compare with their record; `-- --write` for the page."""
    if shutil.which("erl") is None and "--write" not in session.posargs:
        session.skip("needs erl and erlc: Debian's package is erlang-base")
    _install(session, "unit")
    session.run("python", "-m", "otp", *session.posargs, env={"PYTHONPATH": "tests/conformance"})


def _thoroughly(session: nox.Session, *tests: str) -> None:
    _install(session, "tests")
    session.run("pytest", "--thorough", *tests, *session.posargs)


@nox.session
def sweep(session: nox.Session) -> None:
    """Cancel the caller of scripted runs and supervisors at every step of the loop, once and twice."""
    _thoroughly(session, "tests/conformance/test_sweep.py", "tests/conformance/test_supervisor_sweep.py")


@nox.session
def random(session: nox.Session) -> None:
    """Play 10,000 random runs, trees of supervisors and outages, against models and pages; takes some minutes."""
    played = ["tests/conformance/test_random_runs.py", "tests/conformance/test_random_tree.py"]
    _thoroughly(session, *played, "tests/supervisor/test_defaults.py")


@nox.session
def properties(session: nox.Session) -> None:
    """Try each property of the pure decisions on 10,000 made-up cases; takes some minutes."""
    _thoroughly(session, "tests/policy/test_properties.py")


@nox.session
def mutation(session: nox.Session) -> None:
    """Run the tests on every mutant that mutmut makes; fail if one survives that is not listed as equivalent."""
    _install(session, "tests", "mutation")
    session.run("python", "tests/mutation/mutate.py", *session.posargs)


@nox.session
def faults(session: nox.Session) -> None:
    """Run batches through a server that fails in every way and is killed meanwhile, and kill runs with a journal."""
    files = ("test_faults.py", "test_throttled.py", "test_journal_kills.py")
    _thoroughly(session, *(f"tests/faults/{file}" for file in files))


@nox.session
def soak(session: nox.Session) -> None:
    """Run a million jobs of which every tenth attempt fails, and a million restarts, and watch the memory."""
    _thoroughly(session, "tests/faults/test_soak.py")
