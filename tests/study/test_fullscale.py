import json
import shutil

import numpy as np
import pytest
import torch

from ctnet import create_model, save_model
from ctnet.engine import Place, Scores, View, get_recipe
from ctnet.micro import make
from study.chapters import tables
from study.costs import costs_of
from study.fullscale import SIZES, Size, Target, accuracies, find_target, keep, wilson
from study.ledger import claims
from study.paper import table
from study.store import behaviour, is_stale

V2 = get_recipe("somethingv2")
CROPS = View(3, 2)


def scores(right, videos=24_777, classes=174):
    """Scores of a network that is right about so many videos, and has the others' labels second."""
    labels = np.zeros(videos, np.int64)
    probabilities = np.tile(np.linspace(0.6, 0, classes, dtype=np.float32), (videos, 1))
    probabilities[right:, 1] = 0.9
    return Scores(probabilities, labels, [str(i) for i in range(videos)], [str(i) for i in range(classes)])


@pytest.fixture
def fill(own_results, tmp_path):
    """Fill the row of Table 3 with 8 frames, 3 crops and 2 clips, on Something-Something V2."""
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"weights")

    def call(right, recipe=V2, name="3/ct-net-8x3x2"):
        target = find_target(name, [recipe], [CROPS])
        return keep(target, scores(right), {weights: recipe}, CROPS, Place(torch.device("cpu")), seconds=12.3)

    return call


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


V1 = get_recipe("somethingv1")
MODULE = get_recipe("mini-kinetics").override({"options": {"pointwise": False, "excitation": "none"}, "frames": 8})


@pytest.mark.parametrize(
    ("name", "recipes", "view", "message"),
    [
        ("3/ct-net-9", [V2], View(), "did you mean '3/ct-net-8'"),
        ("3/nl-i3d-gcn-32x3x2", [V2], View(), "no row '3/nl-i3d-gcn-32x3x2'"),
        ("4/ct-net-r50-16x3x4", [V2], View(3, 4), "the dataset kinetics"),
        ("3/ct-net-8", [get_recipe("micro-something")], View(), "somethingv1 or somethingv2"),
        ("3/ct-net-8", [V2.override({"frames": 16})], View(), "test of ctnet_r50 (16 frames, 256 pixels)"),
        ("3/ct-net-8", [V2.override({"model": "ctnet_r50_twin"})], View(), "ctnet_r50_twin"),
        ("3/ct-net-8", [V2.override({"options": {"sizes": 3}})], View(), "pixels, sizes 3)"),
        ("3/ct-net-8", [V2], View(size=224), "224"),
        ("3/ct-net-8", [V2.override({"test_size": 224})], View(), "224"),
        ("3/ct-net-8", [V2], CROPS, "crops x clips 1x1, and this is a test of 3x2"),
        ("3/ct-net-8x3x2", [V2], View(1, 6), "crops x clips 3x2, and this is a test of 1x6"),
        ("7/ct-module", [MODULE], View(), "crops x clips of more than 1x1, and this is a test of 1x1"),
        ("3/ct-net-8", [V2, V2], View(), "+"),
        ("2h/train-224-test-256", [V1], View(), "training at 224 pixels, and this is a test of 256"),
        ("2h/train-256-test-256", [V1.override({"size": 224})], View(size=256), "training at 256 pixels"),
        ("6/8-16", [V2, get_recipe("somethingv1").override({"frames": 16})], View(), "somethingv1 and somethingv2"),
    ],
)
def test_a_row_is_filled_by_a_test_of_itself_only(name, recipes, view, message):
    with pytest.raises(ValueError, match=".*") as error:
        find_target(name, recipes, [view])
    assert message in str(error.value)


def test_rows_that_match():
    assert find_target("3/ct-net-8x3x2", [V2], [CROPS]) == Target("3", "ct-net-8x3x2", "somethingv2")
    v1 = V1
    small = v1.override({"size": 224})
    assert find_target("2h/train-224-test-256", [small], [View(size=256)]).row == "train-224-test-256"
    assert find_target("2d/c2-16", [v1.override({"options": PLAIN_16})], [View()]).dataset == "somethingv1"
    assert find_target("7/ct-module", [MODULE], [View(3, 4)]).dataset == "mini-kinetics"
    both = [v1.override({"frames": frames}) for frames in (16, 8)]  # in any order
    assert find_target("6/8-16", both, [View()]) == Target("6", "8-16", "somethingv1")


PLAIN_16 = {"pointwise": False, "excitation": "none", "sizes": [-1, 16]}


@pytest.mark.parametrize(("classes", "videos"), [(24, 24_777), (174, 22_299), (174, 24_778)])
def test_a_part_of_a_dataset_or_a_rehearsal_fills_no_row(classes, videos):
    target = Target("3", "ct-net-8", "somethingv2")
    target.check_videos(174, 24_777)
    target.check_videos(174, 22_300)
    with pytest.raises(ValueError, match="24777 videos of 174 classes"):
        target.check_videos(classes, videos)


