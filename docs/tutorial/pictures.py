"""Make the pictures of docs/tutorial.md anew: `python docs/tutorial/pictures.py`.

Needs tmux, and `pip install ".[all]"`. The programs are those of the page, run by this Python in a real terminal, which
is tmux's. What is on its screen becomes a picture. Only the folder of the programs is left out of it.
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
COLUMNS: Final = 100
ROWS: Final = 40
PATIENCE: Final = 30.0  # seconds for a program
GLANCE: Final = 0.005  # seconds between two looks at the screen
PROMPT: Final = "$ "
ENDED: Final = r"\n\$\s*\Z"  # the shell waits for the next command

# Rich's own format takes a font from the network. This one takes the monospace font of whoever looks at the picture.
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
    """A terminal with a shell in a folder. It ends with the block."""

    def __init__(self, folder: Path) -> None:
        self._tmux = [shutil.which("tmux") or "tmux", "-u", "-f", os.devnull, "-S", str(folder / "socket")]
        self._folder = folder
        self._environment = {
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            "TERM": "xterm-256color",
        }

    def __enter__(self) -> Self:
        size = ["-x", str(COLUMNS), "-y", str(ROWS)]
        self._ask("new-session", "-d", *size, "-c", str(self._folder), "env", f"PS1={PROMPT}", "bash", "--norc")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ask("kill-server")

    def press(self, *keys: str) -> None:
        """Press keys, each by its name in tmux, or type a text."""
        self._ask("send-keys", *keys)

    def wait_for(self, pattern: str) -> str:
        """Look at the screen until a pattern is on it, and give the screen as it was then, with its colours."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            screen = self._ask("capture-pane", "-e", "-p")
            if re.search(pattern, Text.from_ansi(screen).plain):
                return screen
            time.sleep(GLANCE)
        raise TimeoutError(f"no {pattern!r} on the screen after {PATIENCE} s:\n{screen}")

    def _ask(self, *arguments: str) -> str:
        command = [*self._tmux, *arguments]
        return subprocess.run(command, env=self._environment, check=True, capture_output=True, text=True).stdout  # noqa: S603


def draw(screen: str, title: str) -> str:
    """Draw what was on a screen."""
    text = Text.from_ansi(screen.rstrip())
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(text, soft_wrap=True)
    svg = console.export_svg(title=title, code_format=SVG, unique_id="t")
    return re.sub(r' clip-path="[^"]*"|<text[^>]*>\n</text>', "", svg).replace("</text><text", "</text>\n<text")


def programs(page: str) -> dict[str, str]:
    """Find the programs of a page by the names in their first lines, as its step 6 has them."""
    blocks: list[str] = re.findall(r"```python\n(# \w+\.py\n.*?)```", page, re.DOTALL)
    found = {block.split(maxsplit=2)[1]: block for block in blocks}
    return found | {"batch.py": found["batch.py"].replace("limit=10", "limit=4, progress=True")}


def picture(name: str, command: str, moment: str = ENDED, *keys: str) -> None:
    """Run a command up to a moment, which is a pattern on its screen, and make a picture of that.

    If there are keys to press at that moment, the picture is of the end that follows.
    """
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        for file, code in programs(PAGE.read_text("utf-8")).items():
            (home / file).write_text(code, "utf-8")
        with Terminal(home) as terminal:
            terminal.wait_for(r"\A\$\s*\Z")
            terminal.press(command, "Enter")
            screen = terminal.wait_for(moment)
            if keys:
                terminal.press(*keys)
                screen = terminal.wait_for(ENDED)
    (HERE / f"{name}.svg").write_text(draw(screen.replace(f"{folder}/", ""), command), "utf-8")


def main() -> None:
    """Make all of them."""
    picture("naive", "python naive.py")
    picture("progress", "python batch.py", r" ([6-9]|1\d)/20 ")
    picture("again", "python again.py")
    picture("stop", "python stop.py", r" ([6-9]|1\d)/20 ", "C-c")
    picture("fetch", "python -m aiosupervise.examples.fetch --strategy gather")


if __name__ == "__main__":
    main()
