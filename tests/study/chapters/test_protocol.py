"""The chapter on the protocol tells the recipe, the trials, the repeats and the runs that there are."""

import numpy as np
import pandas as pd
import pytest

from ctnet.engine import get_recipe
from study.chapters.protocol import (
    correlation_within,
    pilot_deviation,
    pilot_table,
    plot_take_offs,
    power_table,
    protocol_table,
    repeats_table,
    rules_table,
    runs_table,
    take_offs,
    trials_table,
)
from study.directions import directions
from study.runs import PROTOCOLS, outcome, run_file, runs_of, seeds_of, trained_tables, twins_of
from study.statistics import LEVEL
from study.store import decode, read


def test_the_recipes_are_told_field_by_field():
    told = protocol_table().data.set_index("Field")
    for number, name in PROTOCOLS.items():
        recipe = get_recipe(name).to_dict()
        for field in ("model", "dataset", "lr", "epochs", "optimizer"):
            assert told.loc[field, f"Protocol {number}"] == str(recipe[field])
    assert told.loc["start trained on", "Protocol 1"] == "MicroPictures"
    for later in ("Protocol 2", "Protocol 3"):
        assert told.loc["start trained on", later] == "MicroPictures"
    assert "head_lr" not in told.index


@pytest.mark.parametrize(
    ("chosen", "networks"),
    [
        ("protocol 1", {"CT-Net", "TSN"}),
        ("protocol 2", {"CT-Net"}),
        ("protocol 3", {"CT-Net"}),
        ("Table 5's fine-tuning", {"CT-Net", "TSN"}),
        ("Table 2e's deeper twins", {"CT-Net", "TSN"}),
    ],
)
def test_trials_are_all_told(own_results, chosen, networks):
    kept = read("tuning.json")[chosen]
    frame = trials_table(chosen).data
    assert len(frame) == len(kept["trials"]) > 0
    assert {told.partition(",")[0] for told in frame["Network, twin of"]} == networks
    (own_results / "tuning.json").unlink()
    assert trials_table(chosen).data.empty


@pytest.mark.parametrize("protocol", [2, 3])
def test_the_pilot_tells_how_far_seeds_lie_apart(monkeypatch, protocol):
    asked = PROTOCOLS[protocol]

    def right(twin):
        of_it = twin.row.id == "ct-net" and get_recipe(asked).momentum == twin.runs[0].recipe.momentum
        return {seed: np.arange(100) < 60 + 10 * seed for seed in range(3)} if of_it else {}

    monkeypatch.setattr("study.chapters.protocol.correct_by_seed", right)
    frame = pilot_table(protocol).data.set_index("Network")
    assert frame.loc["CT-Net"].tolist()[:3] == ["70.0", "10.0", "60.0 to 80.0"]
    assert frame.loc["TSN"].tolist()[:3] == ["not run yet", "–", "–"]
    assert pilot_deviation(protocol) == pytest.approx(10)


def test_what_the_plan_can_see_grows_with_the_difference_and_falls_with_scatter():
    steady, shaky = (power_table(deviation, studies=30).data for deviation in (0.5, 5.0))
    shares = [[float(text.rstrip("%")) for text in frame["supported"]] for frame in (steady, shaky)]
    assert shares[0][0] < 10
    assert shares[0][-1] == 100 > shares[1][-1]
    again = power_table(5.0, studies=30, later=12)
    assert float(again.data["supported"].iloc[-1].rstrip("%")) > shares[1][-1]
    assert again.caption.endswith("and 12 seeds for all that 6 leave open.")


def test_without_a_pilot_no_plan_is_made(results):
    assert np.isnan(pilot_deviation(3))
    shown = power_table(pilot_deviation(3))
    assert shown.data.empty
    assert shown.caption.endswith("not run yet.")


def test_rows_are_counted_once_however_many_columns_their_twins_have():
    frame = runs_table().data.set_index("Table")
    assert frame.loc[["5", "7"], "Rows"].tolist() == ["2", "4"]


def test_runs_that_learn_early_end_high():
    runs = take_offs()
    assert correlation_within(runs) < -0.6
    shown = plot_take_offs(runs).axes[0].collections
    assert sum(len(points.get_offsets()) for points in shown) == len(runs)


def test_the_correlation_is_of_what_seeds_differ_by():
    """Two networks whose seeds all say "the more loss, the less", far apart the other way round."""
    runs = pd.DataFrame({"network": list("aaabbb"), "early": [1.0, 2, 3, 11, 12, 13], "top1": [3.0, 2, 1, 53, 52, 51]})
    assert correlation_within(runs) == pytest.approx(-1)


