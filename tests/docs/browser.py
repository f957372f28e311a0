"""Look at the built documentation in Chromium: `python tests/docs/browser.py docs/_build/html PICTURES`.

Each page is opened as wide as a desktop and as a phone, light and dark. Nothing may be wider than the window, but for
what scrolls by itself, and every picture must have been loaded. The pictures of the pages are for a person to look at.
The copy button of a command must copy it without its prompt, and the output of a program has no such button.
"""

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium.webdriver import ActionChains, Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By

WIDTHS = {"desktop": 1280, "phone": 390}
SCHEMES = ("light", "dark")
PROBLEMS = """
const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
const found = wide > 0 ? [`the page is ${wide} px wider than the window`] : [];
for (const img of document.images)
  if (!img.complete || img.naturalWidth === 0) found.push(`a picture is missing: ${img.getAttribute("src")}`);
const scrolls = (node) => node && node !== document.body &&
  (["auto", "scroll"].includes(getComputedStyle(node).overflowX) || scrolls(node.parentElement));
for (const node of document.querySelectorAll("article table, article pre, article img"))
  if (node.getBoundingClientRect().right > innerWidth + 1 && !scrolls(node))
    found.push(`cut off: ${node.outerHTML.slice(0, 60)}`);
return found;
"""
COPIED = "navigator.clipboard.readText().then(arguments[0], (error) => arguments[0](String(error)))"
COMMAND_BUTTON = "div.highlight-console button.copybtn"
OUTPUT_BUTTON = ":is(div.highlight-output, div.highlight-text) button.copybtn"


@contextmanager
def browser() -> Iterator[Chrome]:
    """Start Chromium without a window."""
    options = ChromeOptions()
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "no-first-run", "disable-background-networking"):
        options.add_argument(f"--{flag}")
    driver = Chrome(options, ChromeService(shutil.which("chromedriver")))  # else Selenium looks for one in the network
    driver.execute_cdp_cmd("Browser.grantPermissions", {"permissions": ["clipboardReadWrite"]})
    try:
        yield driver
    finally:
        driver.quit()


def look(driver: Chrome, site: Path, page: Path, pictures: Path) -> Iterator[str]:
    """Open a page in each way, take its picture, and return what is wrong with it."""
    name = "-".join(page.relative_to(site).with_suffix("").parts)
    for device, width in WIDTHS.items():
        for scheme in SCHEMES:
            media = [{"name": "prefers-color-scheme", "value": scheme}]
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
            metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": device == "phone"}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
            driver.get(page.as_uri())
            yield from (f"{name}, {device}, {scheme}: {problem}" for problem in driver.execute_script(PROBLEMS))
            metrics["height"] = driver.execute_script("return document.documentElement.scrollHeight")
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
            driver.save_screenshot(str(pictures / f"{name}-{device}-{scheme}.png"))
    yield from copy(driver, name)


def copy(driver: Chrome, name: str) -> Iterator[str]:
    """Click the copy button of the first command on the open page, and return what is wrong with such buttons."""
    if driver.find_elements(By.CSS_SELECTOR, OUTPUT_BUTTON):
        yield f"{name}: an output has a copy button"
    for button in driver.find_elements(By.CSS_SELECTOR, COMMAND_BUTTON)[:1]:
        shown = button.find_element(By.XPATH, "preceding-sibling::pre").text.splitlines()
        ActionChains(driver).scroll_to_element(button).move_to_element(button).click().perform()
        copied = str(driver.execute_async_script(COPIED)).splitlines()
        if copied != [line.removeprefix("$ ") for line in shown]:
            yield f"{name}: {shown} is copied as {copied}"


def main() -> int:
    """Print what is wrong, and return whether anything is."""
    site, pictures = Path(sys.argv[1]).resolve(), Path(sys.argv[2])
    pictures.mkdir(parents=True, exist_ok=True)
    pages = [page for page in sorted(site.rglob("*.html")) if page.stem not in {"search", "genindex", "py-modindex"}]
    with browser() as driver:
        problems = [problem for page in pages for problem in look(driver, site, page, pictures)]
    print(*problems, f"{len(problems)} problems in {len(pages)} pages, each in 4 ways", sep="\n")  # noqa: T201
    return min(len(problems), 1)


if __name__ == "__main__":
    sys.exit(main())
