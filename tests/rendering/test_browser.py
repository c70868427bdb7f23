"""The card in a real browser: what a reader sees, and that nothing is run or fetched.

Needs ``apt-get install chromium``; skipped where it is absent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from albert_audit.rendering.html import card
from tests.builders import HOSTILE, Bundle, bundle, hostile_bundle, passing_bundle

CHROMIUM = Path("/usr/bin/chromium")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no browser at {CHROMIUM}: apt-get install chromium"),
]
SAMPLES: dict[str, Callable[[], Bundle]] = {
    "full": bundle,
    "post hoc": partial(bundle, post_hoc=True),
    "passing": passing_bundle,
    **{f"hostile {i}": partial(hostile_bundle, text) for i, text in enumerate(HOSTILE)},
}

# Relative luminance and contrast after WCAG 2.2, for every text as it is painted.
CONTRAST = """() => {
  const parse = c => { const m = c.match(/[\\d.]+/g).map(Number);
    return [m[0], m[1], m[2], m[3] ?? 1]; };
  const over = (a, b) => [0, 1, 2].map(i => a[i] * a[3] + b[i] * (1 - a[3])).concat(1);
  const lum = c => { const f = [0, 1, 2].map(i => { const v = c[i] / 255;
    return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * f[0] + 0.7152 * f[1] + 0.0722 * f[2]; };
  const ground = e => { const layers = [];
    for (let n = e; n; n = n.parentElement) layers.push(parse(getComputedStyle(n).backgroundColor));
    return layers.reverse().reduce((below, layer) => over(layer, below), [255, 255, 255, 1]); };
  document.querySelectorAll('details').forEach(d => d.open = true);
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), low = []; let seen = 0;
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || !e.getClientRects().length) continue;
    if (e.closest('title, desc, style')) continue;
    const s = getComputedStyle(e), svg = e instanceof SVGElement;
    const back = ground(e), front = over(parse(svg ? s.fill : s.color), back);
    const [a, b] = [lum(front), lum(back)].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05), size = parseFloat(s.fontSize);
    const large = size >= 24 || (size >= 18.66 && +s.fontWeight >= 700);
    seen += 1;
    if (ratio < (large ? 3 : 4.5)) low.push([walk.currentNode.data.trim().slice(0, 40), ratio.toFixed(2)]);
  }
  return {seen, low};
}"""

# Shapes that carry meaning need 3:1 against what they lie on.
SHAPES = """() => {
  const lum = c => {
    const f = c.map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * f[0] + 0.7152 * f[1] + 0.0722 * f[2]; };
  const rgb = c => c.match(/[\\d.]+/g).slice(0, 3).map(Number);
  const ground = e => { for (let n = e; n; n = n.parentElement) {
    const c = getComputedStyle(n).backgroundColor;
    if (!c.endsWith(', 0)')) return rgb(c); } return [255, 255, 255]; };
  const low = [];
  for (const e of document.querySelectorAll('.mark, .dot, .bar:not(.inner), .passed.point, .failed.point')) {
    const s = getComputedStyle(e), paint = e.matches('.dot, .point') ? s.fill : s.stroke;
    const [a, b] = [lum(rgb(paint)), lum(ground(e.closest('svg').parentElement))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 3) low.push([e.outerHTML.slice(0, 60), paint]);
  }
  return low;
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=str(CHROMIUM), args=arguments)
        yield started
        started.close()


class Seen:
    """A page, and everything it tried to do."""

    def __init__(self, browser: Any, folder: Path, of: Bundle, **options: Any) -> None:
        path = folder / "card.html"
        path.write_text(card(*of), encoding="utf-8")
        self.page = browser.new_page(**options)
        self.said: list[str] = []
        self.asked: list[str] = []
        self.dialogs: list[str] = []
        self.page.on("console", lambda m: self.said.append(m.text))
        self.page.on("pageerror", lambda e: self.said.append(str(e)))
        self.page.on("request", lambda r: self.asked.append(r.url))
        self.page.on("dialog", self._dialog)
        self.page.goto(path.as_uri())
        self.uri = path.as_uri()

    def _dialog(self, dialog: Any) -> None:
        self.dialogs.append(dialog.message)
        dialog.dismiss()

    def bottom(self, selector: str) -> float:
        box = self.page.locator(selector).bounding_box()
        assert box is not None and box["x"] >= 0 and box["y"] >= 0
        return float(box["y"] + box["height"])


@pytest.mark.parametrize("sample", sorted(SAMPLES))
@pytest.mark.parametrize("width", [320, 1280])
def test_nothing_runs_nothing_is_fetched_nothing_scrolls_sideways(
    browser: Any, tmp_path: Path, sample: str, width: int
) -> None:
    seen = Seen(browser, tmp_path, SAMPLES[sample](), viewport={"width": width, "height": 800})
    title = seen.page.title()
    seen.page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    seen.page.mouse.move(width / 2, 400)
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= width
    cut = seen.page.evaluate(
        "[...document.querySelectorAll('.page *:not(svg *)')]"
        ".filter(e => e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 90))"
    )
    assert cut == []
    assert (seen.said, seen.asked, seen.dialogs) == ([], [seen.uri], [])
    assert seen.page.title() == title
    assert title.endswith("· audit card")
    seen.page.close()


