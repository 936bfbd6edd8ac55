"""The book's tables show printed and measured numbers as they are, and a verdict in words for each."""

import re
from collections import Counter

import pytest

from study.chapters import tables
from study.chapters.markup import anchor
from study.claims import VERDICTS
from study.costs import cost_file, costs_of
from study.exact import tolerance
from study.paper import TABLES, table
from study.runs import trained_tables

MEASURED = [name for name in TABLES if table(name).networks]


def kept_costs(name):
    return costs_of(table(name).rows)


def cells(name):
    return tables.cost_table(name, kept_costs(name)).data


@pytest.mark.parametrize("name", MEASURED)
def test_cost_tables_say_for_every_row_whether_it_was_measured(name):
    frame, rows = cells(name), table(name).rows.values()
    verdicts = frame["GFLOPs", "verdict"]
    allowed = {"reproduced", "differs", "paper inconsistent", "not reproduced", "not measured", "not printed"}
    allowed |= {"inconclusive"} if any(row.unreadable for row in rows) else set()
    assert len(frame) == len(rows)
    assert set(verdicts) <= allowed
    measured = frame["GFLOPs", "measured"] != "–"
    assert list(measured) == [bool(row.networks) for row in rows]
    assert list(verdicts == "not reproduced") == [bool(row.not_measured) for row in rows]
    assert set(verdicts[~measured]) <= {"not reproduced", "not measured", "not printed"}
    assert not frame.isin(["-0.00", "-0.0"]).any(axis=None)


@pytest.mark.parametrize(
    ("name", "row", "printed", "rounds"),
    [("3", "TSM, 2D R50, 8 frames", "33", "both"), ("4", "I3D, Inception, 64xN/AxN/A", "108", "neither")],
)
def test_both_counts_are_shown_with_the_one_that_is_printed(name, row, printed, rounds):
    frame = tables.counts_table(name, kept_costs(name)).data.set_index("Row")
    assert len(frame) == sum(bool(row.networks) for row in table(name).rows.values())
    shown = frame.loc[row]
    assert shown.iloc[1] == printed
    assert shown["Rounds to the printed figure"] == rounds
    assert (frame["All operators"].astype(float) > frame["Convolutions and linear layers"].astype(float)).all()
    assert set(frame["Rounds to the printed figure"]) >= {"neither", "all operators", "convolutions and linear layers"}


@pytest.mark.parametrize("name", MEASURED)
def test_published_accuracies_stand_under_a_heading_that_says_so(name):
    frame = cells(name)
    for group, heading in frame.columns:
        if "Top" in heading:
            assert group == "Accuracy in %: published, not run here"
    assert any("Top-1" in heading for _, heading in frame.columns)


def test_a_table_shows_the_printed_digits_and_the_difference():
    frame = cells("2e")
    row = frame.iloc[0]
    assert row["GFLOPs", "published"] == "43.0"
    assert row["GFLOPs", "measured"] == "42.94"
    assert row["GFLOPs", "difference"] == "-0.06"


def test_a_caption_is_one_line_and_slips_and_notes_stand_below():
    found = tables.cost_table("6", kept_costs("6"))
    assert found.caption == f"Table 6. {table('6').title}."
    notes = " ".join(found.notes)
    assert "447 / 3 = 149" in notes
    assert "6 x 112 = 672" in notes
    assert any(
        "the blocks of ResNet-101 were chosen to fit" in n for n in tables.cost_table("4", kept_costs("4")).notes
    )
    assert any("top5 as scanned" in note for note in tables.cost_table("2e", kept_costs("2e")).notes)


@pytest.mark.parametrize("name", MEASURED)
def test_verdicts_stand_right_behind_the_names_of_rows(name):
    found = tables.cost_table(name, kept_costs(name))
    assert list(found.data.columns[0]) == ["", "Row"]
    assert found.data.columns[1][1] == "verdict"
    assert found.anchors == [anchor(f"row/{name}/{row}") for row in table(name).rows]
    assert len(set(found.anchors)) == len(found.anchors)


def test_verdicts_are_words_with_a_class_for_their_colour():
    html = tables.cost_table("6", kept_costs("6")).to_html()
    assert re.search(r'class="verdict verdict-paper-inconsistent"><a href="[^"]+">paper inconsistent<', html)


@pytest.mark.parametrize("name", [*MEASURED, "5"])
def test_cards_tell_claim_time_and_command(name):
    html = tables.card(name).data
    assert table(name).claim
    assert table(name).claim in html
    assert (f"python -m study verify --table {name} --live" in html) == (name in MEASURED)
    command = f"python -m study run --table {name}" in html or "python -m study repeat RUN" in html
    assert command == (name in trained_tables())
    assert name == "5" or re.search(r"costs \d+ s", html)


def test_what_is_shown_as_measured_is_counted_and_not_read(own_results, edited, monkeypatch, tmp_path):
    """Kept costs are wrong, of this paper's network and of another method's, until they are counted."""
    monkeypatch.setenv("CTNET_MEASURED", str(tmp_path / "measured"))
    with edited("published/table_3.json") as content:
        content["rows"] = [row for row in content["rows"] if row["id"] in ("tsn-8", "tsm-8")]
        content |= {"twins": {}, "orders": {}, "second_look": None}
    for row in table("3").rows.values():
        with edited(cost_file(row.networks[0])) as content:
            content["cost"]["gmacs"] = 1.0
    assert [cost.gmacs for cost in costs_of(table("3").rows).values()] == [1, 1]
    found = {name: round(cost.gmacs, 2) for name, cost in tables.measure_table("3").items()}
    assert found == {"tsn-8": 32.88, "tsm-8": 32.88}
    assert {name: round(cost.gmacs, 2) for name, cost in costs_of(table("3").rows).items()} == found


def test_verdicts_are_counted_from_the_best_to_the_worst():
    found = Counter({"differs": 2, "reproduced": 3, "inconclusive": 1})
    assert tables.count_verdicts(found) == "3 reproduced, 1 inconclusive, 2 differs"
    assert tables.count_verdicts(Counter(VERDICTS)).split(", ") == [f"1 {verdict}" for verdict in VERDICTS]


def test_source_is_the_packages_own():
    assert "def tolerance" in tables.source(tolerance).data


def test_released_weights_lie_below_the_printed_accuracies_by_what_the_page_says():
    frame = tables.released_table().data
    told = frame[frame["Table 6", "Top-1, %"] != "–"]
    gaps = told["Table 6", "Top-1, %"].astype(float) - told["Released weights", "Top-1, %"].astype(float)
    assert gaps.round(1).tolist() == [0.2, 0.8, 0.7]
