"""The report in a real browser: as wide as a phone, in light and dark, and nothing is fetched."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from perfdata.perf.report.history import RunHistory
from perfdata.perf.report.html import render
from perfdata.perf.report.results import Results
from tests.welfare_results import RESULTS, runs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
DARK = "--blink-settings=preferredColorScheme=0"
LIGHT = "--blink-settings=preferredColorScheme=1"
PHONE, DESK = 360, 1200

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason=f"none of {', '.join(NAMES)} is installed"),
    pytest.mark.slow,
]

# The page in a frame of the width that is asked for, as Chromium's own window can't be as narrow
# as a phone. What is found is the frame's viewport, what overflows it, what was fetched.
FRAME = """<!DOCTYPE html><link rel="icon" href="data:,">
<iframe src="/page" style="width:%dpx;height:800px;border:0"></iframe><pre></pre>
<script>onload = () => {
  const page = frames[0], root = page.document.documentElement;
  const style = page.getComputedStyle(page.document.body);
  page.document.querySelectorAll("details").forEach((one) => { one.open = true; });
  const scrolls = (one) => one.closest(".tree, .scrolls") !== null;
  const wide = [...page.document.body.querySelectorAll("*")].filter((one) =>
    one.getBoundingClientRect().right > page.innerWidth + 0.5 && !scrolls(one));
  document.querySelector("pre").textContent = JSON.stringify({
    viewport: page.innerWidth, width: root.scrollWidth, wide: wide.map((one) => one.outerHTML),
    fetched: page.performance.getEntriesByType("resource").map((one) => one.name),
    scripts: page.ran === true, ink: style.color, ground: style.backgroundColor,
    pictures: [...page.document.querySelectorAll("svg")].map((one) => one.clientWidth),
    side: [...page.document.querySelectorAll(".side")].map((one) => one.offsetTop),
  });
};</script>"""


class Browser:
    """Chromium, and a server of one page that notes what is asked of it."""

    def __init__(self, profile: Path) -> None:
        self.page, self.width = "", PHONE
        self.asked: list[str] = []
        self._profile = profile
        browser = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                browser.asked.append(self.path)
                shown = FRAME % browser.width if self.path == "/" else browser.page
                self.send_response(200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.end_headers()
                self.wfile.write(shown.encode())

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def look(self, page: str, width: int, *options: str) -> dict[str, Any]:
        self.page, self.width = page, width
        self.asked.clear()
        url = f"http://127.0.0.1:{self.server.server_port}/"
        command = [
            *(str(CHROMIUM), "--headless", "--disable-gpu", "--dump-dom", "--hide-scrollbars"),
            *("--disable-background-networking", "--no-first-run", "--window-size=1400,900"),
            f"--user-data-dir={self._profile}",
            *(["--no-sandbox"] if os.geteuid() == 0 else []),  # its sandbox refuses root
            *(*options, url),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
        found = re.search("<pre>(.*?)</pre>", done.stdout, re.DOTALL)
        assert found, done.stderr
        seen: dict[str, Any] = json.loads(html.unescape(found[1]))
        return seen


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    one = Browser(tmp_path_factory.mktemp("profile"))
    yield one
    one.server.shutdown()
    one.server.server_close()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    ended = datetime(2026, 3, 20, 17, 41, tzinfo=UTC)
    return render(
        Results(ended, RESULTS), RunHistory(runs(*RESULTS[:3])), tmp_path_factory.getbasetemp()
    )


def test_on_a_phone_nothing_is_wider_than_the_screen(browser: Browser, page: str) -> None:
    seen = browser.look(page, PHONE)
    assert seen["wide"] == []
    assert (seen["viewport"], seen["width"]) == (PHONE, PHONE)
    assert len(seen["pictures"]) == 6
    assert all(250 < width < PHONE for width in seen["pictures"])
    assert seen["side"] == sorted(set(seen["side"])), "plans stand one above the other"


def test_where_there_is_room_plans_stand_side_by_side(browser: Browser, page: str) -> None:
    seen = browser.look(page, DESK)
    assert (seen["wide"], seen["width"]) == ([], DESK)
    assert len(seen["side"]) == 2 * len(set(seen["side"]))


def test_nothing_is_fetched(browser: Browser, page: str) -> None:
    seen = browser.look(page, PHONE)
    assert seen["fetched"] == []
    assert browser.asked == ["/", "/page"]


def test_even_what_got_into_the_page_could_fetch_and_run_nothing(
    browser: Browser, page: str
) -> None:
    """Its own policy refuses that; without the policy this test sees both."""
    evil = '<img src="/seen.png"/><script>ran = true</script></main>'
    intruded = page.replace("</main>", evil)
    seen = browser.look(intruded, PHONE)
    assert (seen["scripts"], browser.asked) == (False, ["/", "/page"])
    open_page = re.sub("<meta http-equiv[^>]*>", "", intruded)
    seen = browser.look(open_page, PHONE)
    assert (seen["scripts"], browser.asked) == (True, ["/", "/page", "/seen.png"])


def test_it_is_light_or_dark_as_the_reader_likes_it(browser: Browser, page: str) -> None:
    def brightness(colour: str) -> int:
        return sum(map(int, re.findall(r"\d+", colour)))

    light, dark = browser.look(page, PHONE, LIGHT), browser.look(page, PHONE, DARK)
    assert brightness(light["ground"]) - brightness(light["ink"]) > 500
    assert brightness(dark["ink"]) - brightness(dark["ground"]) > 500
