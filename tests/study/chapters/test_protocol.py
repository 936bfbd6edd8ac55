"""The chapter on the protocol tells the recipe, the trials, the repeats and the runs that there are."""

from ctnet.engine import get_recipe
from study.chapters.protocol import protocol_table, repeats_table, runs_table, trials_table
from study.runs import PROTOCOL, outcome, run_file, runs_of, seeds_of, trained_tables, twins_of
from study.store import read


def test_the_recipe_is_told_field_by_field_but_for_the_network():
    told = dict(zip(*protocol_table().data.to_numpy().T, strict=True))
    recipe = get_recipe(PROTOCOL).to_dict()
    assert {name: told[name] for name in ("dataset", "lr", "epochs")} == {
        name: str(recipe[name]) for name in ("dataset", "lr", "epochs")
    }
    assert told["starts from"].startswith("tsn_r50_twin-MicroPictures-0-")
    assert "model" not in told


def test_trials_are_all_told(own_results):
    kept = read("tuning.json")
    frame = trials_table().data
    assert len(frame) == len(kept["trials"]) > 0
    assert set(frame["Network"]) == {"CT-Net", "TSN"}
    (own_results / "tuning.json").unlink()
    assert trials_table().data.empty


def test_repeats_are_those_that_the_runs_tell(own_results, edited):
    before = len(repeats_table().data)
    name = next(name for name in runs_of(["2g"]) if "repeated" not in outcome(name))
    with edited(run_file(name)) as content:
        content["repeated"] = {"equal_predictions": 0.9876, "top1": content["metrics"]["1x1"]["top1"] - 0.01}
    frame = repeats_table().data
    assert len(frame) == before + 1
    (line,) = frame[frame["Run"] == name].to_numpy().tolist()
    assert line[1:] == ["98.76%", "-1.00"]


def test_the_table_of_runs_counts_files(own_results):
    frame = runs_table().data.set_index("Table")
    assert list(frame.index) == [*trained_tables(), "all, once each"]
    done = sum(outcome(name) is not None for name in runs_of())
    assert frame.loc["all, once each"].tolist()[2:4] == [str(len(runs_of())), str(done)]
    assert frame.loc["2g"].tolist()[:3] == [
        str(len(twins_of("2g"))),
        str(len(seeds_of("2g"))),
        str(len(runs_of(["2g"]))),
    ]
    (own_results / run_file(next(iter(runs_of(["2g"], seeds=1))))).unlink()
    frame = runs_table().data.set_index("Table")
    assert frame.loc["all, once each", "Done"] == str(done - 1)
    assert frame.loc["2g", "Minutes for one seed"] == "–"
