"""Every page of a built book as a reader has it: on a wide and a narrow screen, on light and dark ground, offline."""

import os
import re
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from browsing import PATIENCE, needed

axe = needed("axe_playwright_python")
ROOT = Path(__file__).parents[1]
PAGES = Path(os.environ.get("CTNET_PAGES", ROOT / "_build" / "html"))
"""The built book; another folder of pages is looked at, whole or not, where the variable names one."""
THEMES = {"light": (1280, 390), "dark": (390, 1280)}
"""The widths at which a page is read in each theme: it is loaded at the first, and the window is then resized."""
TWICE = ("index", "ledger", "design-principles")
"""Pages that are loaded in each theme: loading takes seconds, so the others change their theme once they are there."""
AXE = Path(axe.__file__).with_name("axe.min.js")
MOST_PICTURES = 4_000_000  # bytes of all pictures of the book


def names():
    contents = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text())
    listed = re.findall(r"'(?:file|root)': '([^']+)'", str(contents))
    return [name for name in listed if "CTNET_PAGES" not in os.environ or (PAGES / f"{name}.html").is_file()]


@pytest.fixture(scope="session")
def built(request):
    """Skips unless the book is built, and whole."""
    if "CTNET_PAGES" not in os.environ:
        request.getfixturevalue("whole_book")


@pytest.fixture(scope="session")
def tabs(built, browser):
    """A tab for each theme, and what they have asked of a network or complained about."""
    opened, faults = {}, []
    for theme in THEMES:
        context = browser.new_context(color_scheme=theme, reduced_motion="reduce")
        context.set_default_timeout(PATIENCE)
        context.add_init_script(f"localStorage.setItem('mode', '{theme}'); localStorage.setItem('theme', '{theme}')")
        page = context.new_page()
        page.on("request", lambda request: faults.append(request.url))
        page.on("pageerror", lambda error: faults.append(str(error)))
        opened[theme] = page
    return opened, faults


# Formulas are set; two frames later scripts have answered, and then what moves has arrived.
SETTLED = """new Promise((done) => (window.MathJax?.Hub ? MathJax.Hub.Queue(done) : done()))
  .then(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))))
  .then(() => document.getAnimations().filter((one) => isFinite(one.effect.getComputedTiming().endTime)))
  .then((moving) => Promise.allSettled(moving.map((one) => one.finished)))
  .then(() => true)"""


def widen(page, width):
    """Give a window its width, and the page the time to answer."""
    page.set_viewport_size({"width": width, "height": 900})
    page.evaluate(SETTLED)


def darken(page):
    """Change the theme of a page that was loaded in the light one, as the button above it does."""
    page.emulate_media(color_scheme="dark")
    page.evaluate("Object.assign(document.documentElement.dataset, {mode: 'dark', theme: 'dark'})")
    page.evaluate(SETTLED)


# What sticks out sideways of the page, and tables and figures whose box hides a part of them and does not scroll.
CLIPPED = """() => {
  const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  const hidden = [...document.querySelectorAll('article :is(table, figure, img, .explorer, svg)')].filter((one) => {
    if (!one.getClientRects().length) return false;
    const { left, right } = one.getBoundingClientRect();
    for (let box = one.parentElement; box; box = box.parentElement) {
      const style = getComputedStyle(box);
      if (['auto', 'scroll'].includes(style.overflowX)) return false;
      const inner = box.getBoundingClientRect();
      if (style.overflowX === 'hidden' && (right > inner.right + 1 || left < inner.left - 1)) return true;
    }
    return right > document.documentElement.clientWidth + 1;
  });
  return [wide > 0 ? [`the page is ${wide} px too wide`] : [], hidden.map((one) => one.outerHTML.slice(0, 120))].flat();
}"""
# Letters in drawings: pictures of 960 pixels whose smallest letters are 8.5 points high at 150 dots an inch.
SMALL = """() => [...document.querySelectorAll('article img')]
  .filter((image) => /_images|data:image.png/.test(image.src))
  .filter((image) => image.getClientRects().length && image.width / image.naturalWidth * 8.5 / 72 * 150 < 9)
  .map((image) => `${image.alt}: ${image.width} of ${image.naturalWidth}`)"""
