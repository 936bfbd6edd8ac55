import json

import pytest

from ctnet.engine import View, get_recipe
from study.chapters import tables
from study.chapters.front import bars
from study.costs import costs_of
from study.fullscale import Target, accuracies, wilson
from study.ledger import claims
from study.paper import table

V2 = get_recipe("somethingv2")
CROPS = View(3, 2)


def cost_table(name):
    return tables.cost_table(name, costs_of(table(name).rows))


def test_columns_are_of_the_papers_datasets():
    def dataset_of(name, column):
        return table(name).columns[column].dataset

    assert [dataset_of("3", column) for column in ("v1_top1", "v2_top5")] == ["somethingv1", "somethingv2"]
    assert dataset_of("7", "mini_kinetics_top1") == "mini-kinetics"
    assert [dataset_of(name, "top1") for name in ("2a", "4", "8")] == ["somethingv1", "kinetics", "somethingv1"]


def test_interval_is_wilsons():
    assert wilson(0.3, 100) == pytest.approx((0.2189, 0.3958), abs=1e-4)  # R: prop.test(30, 100, correct = FALSE)
    assert wilson(0.0, 10) == pytest.approx((0, 0.2775), abs=1e-4)
    assert wilson(1.0, 10) == pytest.approx((0.7225, 1), abs=1e-4)


@pytest.mark.parametrize(("classes", "videos"), [(24, 24_777), (174, 22_299), (174, 24_778)])
def test_a_part_of_a_dataset_or_a_rehearsal_fills_no_row(classes, videos):
    target = Target("3", "ct-net-8", "somethingv2")
    target.check_videos(174, 24_777)
    target.check_videos(174, 22_300)
    with pytest.raises(ValueError, match="24777 videos of 174 classes"):
        target.check_videos(classes, videos)


def test_tables_show_what_was_kept_beside_the_printed_number_and_nothing_else_changes(fill):
    before = cost_table("3")
    fill(15_485)
    after = cost_table("3")
    group = "SSv2 Top-1, %"
    rows = after.data[group].set_index(after.data["", "Row"])
    assert rows.loc["CT-Net, 2D R50, 8x3x2"].to_list() == ["63.9", "62.5 (61.9 to 63.1)", "differs"]
    assert rows.loc["CT-Net, 2D R50, 8 frames"].to_list() == ["62.5", "–", "not run here"]
    assert set(after.data.columns) - set(before.data.columns) == {
        (f"SSv2 Top-{k}, %", part) for k in (1, 5) for part in ("published", "measured here", "verdict")
    }
    assert ("Accuracy in %: published, not run here", "SSv1 Top-1") in after.data.columns
    assert ("Accuracy in %: published, not run here", "SSv2 Top-1") not in after.data.columns
    assert after.caption == before.caption
    assert "verdict-not-run-here" in after.to_html()


@pytest.mark.parametrize(
    ("right", "verdict"),
    [(15671, "differs"), (15672, "within interval"), (15993, "within interval"), (15994, "differs")],
)
def test_a_printed_number_is_held_against_the_interval(fill, right, verdict):
    """63.9 is printed: 0.6 to either side are the interval's, and 0.05 the printed number's own."""
    fill(right)
    found = accuracies(table("3"))
    assert found.keys() == {("ct-net-8x3x2", "v2_top1"), ("ct-net-8x3x2", "v2_top5")}
    assert found["ct-net-8x3x2", "v2_top1"].verdict == verdict


def test_a_recipe_of_ones_own_is_told_below_the_table(fill):
    fill(15_485, V2.override({"epochs": 20, "init": "other.safetensors", "workers": 2, "seed": 3, "root": "/data"}))
    note = "CT-Net, 2D R50, 8x3x2 was trained with epochs 20, not 45, init other.safetensors, not imagenet."
    assert cost_table("3").notes.count(note) == 1


def test_cards_and_bars_count_it(fill):
    assert "not run here: it needs" in tables.card("3").data
    fill(15_485)
    assert "2 measured" in tables.card("3").data
    assert "not run here: it needs" in tables.card("2a").data
    told = bars(claims())["accuracies"].data
    assert ">274 not measured<" in told
    assert ">2 do not hold<" in told


@pytest.mark.parametrize(
    "change",
    [{"videos": 100}, {"row": "ct-net-16"}, {"metrics": {}}, {"networks": [{}]}, {"interval": {"top1": [1]}}],
)
def test_a_damaged_or_foreign_file_is_refused(fill, change):
    path = fill(15_485)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=r"3-ct-net-8x3x2-somethingv2\.json is damaged"):
        accuracies(table("3"))
