"""Tables and figures of twins show what runs have left, and say what was not run."""

import numpy as np
import pytest

from study.chapters.accuracy import direction_table, directions_of, twin_table
from study.chapters.verdicts import named
from study.directions import directions
from study.paper import table
from study.runs import correct_by_seed, paired, trained_tables, twins_of
from study.statistics import paired_difference


@pytest.fixture
def some(results):
    """Runs of three of the four modules of Table 2a."""
    for row, accuracy in (("c3d-module", 0.5), ("r-2-1-d-module", 0.6), ("ct-module", 0.7)):
        results("2a", row, accuracy)


def test_accuracies_are_shown_with_interval_and_seeds(some):
    frame = twin_table("2a").data.set_index("Twin of")
    assert list(frame.index) == [row.label for row in table("2a").rows.values()]
    assert frame.loc["CT-Module", "Top-1 on the Micro dataset, %"] == "70.0"
    assert frame.loc["CSN-Module"].tolist() == ["not run yet", "–", "0 of 6"]
    assert frame.loc["CT-Module", "Seeds"] == "6 of 6"


def test_directions_are_shown_with_their_verdicts(some):
    styled = direction_table("2a")
    frame = styled.data
    assert frame["Verdict"].tolist() == ["supported", "supported", "not run yet"]
    assert frame["Twins, points"].tolist() == ["+20.0", "+10.0", "–"]
    assert frame["Printed, points"].tolist() == ["+1.2", "+0.3", "+0.5"]
    assert frame["p, and corrected"].tolist() == ["<\u00a00.001, <\u00a00.001", "<\u00a00.001, <\u00a00.001", "–"]
    assert "verdict-supported" in styled.to_html()


def test_what_is_called_equivalent_is_told_with_the_interval_that_decides(results):
    """Half a point apart: the 95 % interval reaches beyond the margin."""
    for row, accuracy in (("c3d-module", 0.5), ("r-2-1-d-module", 0.6), ("csn-module", 0.655), ("ct-module", 0.66)):
        results("2a", row, accuracy, spread=0.01)
    shown = direction_table("2a")
    (same,) = (direction for direction in directions_of("2a") if direction.verdict == "equivalent")
    low, high = same.found.likely
    (note,) = (note for note in shown.notes if note.startswith("Equivalent"))
    assert note.endswith(f"{same.label}: {low:+z.1f} to {high:+z.1f}.")
    assert all(not note.startswith("Equivalent") for note in direction_table("2b").notes)


def test_what_the_paper_does_not_ask_is_marked():
    marked = [order for order in direction_table("5").data["The paper's order"] if "asked by this study" in order]
    assert len(marked) == sum(direction.published is None for direction in directions_of("5")) == 1
    assert "HMDB51" in marked[0]


def test_p_of_a_comparison_that_is_not_finished_is_not_shown(results):
    for row, accuracy in (("c3d-module", 0.5), ("ct-module", 0.7)):
        results("2a", row, accuracy, seeds=range(3))
    line = direction_table("2a").data.iloc[0]
    assert line["Twins, points"] == "+20.0"
    assert line["p, and corrected"] == "–"


def test_p_is_shown_as_it_is_and_corrected_for_all_directions_of_the_table(results):
    """Three directions: the smallest p is taken three times, the next one twice."""
    for row, accuracy in (("c3d-module", 0.68), ("r-2-1-d-module", 0.66), ("csn-module", 0.69), ("ct-module", 0.7)):
        results("2a", row, accuracy, spread=0.02)
    found = [direction.found.p for direction in directions_of("2a")]
    smallest, middle, largest = sorted(found)
    expected = {smallest: 3 * smallest, middle: max(3 * smallest, 2 * middle)}
    expected[largest] = max(expected[middle], largest)
    assert 0.001 < smallest < middle < largest, "or this tests nothing"
    for text, p in zip(direction_table("2a").data["p, and corrected"], found, strict=True):
        shown = [float(part) for part in text.split(", ")]
        assert shown == pytest.approx([p, min(1, expected[p])], abs=0.006)


def test_a_second_look_is_shown_with_its_seeds_and_what_the_first_saw(results):
    for row, spread in (("serial", 0.0), ("parallel", 0.006), ("coupling", 0.0)):
        results("2c", row, 0.6, spread=spread)
    first, accuracies = direction_table("2c"), twin_table("2c")
    assert not any("seeds" in order for order in first.data["The paper's order"])
    assert [note.partition(":")[0] for note in first.notes[2:]] == ["Equivalent"]
    for row, accuracy in (("serial", 0.6), ("parallel", 0.7)):
        results("2c", row, accuracy, seeds=range(6, 12))
    shown = direction_table("2c")
    orders = first.data["The paper's order"].tolist()
    assert shown.data["The paper's order"].tolist() == [orders[0], f"{orders[1]} (12 seeds)", orders[2]]
    assert twin_table("2c").data.equals(accuracies.data)
    assert [len(made.notes) for made in (accuracies, twin_table("2c"))] == [1, 2]
    before = first.data.loc[1]
    told = f"{before['Twins, points']} ({before['95 % interval']})"
    assert f"open after 6 seeds: parallel − serial: {told}. Their" in shown.notes[3]


@pytest.mark.parametrize("name", [name for name in trained_tables() if "-" not in name and name not in ("fig3", "zoo")])
def test_every_table_has_a_line_for_each_twin_and_direction(name):
    assert len(twin_table(name).data) == len(twins_of(name))
    asked = [direction for direction in directions() if direction.table == name]
    assert directions_of(name) == asked
    assert len(direction_table(name).data) == len(asked)


def test_twins_on_several_datasets_tell_on_which():
    shown = twin_table("7").data["Twin of"].tolist()
    assert "CT-Module, 2D R50, MicroKinetics" in shown
    assert "CT-Module, 2D R50, MicroSomething with 24000 clips" in shown
    assert twin_table("5").data["Twin of"].tolist()[0] == "TSN, MicroUCF", "and not its printed backbone"


def test_measures_that_print_nothing_have_no_column_for_it():
    assert "Printed, points" not in direction_table("fig3").data
    assert (named("fig3"), named("2a")) == ("Figure 3", "Table 2a")


@pytest.mark.parametrize(("name", "column", "apart"), [("7", "mini_kinetics_top1", 8.4), ("2a", "top1", 3.7)])
def test_what_table_7_says_of_how_far_seeds_lie_apart_holds(name, column, apart):
    twins = [twin for (_, of), twin in twins_of(name).items() if of == column]
    found = [[100 * right.mean() for right in correct_by_seed(twin).values()] for twin in twins]
    assert max(max(tops) - min(tops) for tops in found) == pytest.approx(apart, abs=0.05)


def test_what_table_6_says_beyond_its_verdicts_holds():
    """How far the ensembles are above 8 frames, the best of single twins, and the lowest seed of 16 frames."""
    twins = {row: twin for (row, _), twin in twins_of("6").items()}
    four, two, single = paired([twins[row] for row in ("8-12-16-24-x1x1", "8-16", "8")])
    for ensemble, told in ((four, (2.2, 1.2, 3.1)), (two, (1.5, 0.7, 2.3))):
        found = paired_difference(ensemble, single)
        assert (found.mean, found.low, found.high) == pytest.approx(told, abs=0.05)
    tops = {row: [100 * right.mean() for right in correct_by_seed(twin).values()] for row, twin in twins.items()}
    assert max(("8", "12", "16", "24"), key=lambda row: np.mean(tops[row])) == "8"
    assert min(tops["16"]) == pytest.approx(87.4, abs=0.05)
