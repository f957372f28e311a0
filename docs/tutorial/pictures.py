"""Make the pictures of docs/tutorial.md: `python docs/tutorial/pictures.py`.

Needs tmux, and `pip install ".[all]"`. The programs are those of the page; this Python runs them in a terminal of tmux.
A picture shows the screen of that terminal, without the path of the folder in which the programs are.
"""

# ruff: noqa: INP001 - a script, nobody imports it

import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.text import Text

HERE: Final = Path(__file__).parent
PAGE: Final = HERE.with_suffix(".md")
FIRST: Final = HERE.with_name("programs") / "first.py"  # of the landing page
COLUMNS: Final = 100
NARROW: Final = 72  # the landing page shows its program beside it
ROWS: Final = 40

# Seconds: the time limit of a program, and the interval at which the screen is polled.
TIMEOUT: Final = 30.0
POLLING_INTERVAL: Final = 0.005

# The program has ended when the shell's prompt is back.
PROMPT: Final = "$ "
ENDED: Final = r"\n\$\s*\Z"

# Rich's own format loads a font from the network. This one uses the monospace font of the reader's browser.
SVG: Final = """\
<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" viewBox="0 0 {width:g} {height:g}">
<style>
text {{ font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; \
font-size: {char_height}px; }}
text.{unique_id}-title {{ font-family: system-ui, sans-serif; font-size: 18px; }}
{styles}
</style>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})">
{backgrounds}{matrix}
</g>
</svg>
"""


class Terminal:
    """A terminal with a shell in a folder, closed at the end of the block."""

    def __init__(self, folder: Path, columns: int) -> None:
        self._tmux = [shutil.which("tmux") or "tmux", "-u", "-f", os.devnull, "-S", str(folder / "socket")]
        self._folder = folder
        self._columns = columns
        self._environment = {
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            "TERM": "xterm-256color",
        }

    def __enter__(self) -> Self:
        size = ["-x", str(self._columns), "-y", str(ROWS)]
        self._run("new-session", "-d", *size, "-c", str(self._folder), "env", f"PS1={PROMPT}", "bash", "--norc")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._run("kill-server")

    def press(self, *keys: str) -> None:
        """Press keys, by their names in tmux, or type a text."""
        self._run("send-keys", *keys)

    def wait_for(self, pattern: str) -> str:
        """Wait until the screen matches a pattern, and return the screen, with its colours."""
        deadline = time.monotonic() + TIMEOUT
        while time.monotonic() < deadline:
            screen = self._run("capture-pane", "-e", "-p")
            if re.search(pattern, Text.from_ansi(screen).plain):
                return screen
            time.sleep(POLLING_INTERVAL)
        raise TimeoutError(f"the screen does not match {pattern!r} after {TIMEOUT} s:\n{screen}")

    def _run(self, *arguments: str) -> str:
        command = [*self._tmux, *arguments]
        return subprocess.run(command, env=self._environment, check=True, capture_output=True, text=True).stdout  # noqa: S603


def draw(screen: str, title: str, columns: int) -> str:
    """Return an SVG picture of a screen."""
    text = Text.from_ansi(screen.rstrip())
    console = Console(record=True, width=columns, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(text, soft_wrap=True)
    svg = console.export_svg(title=title, code_format=SVG, unique_id="t")
    return re.sub(r' clip-path="[^"]*"|<text[^>]*>\n</text>', "", svg).replace("</text><text", "</text>\n<text")


def programs(page: str) -> dict[str, str]:
    """Return the programs by file name: those of the page, with the change of step 6, and that of the landing page."""
    blocks: list[str] = re.findall(r"```python\n(# \w+\.py\n.*?)```", page, re.DOTALL)
    found = {block.split(maxsplit=2)[1]: block for block in blocks}
    changed = found["batch.py"].replace("limit=10", "limit=4, progress=True")
    return found | {"batch.py": changed, FIRST.name: FIRST.read_text("utf-8")}


def picture(name: str, command: str, moment: str = ENDED, *keys: str, columns: int = COLUMNS) -> None:
    """Run a command until its screen matches the pattern `moment`, and make a picture of that.

    With `keys`, press them at that moment, and make a picture of the end of the command.
    """
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        for file, code in programs(PAGE.read_text("utf-8")).items():
            (home / file).write_text(code, "utf-8")
        with Terminal(home, columns) as terminal:
            terminal.wait_for(r"\A\$\s*\Z")
            terminal.press(command, "Enter")
            screen = terminal.wait_for(moment)
            if keys:
                terminal.press(*keys)
                screen = terminal.wait_for(ENDED)
    (HERE / f"{name}.svg").write_text(draw(screen.replace(f"{folder}/", ""), command, columns), "utf-8")


def main() -> None:
    """Make all pictures."""
    picture("first", "python first.py", columns=NARROW)
    picture("naive", "python naive.py")
    picture("progress", "python batch.py", r" ([6-9]|1\d)/20 ")
    picture("again", "python again.py")
    picture("stop", "python stop.py", r" ([6-9]|1\d)/20 ", "C-c")
    picture("fetch", "python -m aiosupervise.examples.fetch --strategy gather")


if __name__ == "__main__":
    main()
