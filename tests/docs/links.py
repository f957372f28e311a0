"""Look for dead links inside of the built documentation: `python tests/docs/links.py docs/_build/html`."""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlparse


class Page(HTMLParser):
    """What a page refers to, and what in it can be referred to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.refers_to: set[str] = set()
        self.anchors: set[str] = set()
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect links, pictures and anchors."""
        values = dict(attrs)
        self.anchors |= {value for key in ("id", "name") if (value := values.get(key))}
        target = values.get("href") or values.get("src")
        if target and tag in {"a", "img", "link", "script", "source"} and not urlparse(target).scheme:
            self.refers_to.add(target)


def dead_links(site: Path) -> list[str]:
    """Each link to a page, a file or an anchor that is not there, with the page that it stands on."""
    pages = {path: Page(path) for path in site.rglob("*.html")}
    return [
        f"{path.relative_to(site)}: {target}"
        for path, page in sorted(pages.items())
        for target in sorted(page.refers_to)
        if not is_alive(path, target, pages)
    ]


def is_alive(path: Path, target: str, pages: dict[Path, Page]) -> bool:
    """Return whether the target of a link exists."""
    name, anchor = urldefrag(target)
    file = (path.parent / unquote(urlparse(name).path)).resolve() if name else path
    file = file / "index.html" if file.is_dir() else file
    if file not in pages:
        return file.exists()
    return not anchor or unquote(anchor) in pages[file].anchors


def main() -> int:
    """Print the dead links, and return how many there are."""
    site = Path(sys.argv[1]).resolve()
    dead = dead_links(site)
    print(*dead, f"{len(dead)} dead links in {len(list(site.rglob('*.html')))} pages", sep="\n")  # noqa: T201
    return min(len(dead), 1)


if __name__ == "__main__":
    sys.exit(main())
