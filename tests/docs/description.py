"""Check the page that a package index shows of a distribution: `python tests/docs/description.py dist`."""

import re
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from email import message_from_bytes
from email.message import Message
from pathlib import Path

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def read_metadata(dist: Path) -> dict[str, Message]:
    """Return the metadata of the wheel and of the sdist, by file name."""
    (wheel,) = dist.glob("*.whl")
    (sdist,) = dist.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        found = {wheel.name: message_from_bytes(archive.read(name))}
    with tarfile.open(sdist) as archive:
        file = archive.extractfile(f"{sdist.name.removesuffix('.tar.gz')}/PKG-INFO")
        assert file is not None
        found[sdist.name] = message_from_bytes(file.read())
    return found


def links_of(metadata: Message) -> list[str]:
    """Return the targets of the links in the description."""
    return LINK.findall(str(metadata.get_payload()))


def dead_links(metadata: Message) -> Iterator[str]:
    """Yield each link of the description that is relative, or that leads to a missing file or heading of ours."""
    urls = dict(url.split(", ") for url in metadata.get_all("Project-URL", []))
    site = f"{urls['Documentation']}/en/stable/"
    source = re.compile(rf"{re.escape(urls['Source'])}/(?:blob|raw)/v{re.escape(metadata['Version'])}/")
    for link in links_of(metadata):
        if not link.startswith("https://"):
            yield f"{link}: not an absolute link"
        elif link.startswith(site):
            yield from dead_page(link, link.removeprefix(site))
        elif link.startswith((urls["Documentation"], urls["Source"])) and not (ROOT / source.sub("", link)).is_file():
            yield f"{link}: not a file of the repository, as it is tagged"


def dead_page(link: str, target: str) -> Iterator[str]:
    """Yield the link if its target, a page of the built documentation, has no source or lacks the heading."""
    page, _, anchor = target.partition("#")
    file = ROOT / "docs" / page.replace(".html", ".md")
    if not file.is_file():
        yield f"{link}: not a page of the documentation"
    elif anchor and anchor not in {slug(heading) for heading in HEADING.findall(file.read_text("utf-8"))}:
        yield f"{link}: not a heading of that page"


def slug(heading: str) -> str:
    """Return the anchor that GitHub and MyST give to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def main() -> int:
    """Print the dead links, and how many there are."""
    metadata = read_metadata(Path(sys.argv[1]))
    dead = [f"{name}: {link}" for name, found in metadata.items() for link in dead_links(found)]
    total = sum(len(links_of(found)) for found in metadata.values())
    print(*dead, f"{len(dead)} dead links of {total} in {', '.join(metadata)}", sep="\n")  # noqa: T201
    return min(len(dead), 1)


if __name__ == "__main__":
    sys.exit(main())
