"""Every page in a browser: nothing fails, nothing is wider than a phone; search and the switch to dark work."""

from __future__ import annotations

import contextlib
import functools
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page, Playwright, sync_playwright

WIDTHS = (390, 1280)
"""Of a phone and of a desk, in pixels."""
SEARCHED = "conv2d"
GET_ONE = (
    "no browser is found to try the pages in: get one by `.venv/bin/playwright install chromium` or `apt install chromium`, or "
    "leave that out by `make docs BROWSER=none`"
)
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


class NoBrowser(Exception):  # noqa: N818 (it is what is said)
    """There is none on this machine."""


@dataclass
class Visits:
    """What went wrong on the pages that were opened."""

    base: str
    wrong: list[str] = field(default_factory=list)
    opened: int = 0
    _at: str = ""

    def note(self, words: str) -> None:
        self.wrong.append(f"{self._at}: {words}")

    def watch(self, context: BrowserContext) -> Page:
        """A page whose errors are noted. Requests to anywhere but the site are noted, and not made."""

        def ask(route: Any) -> None:
            if route.request.url.startswith((self.base, "data:", "blob:")):
                route.continue_()
            else:
                self.note(f"asks for {route.request.url}")
                route.abort()

        context.route("**/*", ask)
        page = context.new_page()
        page.on("console", lambda message: self.note(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.note(str(error)))
        page.on("requestfailed", lambda request: self.note(f"{request.url}: {request.failure}"))
        page.on(
            "response", lambda answer: self.note(f"{answer.url}: {answer.status}") if answer.status >= 400 else None
        )
        return page

    def open(self, page: Page, name: str, width: int) -> None:
        self._at = f"{self.base}{name} at {width} pixels"
        page.goto(self.base + name, wait_until="load")
        self.opened += 1
        wide = page.evaluate("document.documentElement.scrollWidth")
        if wide > width:
            self.note(f"is {wide} pixels wide")


@contextlib.contextmanager
def served(site: Path) -> Iterator[str]:
    """The site, served on this machine; the address is given."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            """Say nothing of requests."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


def launch(playwright: Playwright) -> Browser:
    """A Chromium: playwright's own, or one that is installed.

    Raises:
        NoBrowser: if there is none.
    """
    own = Path(playwright.chromium.executable_path)
    found = str(own) if own.is_file() else next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        raise NoBrowser(GET_ONE)
    return playwright.chromium.launch(executable_path=found)


def check(site: Path, shots: Path) -> tuple[list[str], int]:
    """Open all pages that are written, served and from their files.

    Args:
        site: the folder of the built site.
        shots: the folder for pictures of some pages, made if it is not there.

    Returns:
        What is wrong, in lines; and how often a page was opened.

    Raises:
        NoBrowser: if there is none on this machine.
    """
    names = [path.relative_to(site).as_posix() for path in sorted(site.rglob("*.html"))]
    # texts of files are alike
    texts = [name for name in names if name.startswith("sources/")]
    names = [name for name in names if name not in texts] + texts[:1]
    wrong: list[str] = []
    opened = 0
    with sync_playwright() as playwright, contextlib.closing(launch(playwright)) as browser, served(site) as address:
        for base in (address, f"{site.resolve().as_uri()}/"):
            visits = Visits(base)
            for width in WIDTHS:
                with contextlib.closing(browser.new_context(viewport={"width": width, "height": 900})) as context:
                    page = visits.watch(context)
                    for name in names:
                        visits.open(page, name, width)
                    _search(visits, page, width)
                    _go_dark(visits, page, width)
            wrong, opened = wrong + visits.wrong, opened + visits.opened
        _draw(browser, address, shown(names), shots)
    return wrong, opened


def _search(visits: Visits, page: Page, width: int) -> None:
    """Look for a word, as a reader does, from the landing page."""
    visits.open(page, "index.html", width)
    field = page.locator(".sidebar-search").first
    if not field.is_visible():
        page.locator(".nav-overlay-icon").first.click()
    field.fill(SEARCHED)
    field.press("Enter")
    link = page.locator("#search-results a[href*='reference/functions.html']").first
    try:
        link.wait_for(timeout=10_000)
    except Exception:
        visits.note(f"search does not find {SEARCHED}")
    page.wait_for_load_state("networkidle")


def _go_dark(visits: Visits, page: Page, width: int) -> None:
    """Press the switch until the page is dark, and see that another page stays so."""
    visits.open(page, "index.html", width)
    switch = next(button for button in page.locator(".theme-toggle").all() if button.is_visible())
    for _ in range(3):
        if _theme(page) == "dark":
            break
        switch.click()
    visits.open(page, "reference/functions.html", width)
    if _theme(page) != "dark" or _brightness(page) > 60:
        visits.note("the switch does not make pages dark")


def _theme(page: Page) -> str:
    return str(page.evaluate("document.body.dataset.theme"))


def _brightness(page: Page) -> int:
    """Of the background, from 0 to 255."""
    return int(page.evaluate("Math.max(...getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3))"))


def shown(names: list[str]) -> list[str]:
    """The pages that pictures are made of: one of each kind."""
    kinds = ("index.html", "how-to/", "explanation/", "reference/functions.html", "reference/command-line.html")
    found = (next((name for name in names if name.startswith(kind)), None) for kind in kinds)
    return [name for name in found if name is not None]


def _draw(browser: Browser, address: str, names: list[str], shots: Path) -> None:
    shots.mkdir(parents=True, exist_ok=True)
    for old in shots.glob("*.png"):
        old.unlink()
    for width in WIDTHS:
        for scheme in ("light", "dark"):
            size: Any = {"width": width, "height": 900}
            with contextlib.closing(browser.new_context(viewport=size, color_scheme=scheme)) as context:
                page = context.new_page()
                for name in names if scheme == "light" else names[:1]:
                    page.goto(address + name)
                    said = name.removesuffix(".html").replace("/", "-")
                    page.screenshot(path=shots / f"{said}-{width}-{scheme}.png")