RULES = "['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa']"
ONLY_COLOURS = "['color-contrast']"
# Elements of one kind have equal attributes, and so have all within and around them: rows of a table, words of code.
# They look alike and fail alike. axe-core is slow, so it reads two of each.
TWO_OF_A_KIND = """() => {
  const told = new Set(['class', 'role', 'style', 'type', 'scope', 'aria-hidden']);
  const numbers = new Map(), kinds = new Map(), wholes = new Map(), seen = new Map();
  const number = (text) => numbers.get(text) ?? numbers.set(text, numbers.size).get(text);
  const describe = (one) => {
    const attributes = [...one.attributes].map(({ name, value }) => name + (told.has(name) ? `=${value}` : !value));
    const text = [...one.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
    kinds.set(one, number([one.tagName, text, one.matches('tr:nth-child(even)'), ...attributes.sort()].join(' ')));
    wholes.set(one, number(`${kinds.get(one)} holds ${[...one.children].map(describe)}`));
    return wholes.get(one);
  };
  const thin = (one, around) => {
    for (const child of [...one.children]) {
      const found = `${around} around ${wholes.get(child)}`;
      seen.set(found, (seen.get(found) ?? 0) + 1);
      if (seen.get(found) <= 2 || child.matches('label *')) thin(child, number(`${around} around ${kinds.get(child)}`));
      else if (child.matches('tr, li, dt, dd')) child.replaceChildren(); // empty, and in its place among its like
      else child.remove();
    }
  };
  const article = document.querySelector('article');
  describe(article);
  thin(article, 0);
}"""


def thin(page):
    """Leave of a page what axe-core is to read, and load that."""
    page.evaluate(AXE.read_text())
    page.evaluate(TWO_OF_A_KIND)


def faults_of(page, rules):
    """What axe-core finds in the text of a page that is thinned."""
    script = f"axe.run('article', {{resultTypes: ['violations'], runOnly: {rules}}}).then((told) => told.violations)"
    return page.evaluate(script)


def serious_faults(page, rules):
    """What axe-core calls serious or critical in a page that is thinned, in words."""
    return [
        f"{fault['id']}: {node['html'][:160]} {node['failureSummary'][:300]}"
        for fault in faults_of(page, rules)
        if fault["impact"] in ("serious", "critical")
        for node in fault["nodes"][:3]
    ]


def test_a_fault_is_found_in_any_row(show):
    row = "<tr><td class='{}' style='color: {}'>a word</td></tr>"
    rows = row.format("usual", "#000") * 60 + row.format("pale", "#ccc") + row.format("usual", "#000") * 60
    page = show(f"<article><table>{rows}</table></article>")
    thin(page)
    assert ["pale" in fault for fault in serious_faults(page, ONLY_COLOURS)] == [True]


def test_a_fault_of_the_dark_theme_alone_is_found(show):
    style = "<style>html[data-theme='dark'] p { color: #222; background: #111; }</style>"
    page = show(f"{style}<article><p class='pale'>a word</p></article>")
    thin(page)
    assert serious_faults(page, ONLY_COLOURS) == []
    darken(page)
    assert ["pale" in fault for fault in serious_faults(page, ONLY_COLOURS)] == [True]


@pytest.mark.parametrize("name", names())
def test_a_page_can_be_read_at_both_widths_and_in_both_themes(tabs, name):
    opened, faults = tabs
    faults.clear()
    for theme in THEMES if name in TWICE else ("light",):
        page, widths = opened[theme], THEMES[theme]
        page.emulate_media(color_scheme=theme)
        widen(page, widths[0])
        page.goto((PAGES / f"{name}.html").as_uri())
        assert page.evaluate("document.documentElement.dataset.theme") == theme
        for width in widths:
            widen(page, width)
            assert page.evaluate(CLIPPED) == [], f"{width} {theme}"
            assert page.evaluate(SMALL) == [], f"{width} {theme}"
        assert page.locator(".MathJax_Error, .merror").all_inner_texts() == []
        widen(page, max(widths))
        thin(page)
        # Colours differ by theme, all else is the same.
        assert serious_faults(page, ONLY_COLOURS if theme == "dark" else RULES) == [], theme
    if name not in TWICE:
        darken(page)
        assert serious_faults(page, ONLY_COLOURS) == [], "dark"
    assert [fault for fault in faults if not fault.startswith(("file:", "data:", "blob:", "about:"))] == []


@cache
def anchors(file):
    """The places in a page that links lead to; None where there is no such page."""
    return set(re.findall(r'\s(?:id|name)="([^"]*)"', file.read_text())) if file.is_file() else None


