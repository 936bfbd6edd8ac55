"""Published pages are those of one whole build, whenever the next one is cut off."""

import pytest

from study.building.pages import Pages


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "_build" / "html"


def build(folder, text, shared="same", until="end"):
    """A build that writes two pages; it may be cut off."""
    pages = Pages(folder)
    pages.open(shared)
    before = pages.rendered()
    try:
        if until == "executing":
            return before
        pages.begin()
        (pages.html / "a.html").write_text(text)
        if until == "rendering":
            return before
        (pages.html / "b.html").write_text(text)
        pages.publish(shared, {"a": text, "b": text})
        return before
    finally:
        pages.close()


def read(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


def whole(text):
    return {"a.html": text, "b.html": text}


def test_pages_are_published_together(folder):
    build(folder, "one")
    assert read(folder) == whole("one")
    assert build(folder, "two") == {"a": "one", "b": "one"}
    assert read(folder) == whole("two")


@pytest.mark.parametrize("until", ["executing", "rendering"])
def test_the_old_pages_stay_when_a_build_is_cut_off(folder, until):
    build(folder, "one")
    for _ in range(2):
        build(folder, "two", until=until)
        assert read(folder) == whole("one")
    build(folder, "three")
    assert read(folder) == whole("three")


def test_work_that_was_cut_off_is_not_built_upon(folder):
    build(folder, "one")
    assert build(folder, "two", until="executing") == {"a": "one", "b": "one"}
    assert build(folder, "two", until="rendering") == {"a": "one", "b": "one"}
    assert build(folder, "three") == {}


def test_a_change_of_what_all_share_begins_the_work_anew(folder):
    build(folder, "one")
    (folder.with_name("work") / "html" / "gone.html").write_text("of a chapter that is no more")
    build(folder, "two", shared="other")
    assert read(folder) == whole("two")


def test_a_publication_that_was_cut_off_between_its_renames_is_taken_back(folder):
    build(folder, "one")
    folder.rename(folder.with_name(".html-old"))
    build(folder, "two", until="rendering")
    assert read(folder) == whole("one")


def test_an_empty_folder_is_no_book(folder):
    folder.mkdir(parents=True)
    build(folder, "one", until="rendering")
    assert not folder.exists()


def test_pages_that_were_lost_come_back_from_the_work(folder):
    build(folder, "one")
    for path in folder.iterdir():
        path.unlink()
    pages = Pages(folder)
    pages.open("same")
    pages.publish("same", pages.rendered(), anew=False)
    pages.close()
    assert read(folder) == whole("one")


def test_a_build_that_waits_for_another_says_so(folder):
    told, first, second = [], Pages(folder), Pages(folder)
    first.open("same", told.append)
    assert told == []

    def tell(line):
        told.append(line)
        first.close()

    second.open("same", tell)
    second.close()
    assert told == ["another process builds this book: waiting until it has ended"]
