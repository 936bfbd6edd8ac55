import json
from dataclasses import replace

import numpy as np
import pytest

from ctnet import create_model, save_model
from ctnet.engine import Scores, View, get_recipe
from ctnet.engine.evaluation import data_identity
from ctnet.micro import make
from study.fullscale import SIZES, Size, Target, wilson
from study.record import find_target, record
from study.store import behaviour, is_stale

V2 = get_recipe("somethingv2")
CROPS = View(3, 2)
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
        find_target(name, recipes, view)
    assert message in str(error.value)


def test_rows_that_match():
    assert find_target("3/ct-net-8x3x2", [V2], CROPS) == Target("3", "ct-net-8x3x2", "somethingv2")
    v1 = V1
    small = v1.override({"size": 224})
    assert find_target("2h/train-224-test-256", [small], View(size=256)).row == "train-224-test-256"
    assert find_target("2d/c2-16", [v1.override({"options": PLAIN_16})], View()).dataset == "somethingv1"
    assert find_target("7/ct-module", [MODULE], View(3, 4)).dataset == "mini-kinetics"
    both = [v1.override({"frames": frames}) for frames in (16, 8)]  # in any order
    assert find_target("6/8-16", both, View()) == Target("6", "8-16", "somethingv1")


@pytest.mark.parametrize("name", ["2a/ct-module", "2b/k2", "2c/parallel", "2e/blocks-7", "2f/kernels-3-3"])
@pytest.mark.parametrize("more", [{}, {"sizes": 2, "kernels": (3, 3), "blocks": 7, "connection": "parallel"}], ids=str)
def test_rows_of_one_network_take_the_same_test(name, more):
    plain = V1.override({"options": {"pointwise": False, "excitation": "none"} | more})
    assert find_target(name, [plain], View()).row == name.partition("/")[2]
    with pytest.raises(ValueError, match="sizes 3"):
        find_target(name, [plain.override({"options": plain.options | {"sizes": 3}})], View())


PLAIN_16 = {"pointwise": False, "excitation": "none", "sizes": [-1, 16]}


def test_a_row_takes_networks_as_they_were_trained():
    find_target("3/ct-net-8", [V2], View(), ["root", "workers", "skip"])
    with pytest.raises(ValueError, match="test without lr"):
        find_target("3/ct-net-8", [V2], View(), ["root", "lr"])


def test_what_is_kept_tells_where_it_comes_from(fill, own_results):
    path = fill(15_485)
    assert path == own_results / "full-scale" / "3-ct-net-8x3x2-somethingv2.json"
    content = json.loads(path.read_text())
    assert content["metrics"] == {"top1": 15_485 / 24_777, "top5": 1.0}
    assert content["interval"]["top1"] == pytest.approx(wilson(15_485 / 24_777, 24_777))
    assert (content["videos"], content["view"], content["precision"]) == (24_777, "3x2", "float32")
    assert content["networks"] == [{"weights": "9a129038d9a00aed", "recipe": V2.to_dict()}]
    made = content["provenance"]
    assert (made["devices"], made["seconds"], made["versions"]) == ("4 x H100", 12.3, {"torch": "3.0"})
    assert made["behaviour"] == behaviour(["data", "engine"], ["ctnet_r50"])
    assert not is_stale(content)


def test_scores_of_other_versions_are_stale(fill):
    old = behaviour(["data", "engine"], ["ctnet_r50"]) | {"engine": 0}
    assert is_stale(json.loads(fill(15_485, behaviour=old).read_text()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"videos": 100}, "not 100 of 174"),
        ({"view": "1x1"}, "crops x clips 3x2, and this is a test of 1x1"),
        ({"changed": ["frames"]}, "test without frames"),
        ({"data": "other"}, "other videos than were tested"),
    ],
)
def test_other_scores_are_refused_and_nothing_is_kept(changes, message, fill, own_results):
    with pytest.raises(ValueError, match=message):
        fill(50, **changes)
    assert not (own_results / "full-scale").exists()