def test_repeats_are_those_that_the_runs_tell(own_results, edited):
    before = len(repeats_table().data)
    run = twins_of("2g")["ct-module", "top1"].runs[0]
    name, *rest = (run.seeded(seed).name for seed in reversed(seeds_of("2g")))
    with edited(run_file(name)) as content:
        made, top1 = content["provenance"], content["metrics"]["1x1"]["top1"]
        content["repeated"] = [{"equal_predictions": 0.9876, "top1": top1 - 0.01, "provenance": made}]
    frame = repeats_table().data
    assert len(frame) == before + 1
    (line,) = frame[frame["Run"] == name].to_numpy().tolist()
    assert line[1:3] + line[4:] == ["same kind of machine", "98.76%", "-1.00"]
    own, *others = (decode(outcome(each)["predictions"]["1x1"]) for each in (name, *rest))
    assert line[3] == f"{np.mean([own == other for other in others]):.2%}"
    with edited(run_file(name)) as content:
        made |= {"hardware": {"cpu": "Another", "system": "Linux"}, "device": "cuda"}
        content["repeated"].insert(0, {"equal_predictions": 0.5, "top1": 0.9, "provenance": made})
    frame = repeats_table().data
    assert frame[frame["Run"] == name]["Again"].tolist() == ["same kind of machine", "Another, cuda"]
    assert frame["Again"].ne("same kind of machine").is_monotonic_increasing, "those come first"


def test_what_the_chapter_says_of_repeats_holds():
    frame = repeats_table().data.set_index("Again")
    shares = frame[["Equal predictions", "With another seed"]].map(lambda text: float(text.rstrip("%")))
    apart = frame["Difference in top-1, points"].astype(float)
    same = frame.index.isin(["same kind of machine", "kernels for AVX2", "kernels not told"])
    assert frame.index.value_counts()[["kernels for AVX2", "kernels not told"]].tolist() == [2, 12]
    assert (shares[same]["Equal predictions"] == 100).all()  # the same bits
    assert set(frame.index[~same]) == {"kernels for SSE4.1", "AMD EPYC, cpu, AVX-512"}
    assert (shares[~same]["Equal predictions"] < 95).all()  # another network
    assert (shares[~same]["Equal predictions"] > shares[~same]["With another seed"]).all()  # agrees more often
    assert 1.2 < apart[~same].max() < 1.3
    assert apart[~same].min() > 0
    tsn = twins_of("2g")["baseline-tsn", "top1"].runs[0]
    seeds = [100 * outcome(tsn.seeded(seed).name)["metrics"]["1x1"]["top1"] for seed in seeds_of("2g")]
    assert len(seeds) == 6
    assert max(seeds) - min(seeds) < 0.5 < apart[(frame["Run"] == tsn.name).to_numpy() & ~same].item()
    assert apart[~same].size == 6
    made = [found["provenance"]["hardware"] for name in runs_of() if (found := outcome(name))]
    assert {hardware.get("vectors", "AVX2") for hardware in made} == {"AVX2"}, "of one kind"


def test_the_table_of_runs_counts_files(own_results):
    frame = runs_table().data.set_index("Table")
    assert list(frame.index) == [*trained_tables(), "all, once each"]
    done = sum(outcome(name) is not None for name in runs_of())
    assert frame.loc["all, once each"].tolist()[3:5] == [str(len(runs_of())), str(done)]
    assert frame.loc["2g"].tolist()[1:4] == [
        str(len(twins_of("2g"))),
        "6; 12 of some rows",
        str(len(runs_of(["2g"]))),
    ]
    (own_results / run_file(next(iter(runs_of(["2g"], seeds=1))))).unlink()
    frame = runs_table().data.set_index("Table")
    assert frame.loc["all, once each", "Done"] == str(done - 1)
    assert frame.loc["2g", "Minutes for one seed"] == "–"


def test_rules_differ_in_what_they_ask():
    tested = directions()
    shown = rules_table(tested)
    frame = shown.data.set_index("Rule").astype(int)
    assert (frame.sum(axis=1) == sum(direction.is_complete for direction in tested)).all()
    here, without, at_once, narrow, wide = (frame.loc[rule] for rule in frame.index)
    for verdict in frame.columns:
        assert here[verdict] == sum(direction.verdict == verdict for direction in tested)
    decided = ["supported", "contradicted"]
    assert at_once[decided].sum() <= here[decided].sum() <= without[decided].sum()
    assert narrow["equivalent"] <= here["equivalent"] <= wide["equivalent"]
    note, looks = shown.notes
    assert "no second look" in looks
    alike = [d for d in tested if d.verdict == "equivalent" and d.found.is_within(1, LEVEL / d.look)]
    assert note.startswith("Equivalent by a margin of 1 point: ")
    assert note.count(";") + 1 == narrow["equivalent"] == len(alike)
    assert all(direction.label in note for direction in alike)
