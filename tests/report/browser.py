"""A page as a real browser draws it: what it says on its console, and where its letters are."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium")
WIDE_PX, PHONE_PX, PAPER_PX = 1152, 390, 700
PRINTED_PX = 800
"""Window in which a page is laid out before it is printed."""
PRINT_S = 30
_DRAW_S = 120
"""For a browser that hangs; a machine that is busy takes as long as it takes."""
_SWITCHES = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--hide-scrollbars",
)  # fmt: skip
_VIRTUAL_MS = 20_000
"""Of the browser's own clock, which stands still while the page has something to do."""

_LISTEN = """<script>
window.SAID = [];
for (const level of ['debug', 'log', 'info', 'warn', 'error'])
  console[level] = (...words) => SAID.push(level + ': ' + words.map(String).join(' '));
addEventListener('error', event => SAID.push('error: ' + event.message));
addEventListener('unhandledrejection', event => SAID.push('rejected: ' + event.reason));
</script>"""
_MEASURE = """<pre id="measured"></pre><script>
const charts = [...document.querySelectorAll('.chart')];
const drawn = () => charts.every(chart => chart.querySelector('svg'));
let tries = 0;
const timer = setInterval(() => {
  if (!drawn() && ++tries < 300) return;
  clearInterval(timer);
  document.querySelectorAll('th').forEach(head => { head.click(); head.click(); });
  const box = of => { const b = of.getBoundingClientRect();
    return {left: b.left, right: b.right, top: b.top, bottom: b.bottom}; };
  document.getElementById('measured').textContent = JSON.stringify({
    said: SAID, height: document.documentElement.scrollHeight,
    width: document.documentElement.scrollWidth,
    tables: [...document.querySelectorAll('.scroll')].map(place => ({
      title: [...document.querySelectorAll('h2')].filter(head =>
        head.compareDocumentPosition(place) & Node.DOCUMENT_POSITION_FOLLOWING).pop().textContent,
      hidden: place.scrollWidth - place.clientWidth})),
    charts: charts.map(chart => { const svg = chart.querySelector('svg'); return {
      title: SPECS_OF(chart), place: box(chart), drawn: svg && box(svg),
      texts: svg ? [...svg.querySelectorAll('text')].filter(text => text.textContent.trim()
        && +getComputedStyle(text).opacity > 0).flatMap(LINES)
        : [],
      points: svg ? [...svg.querySelectorAll('.mark-symbol.role-mark path')].map(box) : []}; })});
  function SPECS_OF(chart) { const title = chart.querySelector('.role-title-text text, text');
    return chart.id + ' ' + (title ? title.textContent : ''); }
  function LINES(text) { const parts = [...text.querySelectorAll('tspan')];
    return (parts.length ? parts : [text]).map(part =>
      ({text: part.textContent, ...box(part)})); }
}, 50);
</script>"""


@dataclass(frozen=True)
class Box:
    """A rectangle, in pixels of the page."""

    left: float
    right: float
    top: float
    bottom: float

    def meets(self, other: Box) -> bool:
        """Whether letters in it would touch those in another; a line box is higher than those."""
        rise, sink = 0.15 * (self.bottom - self.top), 0.15 * (other.bottom - other.top)
        return (
            min(self.right, other.right) - max(self.left, other.left) > 0.5
            and min(self.bottom - rise, other.bottom - sink)
            - max(self.top + rise, other.top + sink) > 0.5
        )  # fmt: skip


@dataclass(frozen=True)
class Chart:
    """One chart of a page: its place, what was drawn there, its texts, and its points."""

    title: str
    place: Box
    drawn: Box | None
    texts: tuple[tuple[str, Box], ...]
    points: tuple[Box, ...]


@dataclass(frozen=True)
class Drawn:
    """A page as a browser of some width shows it, after a click on each head of a table.

    Of each table, by the heading above it, how many pixels can only be seen by scrolling.
    """

    said: tuple[str, ...]
    width: float
    height: float
    charts: tuple[Chart, ...]
    tables: tuple[tuple[str, float], ...]

    def collisions(self) -> list[str]:
        """Texts that lie on each other, of the whole page."""
        texts = [(chart.title, *text) for chart in self.charts for text in chart.texts]
        return [
            f"{title}: {one!r} on {other!r}"
            for i, (title, one, box) in enumerate(texts)
            for _, other, place in texts[i + 1 :]
            if box.meets(place)
        ]

    def cut(self) -> list[str]:
        """Texts that reach beyond what was drawn of their chart."""
        return [
            f"{chart.title}: {text!r}"
            for chart in self.charts
            for text, box in chart.texts
            if chart.drawn is None
            or box.left < chart.drawn.left - 1
            or box.right > chart.drawn.right + 1
            or box.top < chart.drawn.top - 2
            or box.bottom > chart.drawn.bottom + 2
        ]


def draw(page: str, width: int, *, printed: bool = False, dark: bool = False) -> Drawn:
    """Show a page in a browser.

    Args:
        page: its HTML.
        width: of its body.
        printed: with the style that it has on paper.
        dark: with the colours that it has for a reader who wants it dark.
    """
    if printed:
        page = page.replace("@media print", "@media all")
        page = page.replace("@media screen and", "@media speech and")
    narrow = f"<style>body {{ max-width: {width}px !important; margin: 0 !important; }}</style>"
    # The library that draws has both of these words in texts of its own.
    head, _, rest = page.partition("</head>")
    body, _, end = rest.rpartition("</body>")
    page = f"{head}{narrow}{_LISTEN}</head>{body}{_MEASURE}</body>{end}"
    size = f"--window-size={max(width, 500)},1000"
    done = _chromium(
        page, size, f"--virtual-time-budget={_VIRTUAL_MS}", "--enable-logging=stderr", "--v=0",
        *(["--blink-settings=preferredColorScheme=0"] if dark else []), "--dump-dom",
        timeout_s=_DRAW_S,
    )  # fmt: skip
    found = re.search(r'<pre id="measured">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found is not None, done.stderr[-2000:]
    assert found[1], f"the page was not measured: {done.stderr[-2000:]}"
    measured = json.loads(html.unescape(found[1]))
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return Drawn(
        (*measured["said"], *console),
        measured["width"],
        measured["height"],
        tuple(map(_chart, measured["charts"])),
        tuple((table["title"], table["hidden"]) for table in measured["tables"]),
    )


def _chart(said: dict[str, Any]) -> Chart:
    return Chart(
        said["title"],
        Box(**said["place"]),
        Box(**said["drawn"]) if said["drawn"] else None,
        tuple((text.pop("text"), Box(**text)) for text in said["texts"]),
        tuple(Box(**point) for point in said["points"]),
    )


def printed(page: str) -> bytes:
    """A page as a PDF.

    Raises:
        subprocess.TimeoutExpired: it took longer than `PRINT_S`.
    """
    with tempfile.TemporaryDirectory() as directory:
        target = Path(directory) / "page.pdf"
        _chromium(page, f"--print-to-pdf={target}", timeout_s=PRINT_S)
        return target.read_bytes()


def _chromium(page: str, *arguments: str, timeout_s: int) -> subprocess.CompletedProcess[str]:
    assert CHROMIUM is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        file = Path(directory) / "page.html"
        file.write_text(page)
        return subprocess.run(
            [CHROMIUM, *_SWITCHES, f"--user-data-dir={directory}/profile", *arguments,
             file.as_uri()],
            capture_output=True, text=True, check=True, timeout=timeout_s,
        )  # fmt: skip