@pytest.fixture
def members(own_results, tmp_path):
    """A function that writes scores of the networks of Table 6's ensemble, of 8 and 16 frames.

    The first finds class n, the other class n + 1 likelier than class 2, which both have second: only together they
    say 2.
    """

    def write(engine=0):
        paths = []
        for number, frames in enumerate((8, 16)):
            probabilities = np.full((11_522, 174), 0.001, np.float32)
            probabilities[:, number], probabilities[:, 2] = 0.4, 0.3
            labels = np.where(np.arange(11_522) < 9000, 2, 5)
            names, classes = ([str(each) for each in range(count)] for count in (11_522, 174))
            scores = Scores(probabilities, labels, names, classes)
            about = {
                "weights": f"{number}a129038d9a00aed",
                "recipe": V1.override({"frames": frames}).to_dict(),
                "changed": [],
                "view": "1x1",
                "precision": "float32",
                "devices": "1 x H100",
                "seconds": 1.5,
                "versions": {},
                "data": data_identity(scores),
                "behaviour": behaviour(["data", "engine"], ["ctnet_r50"]),
            }
            about["behaviour"]["engine"] += number * engine
            paths.append(tmp_path / f"{number}.npz")
            replace(scores, about=about).save(paths[-1])
        return paths

    return write


def test_an_ensemble_is_filed_with_its_common_accuracy(members):
    paths = members()
    assert [Scores.load(path).accuracy() for path in paths] == [0, 0]
    content = json.loads(record(paths, "6/8-16").read_text())
    assert content["metrics"]["top1"] == 9000 / 11_522
    assert content["interval"]["top1"] == pytest.approx(wilson(9000 / 11_522, 11_522))
    assert [(each["weights"], each["recipe"]["frames"]) for each in content["networks"]] == [
        ("0a129038d9a00aed", 8),
        ("1a129038d9a00aed", 16),
    ]
    assert content["provenance"]["seconds"] == 3.0
    assert content["provenance"]["behaviour"] == behaviour(["data", "engine"], ["ctnet_r50"])


def test_members_that_were_tested_by_different_versions_make_no_ensemble(members, own_results):
    with pytest.raises(ValueError, match="different versions"):
        record(members(engine=1), "6/8-16")
    assert not (own_results / "full-scale").exists()


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


@pytest.fixture
def tested(rehearsal, run, tmp_path):
    """Scores of the rehearsal in two views."""
    views = ["--view", "1x2", "--view", "1x1"]
    assert run("test", str(rehearsal), *views, "--scores", str(tmp_path / "scores"))[0] == 0
    return {view: str(next((tmp_path / "scores").glob(f"*-{view}.npz"))) for view in ("1x2", "1x1")}


def test_the_command_files_what_a_test_kept(rehearsal, tested, own_results, small_row, run_study, monkeypatch):
    monkeypatch.setitem(SIZES, "somethingv2", Size(24, 24, 24))
    code, out, err = run_study("record", tested["1x2"], "3/tsn-8")
    assert code == 0, err
    path = own_results / "full-scale" / "3-tsn-8-somethingv2.json"
    assert f"kept in {path}" in out
    content = json.loads(path.read_text())
    assert (content["view"], content["videos"]) == ("1x2", 24)
    assert content["networks"][0]["recipe"]["model"] == "tsn_r50_twin"
    assert not is_stale(content)


def test_mistakes_are_one_line(tested, own_results, small_row, run_study, tmp_path):
    bare = tmp_path / "bare.npz"
    kept = Scores.load(tested["1x2"])
    Scores(kept.probabilities, kept.labels, kept.names, kept.classes).save(bare)
    for arguments, message in (
        ([tested["1x2"], "3/tsn-8"], "24777 videos of 174 classes to test on, not 24 of 24"),
        ([tested["1x1"], "3/tsn-8"], "is about crops x clips"),
        ([tested["1x2"], tested["1x1"], "3/tsn-8"], "one view, and these are scores of 1x1 and 1x2"),
        ([tested["1x2"], "3/ct-net-8"], "is about the network"),
        ([tested["1x2"], "3/tsn-9"], "did you mean '3/tsn-"),
        ([str(bare), "3/tsn-8"], "use `ctnet test --scores`"),
        ([tested["1x2"]], "SCORES... TABLE/ROW"),
        ([str(tmp_path / "none.npz"), "3/tsn-8"], "none.npz"),
    ):
        code, out, err = run_study("record", *arguments)
        assert (code, out, err.count("\n")) == (2, "", 1), arguments
        assert message in err
    assert not (own_results / "full-scale").exists()
    with pytest.raises(FileNotFoundError):
        record([tmp_path / "none.npz"], "3/tsn-8")