@pytest.mark.parametrize("name", names())
def test_no_link_is_broken(built, name):
    text = (PAGES / f"{name}.html").read_text()
    broken = []
    for link in set(re.findall(r'<a\b[^>]*?\shref="([^"]*)"', text)):
        parts = urlsplit(link.replace("&amp;", "&"))
        if parts.scheme in ("http", "https", "mailto"):
            continue
        file = PAGES / unquote(parts.path) if parts.path else PAGES / f"{name}.html"
        if file.suffix != ".html":
            there = file.is_file()
        elif parts.fragment and "=" not in parts.fragment:
            there = unquote(parts.fragment) in (anchors(file) or ())
        else:
            there = anchors(file) is not None
        if not there:
            broken.append(link)
    assert broken == []


def test_headings_of_tables_without_a_scope_get_one():
    sys.path.insert(0, str(ROOT / "book" / "_ext"))
    try:
        from accessible import accessible
    finally:
        del sys.path[0]
    table = (
        '<table><thead><tr><th>a</th><th scope="colgroup">b</th></tr></thead><tbody><tr><th id="c">d</th></tr></table>'
    )
    found = accessible(table)
    assert re.findall(r"<th\b[^>]*>", found) == ['<th scope="col">', '<th scope="colgroup">', '<th scope="row" id="c">']


def test_pictures_are_small(built):
    files = sum(path.stat().st_size for path in (PAGES / "_images").glob("*"))
    within = sum(
        len(data) * 3 // 4
        for name in names()
        for data in re.findall(r"data:image/[a-z+]+;base64,([A-Za-z0-9+/=]+)", (PAGES / f"{name}.html").read_text())
    )
    assert files + within < MOST_PICTURES, f"{files / 1e6:.1f} MB of files, {within / 1e6:.1f} MB within pages"


@pytest.mark.parametrize("name", ["index", "ledger", "table-3", "table-4"])
def test_verdicts_are_in_sight_at_1280_pixels(tabs, name):
    page = tabs[0]["light"]
    widen(page, 1280)
    if not (PAGES / f"{name}.html").is_file():
        pytest.skip(f"{name} is not among the pages")
    page.goto((PAGES / f"{name}.html").as_uri())
    verdicts = page.locator("td.verdict, .verdict-bar").all()
    assert verdicts
    script = """(cell) => { const box = (cell.closest('.book-table') || document.body).getBoundingClientRect();
        return cell.getBoundingClientRect().right <= Math.min(box.right, innerWidth) + 1; }"""
    first = [cell for cell in verdicts[:40] if not cell.evaluate("(cell) => cell.className.includes('not-run')")]
    assert all(cell.evaluate(script) for cell in first)


def test_what_the_first_screen_shows_is_in_sight(tabs):
    page = tabs[0]["light"]
    widen(page, 1280)
    if not (PAGES / "index.html").is_file():
        pytest.skip("the first page is not among the pages")
    page.goto((PAGES / "index.html").as_uri())
    for part in ("article h1", ".verdict-bar", ".front-buttons", ".explorer-fields"):
        assert page.locator(part).first.bounding_box()["y"] < 900, part
    assert page.locator("article div.cell_input:visible").first.bounding_box()["y"] > 900, "code stands above"


def report():
    """What pages weigh, how soon they show something, and what axe-core finds: printed for a note."""
    from playwright.sync_api import sync_playwright

    paint = "performance.getEntriesByName('first-contentful-paint').map((entry) => entry.startTime)"
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path="/usr/bin/chromium")
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        for name in names():
            loaded = set()
            page.on("requestfinished", lambda request, loaded=loaded: loaded.add(request.url))
            page.goto((PAGES / f"{name}.html").as_uri())
            page.wait_for_timeout(300)
            files = [Path(unquote(urlsplit(url).path)) for url in loaded if url.startswith("file:")]
            thin(page)
            faults = Counter({fault["impact"]: len(fault["nodes"]) for fault in faults_of(page, RULES)})
            weight = sum(file.stat().st_size for file in files if file.is_file()) / 1000
            painted = [round(time) for time in page.evaluate(paint)]
            print(f"{name}: {weight:.0f} kB, first paint after {painted} ms, faults {dict(faults)}", flush=True)
        browser.close()


if __name__ == "__main__":
    report()
