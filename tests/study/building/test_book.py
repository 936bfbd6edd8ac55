"""Pages are of the sources that they were rendered from, whenever these are saved."""

import sys
from types import SimpleNamespace

from study.building.book import Book
from study.store import ROOT


def built(root, meanwhile=lambda: None):
    """Build a book of one page as Sphinx goes along; `meanwhile` happens once the page is read. Its published text."""
    sys.path.insert(0, str(ROOT / "book" / "_ext"))
    try:
        from building import Build
    finally:
        del sys.path[0]
    book = Book(root)
    book.pages.open(book.shared)
    build = Build(book)
    app = SimpleNamespace(
        config=SimpleNamespace(measure_first="", kernels_import=[]), outdir="", builder=SimpleNamespace(name="html")
    )
    build.execute(app)
    text = (root / "book" / "page.md").read_text()
    if build.changed:
        (book.pages.html / "page.html").write_text(text)
    meanwhile()
    build.publish(app, None)
    return (root / "_build" / "html" / "page.html").read_text()


def test_what_is_saved_while_the_book_is_rendered_is_rendered_next_time(tmp_path):
    (tmp_path / "book").mkdir()
    (tmp_path / "_config.yml").write_text("title: one page")
    (tmp_path / "book" / "_toc.yml").write_text("format: jb-book\nroot: page\n")
    page = tmp_path / "book" / "page.md"
    page.write_text("# old")
    assert built(tmp_path, lambda: page.write_text("# new")) == "# old"
    assert Book(tmp_path).lacks() == "page changed since the book was built"
    assert built(tmp_path) == "# new"
    assert Book(tmp_path).lacks() == ""