@pytest.mark.parametrize("sample", ["full", "post hoc", "passing"])
def test_the_first_screen(browser: Any, tmp_path: Path, sample: str) -> None:
    seen = Seen(browser, tmp_path, SAMPLES[sample](), viewport={"width": 1280, "height": 800})
    for selector in ("#verdict", "#untested", ".masthead", ".top"):
        assert seen.bottom(selector) <= 800, selector
    verdict, untested = (seen.page.locator(s).bounding_box() for s in ("#verdict", "#untested"))
    assert (verdict["width"], verdict["height"]) == (untested["width"], untested["height"])
    sizes = seen.page.evaluate(
        "[...document.querySelectorAll('.box h2')].map(e => getComputedStyle(e).fontSize)"
    )
    assert len(set(sizes)) == 1
    for word in (
        "FAIL" if sample != "passing" else "PASS",
        "Not tested",
        "albert-base-v2",
        "2026-11-22",
        "masked-lm",
    ):
        assert seen.page.get_by_text(word, exact=False).first.is_visible()
    seen.page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("sample", ["full", "post hoc", "passing"])
def test_contrast(browser: Any, tmp_path: Path, scheme: str, sample: str) -> None:
    seen = Seen(
        browser, tmp_path, SAMPLES[sample](), color_scheme=scheme, viewport={"width": 1280, "height": 800}
    )
    found = seen.page.evaluate(CONTRAST)
    assert found["seen"] > 100
    assert found["low"] == []
    assert seen.page.evaluate(SHAPES) == []
    seen.page.close()


def test_the_contrast_check_finds_what_is_too_faint(browser: Any, tmp_path: Path) -> None:
    seen = Seen(browser, tmp_path, bundle())
    seen.page.evaluate("document.querySelector('.because').style.color = '#c99'")
    assert len(seen.page.evaluate(CONTRAST)["low"]) == 1
    seen.page.close()


def test_the_keyboard_reaches_everything_visibly(browser: Any, tmp_path: Path) -> None:
    seen = Seen(browser, tmp_path, bundle(), viewport={"width": 1280, "height": 800})
    wanted = seen.page.evaluate("document.querySelectorAll('a, summary').length")
    reached = 0
    for _ in range(wanted):
        seen.page.keyboard.press("Tab")
        reached += seen.page.evaluate(
            "(() => { const e = document.activeElement, s = getComputedStyle(e);"
            " return ['A', 'SUMMARY'].includes(e.tagName) && s.outlineStyle !== 'none'"
            " && parseFloat(s.outlineWidth) >= 2; })()"
        )
    assert reached >= wanted - seen.page.evaluate("document.querySelectorAll('details:not([open]) a').length")
    seen.page.close()


def test_forced_colours_keep_shapes_and_words(browser: Any, tmp_path: Path) -> None:
    seen = Seen(browser, tmp_path, bundle(), forced_colors="active", viewport={"width": 1280, "height": 800})
    assert seen.page.locator("#verdict-word").inner_text() == "FAIL"
    stroke = seen.page.evaluate("getComputedStyle(document.querySelector('#verdict-word .mark')).stroke")
    ground = seen.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert stroke != ground
    seen.page.close()


def test_paper_shows_what_the_screen_folds_away(browser: Any, tmp_path: Path) -> None:
    seen = Seen(browser, tmp_path, bundle(), color_scheme="dark")
    seen.page.emulate_media(media="print", color_scheme="dark")
    shown = seen.page.evaluate(
        "[...document.querySelectorAll('details')]"
        ".every(d => !d.open && d.getBoundingClientRect().height > 30)"
    )
    assert shown
    assert seen.page.locator(".sign").is_visible()
    assert not seen.page.locator("nav").is_visible()
    assert seen.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    pdf = seen.page.pdf(prefer_css_page_size=True, tagged=True)
    assert pdf.startswith(b"%PDF")
    assert b"/StructTreeRoot" in pdf
    seen.page.close()


def test_without_colour_the_states_still_differ(browser: Any, tmp_path: Path) -> None:
    seen = Seen(browser, tmp_path, bundle())
    shapes = seen.page.evaluate(
        "Object.fromEntries([...document.querySelectorAll('symbol')].map(s => [s.id, s.innerHTML]))"
    )
    judged = [shapes[f"m-{s}"] for s in ("pass", "fail", "inconclusive", "invalid", "not_run", "error")]
    assert len(set(judged)) == 6
    words = seen.page.evaluate("[...document.querySelectorAll('.rules .state')].map(e => e.innerText.trim())")
    assert set(words) == {"Pass", "Fail", "Inconclusive", "Invalid", "Not run", "Error"}
    seen.page.close()


def test_it_works_without_javascript(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "card.html"
    path.write_text(card(*bundle()), encoding="utf-8")
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(path.as_uri())
    page.locator("details summary").first.click()
    assert page.locator("details[open]").count() == 1
    context.close()