def test_what_is_kept_tells_where_it_comes_from(fill, own_results):
    path = fill(15_485)
    assert path == own_results / "full-scale" / "3-ct-net-8x3x2-somethingv2.json"
    content = json.loads(path.read_text())
    assert content["metrics"] == {"top1": 15_485 / 24_777, "top5": 1.0}
    assert content["interval"]["top1"] == pytest.approx(wilson(15_485 / 24_777, 24_777))
    assert (content["videos"], content["view"]) == (24_777, "3x2")
    assert content["networks"] == [{"weights": "9a129038d9a00aed", "recipe": V2.to_dict()}]  # of b"weights"
    assert content["provenance"]["devices"] == "1 x CPU"
    assert content["provenance"]["seconds"] == 12.3
    assert content["provenance"]["behaviour"] == behaviour(["data", "engine"], ["ctnet_r50"])
    assert not is_stale(content)
    with pytest.raises(ValueError, match="not 100 of 174"):
        keep(Target("3", "ct-net-8", "somethingv2"), scores(50, 100), {}, View(), Place(torch.device("cpu")), seconds=1)


def test_tables_show_what_was_kept_beside_the_printed_number_and_nothing_else_changes(fill):
    before = cost_table("3")
    fill(15_485)
    after = cost_table("3")
    group = "SSv2 Top-1, %"
    rows = after.data[group].set_index(after.data["", "Frames"] + " " + after.data["", "Method"])
    assert rows.loc["8x3x2 CT-Net"].to_list() == ["63.9", "62.5 (61.9 to 63.1)", "differs"]
    assert rows.loc["8 CT-Net"].to_list() == ["62.5", "–", "not run here"]
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


def test_a_recipe_of_ones_own_is_told_in_the_caption(fill):
    fill(15_485, V2.override({"epochs": 20, "init": "other.safetensors", "workers": 2, "seed": 3, "root": "/data"}))
    note = "CT-Net, 2D R50, 8x3x2 was trained with epochs 20, not 45, init other.safetensors, not imagenet."
    assert cost_table("3").caption.count(note) == 1


def test_cards_and_the_summary_count_it(fill):
    assert "not run here: it needs" in tables.card("3").data
    fill(15_485)
    assert "2 measured" in tables.card("3").data
    assert "not run here: it needs" in tables.card("2a").data
    summary = tables.summary(claims()).data
    (outcome,) = summary.loc[summary["Claims"].str.startswith("full size"), "Outcome"]
    assert outcome == "274 not run here, 2 differs"


@pytest.mark.parametrize(
    "change",
    [{"videos": 100}, {"row": "ct-net-16"}, {"metrics": {}}, {"networks": [{}]}, {"interval": {"top1": [1]}}],
)
def test_a_damaged_or_foreign_file_is_refused(fill, change):
    path = fill(15_485)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=r"3-ct-net-8x3x2-somethingv2\.json is damaged"):
        accuracies(table("3"))


@pytest.fixture
def small_row(own_results, edited):
    """Table 3's TSN, declared as the network of the rehearsal."""
    with edited("published/table_3.json") as content:
        (row,) = (row for row in content["rows"] if row["id"] == "tsn-8")
        row |= {"network": {"model": "tsn_r50_twin", "frames": 2, "size": 16}, "view": "1x2"}


@pytest.fixture(scope="module")
def rehearsal(tmp_path_factory):
    """An untrained twin and a drawn dataset in Something-Something V2's layout."""
    root = tmp_path_factory.mktemp("rehearsal")
    make("MicroSomething", root / "data", "somethingv2", counts={"train": 24, "val": 24, "test": 1}, size=32)
    names = json.loads((root / "data" / "something-something-v2-labels.json").read_text())
    recipe = V2.override(
        {"model": "tsn_r50_twin", "frames": 2, "size": 16, "short_side": 16, "root": str(root / "data"), "workers": 0}
    )
    model = create_model("tsn_r50_twin", num_classes=24, num_frames=2)
    save_model(root / "model.safetensors", model, sorted(names, key=lambda name: int(names[name])), recipe)
    return root / "model.safetensors"


def test_the_command_keeps_a_result_where_it_is_asked_to(rehearsal, own_results, small_row, run, monkeypatch):
    monkeypatch.setitem(SIZES, "somethingv2", Size(24, 24, 24))
    code, out, err = run("test", str(rehearsal), "--view", "1x2", "--record", "3/tsn-8")
    assert code == 0, err
    path = own_results / "full-scale" / "3-tsn-8-somethingv2.json"
    assert f"kept in {path}" in out
    content = json.loads(path.read_text())
    assert (content["view"], content["videos"]) == ("1x2", 24)
    assert content["networks"][0]["recipe"]["model"] == "tsn_r50_twin"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--record", "3/tsn-8"], "is about"),
        (["--record", "3/tsn-8", "frames=8"], "leave out frames"),
        (["--record", "3/tsn-8", "--view", "1x1", "--view", "3x2"], "one --view"),
        (["kept.npz", "--record", "3/tsn-8"], "kept scores"),
    ],
)
def test_a_rehearsal_is_not_kept(rehearsal, own_results, run, arguments, message):
    code, out, err = run("test", str(rehearsal), *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert not (own_results / "full-scale").exists()


def test_a_rehearsal_of_the_rows_own_network_is_refused_before_it_is_tested(rehearsal, small_row, run, tmp_path):
    """Its videos are emptied: to test on them would end with another error."""
    shutil.copytree(rehearsal.parent / "data", tmp_path / "data")
    videos = [path for path in (tmp_path / "data").rglob("*") if path.is_file() and path.suffix != ".json"]
    for path in videos:
        path.write_bytes(b"")
    command = ["test", str(rehearsal), f"root={tmp_path / 'data'}", "--view", "1x2"]
    code, _, err = run(*command, "--record", "3/tsn-8")
    assert code == 2
    assert "24777 videos of 174 classes to test on, not 24 of 24" in err
    code, _, err = run(*command)
    assert videos
    assert code == 2
    assert "24777 videos" not in err
