import matplotlib as mpl
import pytest

from ctnet.engine import RECIPES, get_recipe, recipe
from study.chapters import training
from study.chapters.training import recipe_table, settings
from study.paper import training_settings
from study.runs import seeds_of

mpl.use("agg")


def test_settings_are_those_that_the_paper_and_the_scripts_are_asked_for():
    for name in ("somethingv1", "kinetics"):
        assert list(settings(RECIPES[name])) == [told["setting"] for told in training_settings()]


def test_settings_are_read_off_the_recipe_and_the_optimizer():
    found = settings(get_recipe("kinetics").override({"batch_size": 128, "head_lr": 7, "clip_grad": None, "size": 224}))
    assert found["learning rate"] == "0.02"  # for the larger batch
    assert found["rate of the head"] == "×7, bias ×7"
    assert found["largest norm of the gradient"] == "any"
    assert found["pixels"] == "224 × 224"
    assert found["flip"] == "yes"
    assert found["initial head, standard deviation"] == "0.01"
    assert found["no weight decay on"] == "batch normalisation, biases"
    assert found["the rate moves"] == "at every step"
    assert found["an incomplete last batch"] == "dropped"


def test_the_rate_moves_is_looked_at(monkeypatch):
    smooth = recipe.Recipe.lr_at
    monkeypatch.setattr(recipe.Recipe, "lr_at", lambda self, epoch: smooth(self, float(int(epoch))))
    assert settings(get_recipe("somethingv1"))["the rate moves"] == "once per epoch"


def test_the_papers_settings_are_kept_where_it_tells_them():
    frame = recipe_table(RECIPES["somethingv1"], RECIPES["kinetics"]).data.set_index("Setting")
    told = frame[frame["Paper"] != "–"]
    assert len(told) == 9
    assert told["Paper"].tolist() == told["Here"].tolist()
    assert frame.loc["epochs"].tolist() == ["45 | 110", "45 | 90", "45 | 110"]
    assert frame.loc["clips of a step"].tolist() == ["64", "64 | 512", "64"]


def test_schedules_are_the_recipes():
    figure = training.plot_schedules({"a": get_recipe("somethingv1"), "b": get_recipe("kinetics")})
    (axes,) = figure.axes
    line = dict(zip(*axes.lines[0].get_data(), strict=True))
    assert (line[0.0], line[10.0], line[45.0]) == (0.0, 0.02, 0.0)
    assert line[5.0] == pytest.approx(0.01)
    assert max(axes.lines[1].get_ydata()) == 0.01
    assert axes.get_xlim() == (0, 110)


def test_runs_show_every_seed_and_their_mean():
    def run(accuracy, **more):
        return {"epochs": [{"val_top1": 0.1}, {"val_top1": accuracy}], "curve": [3.0, 2.0]} | more

    shown = {"TSN": [run(0.25), run(0.75)], "CT-Net": [run(0.5, curve=[3.0, 2.5, 2.0, 1.0])], "none": []}
    left, right = training.plot_runs(shown, chance=1 / 24).axes
    assert [line.get_xydata().tolist() for line in left.lines] == [[[25, 3], [75, 2]]] * 3 + [
        [[12.5, 3], [37.5, 2.5], [62.5, 2], [87.5, 1]]
    ] * 2
    assert [points.get_offsets().tolist() for points in right.collections] == [[[0, 25], [0, 75]], [[1, 50]]]
    assert right.lines[0].get_ydata() == pytest.approx([100 / 24] * 2)


def test_the_chapter_shows_the_runs_of_all_seeds():
    found = training.finished_runs()
    assert {label: len(runs) for label, runs in found.items()} == dict.fromkeys(("TSN", "CT-Net"), len(seeds_of("2g")))
    assert {run["config"]["model"] for run in found["TSN"]} == {"tsn_r26_twin"}
