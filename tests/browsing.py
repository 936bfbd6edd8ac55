"""What tests of pages share: one browser for all of them, and pages that hold a single explorer."""

import gc
import importlib
import multiprocessing
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CHROMIUM = Path("/usr/bin/chromium")
STATIC = ROOT / "book" / "_static"
PATIENCE = 600_000  # milliseconds until a page that does not load fails: a busy machine takes long


def absent(reason):
    """Skip tests of pages for a reason; where `REQUIRE_BOOK` is set, as in CI, they fail."""
    if os.environ.get("REQUIRE_BOOK"):
        pytest.fail(reason)
    pytest.skip(reason, allow_module_level=True)


def needed(package):
    """A package that tests of pages need."""
    try:
        return importlib.import_module(package)
    except ImportError:
        absent(f"{package} is not installed")


@pytest.fixture(scope="session")
def browser():
    """Debian's Chromium without a window."""
    playwright = needed("playwright.sync_api")
    if not CHROMIUM.is_file():
        absent(f"there is no {CHROMIUM}: apt install chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM)
        yield browser
        browser.close()
        gc.collect()  # ends processes of loaders that nobody holds
        for process in multiprocessing.active_children():  # the driver waits for all that could write to it
            process.kill()


@pytest.fixture
def show(browser, tmp_path):
    """A function that opens HTML in a page with the book's scripts and styles; what goes wrong in a script fails."""
    errors, pages = [], []

    def opened(html, scripts=True, failing=False, **options):
        names = ("common", "fields", "costs", "ledger", "gallery", "motions", "saliency")
        tags = "".join(f'<script src="{STATIC}/explorers/{name}.js"></script>' for name in names)
        head = f'<meta charset="utf-8"><link rel="stylesheet" href="{STATIC}/ctnet.css">{tags}'
        file = tmp_path / "ledger.html"
        file.write_text(f"<!doctype html><html><head>{head}</head><body>{html}</body></html>")
        context = browser.new_context(java_script_enabled=scripts, viewport={"width": 800, "height": 900}, **options)
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        if not failing:
            page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(file.as_uri())
        pages.append(context)
        return page

    yield opened
    for context in pages:
        context.close()
    assert errors == []
