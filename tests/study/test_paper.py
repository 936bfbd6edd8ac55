import json
import re

import pytest
from study.published import TABLES, published_table, results_dir, row_label, text_claims

LABELS = {"id", "note", "method", "backbone", "frames", "k", "c1", "c2", "blocks", "train", "test", "views", "pretrain"}


def test_all_the_papers_numbers_are_there():
    """417 numbers: every cost, parameter count and accuracy of Tables 2 to 8."""
    count = 0
    for table in TABLES[1:]:
        numbers = published_table(table).drop(columns=LABELS, errors="ignore")
        count += sum(isinstance(value, int | float) for value in numbers.to_numpy().ravel())
    assert count == 417


@pytest.mark.parametrize("table", TABLES)
def test_every_table_has_a_title_units_and_unique_rows(table):
    frame = published_table(table)
    assert frame.index.is_unique
    assert frame.attrs["title"]
    assert set(frame.attrs["units"]) <= set(frame.columns)
    for column in frame.columns:
        if re.search("top|gflops|params", column):
            assert column in frame.attrs["units"]


@pytest.mark.parametrize("table", TABLES)
def test_accuracies_are_percentages_and_top5_exceeds_top1(table):
    frame = published_table(table)
    for column in (name for name in frame.columns if name.endswith("top1")):
        pairs = (
            frame[[column, column.replace("top1", "top5")]].dropna() if f"{column[:-1]}5" in frame else frame[[column]]
        )
        assert all(0 < values[0] < values[-1] < 100 for values in pairs.to_numpy() if len(values) > 1)


def test_printed_digits_survive():
    text = (results_dir() / "published" / "table_2e.json").read_text()
    assert '"gflops": 43.0' in text
    assert isinstance(published_table("2e").loc["blocks-0", "gflops"], float)
    assert isinstance(published_table("6").loc["8", "gflops"], int)


def test_nothing_printed_is_none():
    assert published_table("2c")["gflops"].tolist() == [None, None, None]


def test_text_claims_say_where_they_stand():
    assert all(claim["where"] and claim["claim"] for claim in text_claims())


def test_unknown_table_is_refused():
    with pytest.raises(ValueError, match="no table '9'"):
        published_table("9")


def test_results_can_lie_elsewhere_but_must_exist(monkeypatch, tmp_path):
    monkeypatch.setenv("CTNET_RESULTS", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="run from a clone"):
        results_dir()
    (tmp_path / "published").mkdir()
    assert results_dir() == tmp_path


def test_files_are_plain_json_with_a_row_on_each_line():
    for path in (results_dir() / "published").glob("table_*.json"):
        content = json.loads(path.read_text())
        assert sum(line.lstrip().startswith('{"id"') for line in path.read_text().splitlines()) == len(content["rows"])


@pytest.mark.parametrize(
    ("table", "row_id", "label"),
    [
        ("3", "ct-net-8x3x2", "CT-Net, 2D R50, 8x3x2"),
        ("2b", "k2", "K = 2"),
        ("2d", "c2-sqrt", "C₂ = sqrt(C)"),
        ("2e", "blocks-12", "blocks = 12"),
        ("2f", "kernels-3-5", "kernels = 3 and 5"),
        ("6", "12", "12 frames"),
        ("4", "x3d-xl-16x3x10", "X3D-XL, 16x3x10"),
    ],
)
def test_rows_are_labelled_in_the_tables_own_words(table, row_id, label):
    assert row_label(published_table(table), row_id) == label
