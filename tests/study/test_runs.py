"""Twins follow from the rows of the paper, equal ones are trained once, and their outcomes are read as they are."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

import ctnet
from ctnet.engine import Recipe, View, get_recipe
from ctnet.engine.recipe import EXECUTION
from ctnet.micro import MICRO_DATASETS
from study.paper import DATASET_NAMES, FILES, Network, table
from study.runs import (
    PROTOCOLS,
    TRIALS,
    USUAL,
    TwinRun,
    accuracy_table,
    all_seeds_of,
    all_twins,
    correct,
    correct_by_seed,
    ensembles,
    labels_of,
    outcome,
    paired,
    protocol_of,
    run_file,
    runs_of,
    seeds_of,
    trained_tables,
    twin_run,
    twins_of,
    unused,
    views_of,
    weights_file,
    with_starts,
)
from study.store import decode, encode

TSN = TwinRun(get_recipe(PROTOCOLS[1]).override({"model": "tsn_r50_twin"}))


def twin_of(name, row, column=None):
    (twin,) = (twin for (found, of), twin in twins_of(name).items() if found == row and column in (None, of))
    return twin


def run_of(name, row, column=None):
    (run,) = twin_of(name, row, column).runs
    return run


def test_every_kept_run_is_asked_for_by_some_table(own_results):
    assert unused() == []
    name = run_of("2g", "ct-module").name
    other = own_results / run_file(name).replace("-0-", "-77-")
    other.write_text((own_results / run_file(name)).read_text())
    assert unused() == [other.stem]


# -- What is trained ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
def test_twins_are_of_the_rows_and_columns_that_declare_them(name):
    declared = table(name)
    rows = [row for row, about in declared.rows.items() if about.twin is not None]
    assert list(twins_of(name)) == [(row, column) for column in declared.twins for row in rows]
    assert all(twin.row is declared.rows[row] for (row, _), twin in twins_of(name).items())
    assert (name in trained_tables()) == (bool(twins_of(name)) and name != TRIALS)
    assert all((twin.row.id, twin.column) in twins_of(twin.row.table) for twin in all_twins())


def test_kept_runs_are_of_todays_clips():
    done = {name: kept for name in runs_of() if (kept := outcome(name))}
    assert done
    for name, content in done.items():
        recipe, kept = runs_of()[name].recipe, content["data"]
        for split, count in (("train", recipe.train_clips), ("val", recipe.val_clips)):
            drawn = MICRO_DATASETS[recipe.dataset].split(split, count, fold=recipe.fold, difficulty=recipe.difficulty)
            assert kept[split] == drawn.fingerprint[:16], name


def test_kept_accuracies_are_those_of_the_kept_predictions():
    """One rule for ties: what a file says a run got is what verdicts count."""
    for name, run in runs_of().items():
        for view, text in (outcome(name) or {"predictions": {}})["predictions"].items():
            right = (decode(text) == labels_of(run)).mean()
            assert outcome(name)["metrics"][view] == {"top1": pytest.approx(right)}, name


@pytest.mark.parametrize("name", [name for name in trained_tables() if name != "5"])
def test_a_twin_is_its_rows_network_at_another_size(name):
    shallower = protocol_of(name) > 1 and not name.startswith("2e")  # which replaces more blocks than ResNet-26 has
    for twin in twins_of(name).values():
        networks = twin.row.networks
        models = [f"{network.model}_twin" for network in networks]
        assert [run.recipe.model for run in twin.runs] == [
            model.replace("_r50_", "_r26_") if shallower else model for model in models
        ]
        finer = {"last_stride": 1} if name == "fig3" else {}
        assert [USUAL | run.recipe.options for run in twin.runs] == [USUAL | n.options | finer for n in networks]
        assert [run.recipe.frames for run in twin.runs] == [network.frames for network in networks]


@pytest.mark.parametrize(
    ("dataset", "micro"),
    [("mini-kinetics", "MicroKinetics"), ("ucf101", "MicroUCF"), ("hmdb51", "MicroHMDB"), ("somethingv2", None)],
)
def test_a_twin_is_trained_on_the_stand_in_for_its_columns_dataset(dataset, micro):
    assert dataset in DATASET_NAMES
    found = [
        twin
        for twin in all_twins()
        if twin.column in (accuracies := table(twin.row.table).accuracies)
        and accuracies[twin.column].dataset == dataset
    ]
    assert found
    assert {run.recipe.dataset for twin in found for run in twin.runs} == {micro or get_recipe(PROTOCOLS[1]).dataset}


def test_rows_differ_in_what_their_table_is_about_only():
    def without(row, *names):
        fields = run_of(*row).recipe.to_dict()
        return {name: value for name, value in fields.items() if name not in names}

    assert without(("2g", "ct-module-pwconv-se"), "options") == without(("2g", "ct-module"), "options")
    assert without(("6", "16"), "frames") == without(("6", "8"), "frames")
    assert without(("2h", "train-224-test-224"), "size") == without(("2h", "train-256-test-256"), "size")
    assert twin_of("2h", "train-224-test-256").runs == twin_of("2h", "train-224-test-224").runs
    folds = twin_of("5", "tsn", "ucf101").runs
    assert [run.recipe.fold for run in folds] == [1, 2, 3]
    assert [run.start.recipe.dataset for run in folds] == ["MicroKinetics"] * 3


def test_a_table_follows_one_protocol_which_names_backbone_recipe_and_start():
    by_protocol = {
        1: ("2g-sgd", "fig3-pictured", "zoo"),
        3: ("2a", "2b", "2c", "2d", "2e", "2f", "2g", "2h", "3", "5", "6", "7", "8", "fig3", TRIALS),
    }
    for protocol, names in by_protocol.items():
        assert {protocol_of(name) for name in names} == {protocol}
    first, second = run_of("2g-sgd", "ct-module"), run_of("2g", "ct-module")
    assert (first.recipe.model, second.recipe.model) == ("ctnet_r50_twin", "ctnet_r26_twin")
    assert run_of("2e", "blocks-7").recipe == replace(second.recipe, model="ctnet_r50_twin")
    assert (first.recipe.optimizer, second.recipe.optimizer) == ("sgd", "muon")
    assert second.start.recipe.model == "tsn_r26_twin"
    assert second.recipe.precision == second.config()["precision"] == "fp32"


def test_equal_configurations_are_one_run():
    assert run_of("2d", "c2-sqrt").name == run_of("2a", "ct-module").name == run_of("2f", "kernels-3-3").name
    assert run_of("zoo", "ctnet").name == run_of("2g-sgd", "ct-module-pwconv-te").name
    assert run_of("8", "ct-net-resnet-50").name == run_of("3", "ct-net-8").name
    assert run_of("6", "8").name == run_of("3", "ct-net-8").name
    assert run_of("6", "16").name == run_of("3", "ct-net-16").name
    assert run_of("2h", "train-256-test-256").name == run_of(TRIALS, "ct-net", "protocol_3").name
    assert run_of("2g", "ct-module-pwconv-te").name == run_of(TRIALS, "ct-net", "protocol_3").name
    assert run_of("3", "ct-net-8").name == run_of("2g", "ct-module-pwconv-te").name
    assert run_of("2g", "ct-module").name == run_of("2c", "parallel").name == run_of("2b", "k2").name
    assert len(runs_of(["2d"])) == 4 * 6 + 1
    assert len(runs_of(["2g-sgd"])) == 5 * 5 + 1
    assert len(runs_of(["6"], seeds=2)) == 2 * 4 + 1
    assert len(runs_of(["5"])) == 2 * 6 * (2 * 3 + 1) + 1, (
        "fine-tuning shares nothing but the start of a network's folds"
    )
    others = [name for name in trained_tables() if name != "5"]
    asked = [
        run.seeded(seed)
        for name in others
        for twin in twins_of(name).values()
        for run in twin.runs
        for seed in all_seeds_of(twin)
    ]
    distinct = {json.dumps(run.config(), sort_keys=True) for run in with_starts(asked).values()}
    assert len(runs_of(others)) == len(distinct) < len(asked)


def test_the_zoo_has_every_method_on_a_resnet_and_shares_the_runs_of_table_2g_by_its_protocol():
    on_resnets = {name.removesuffix("_r26_twin") for name in ctnet.list_models() if name.endswith("_r26_twin")}
    assert table("zoo").rows.keys() == on_resnets - {"c3d", "csn", "r2plus1d"}  # modules that the paper compares
    for method, row in (("tsn", "baseline-tsn"), ("ctnet", "ct-module-pwconv-te")):
        assert twin_of("zoo", method).runs == twin_of("2g-sgd", row).runs
    assert {run.recipe.frames for twin in twins_of("zoo").values() for run in twin.runs} == {8}


@pytest.mark.parametrize("row", table("fig3").rows)
def test_a_pictured_twin_differs_from_those_of_protocol_1_in_size_only_and_is_kept(row):
    pictured, usual = run_of("fig3-pictured", row), twin_run(table("fig3").rows[row].networks[0])
    changes = {"dataset": "MicroSomething64", "size": 64, "short_side": 64}
    assert pictured.recipe == usual.recipe.override(changes)
    assert pictured.start == usual.start
    assert pictured.keep
    assert MICRO_DATASETS["MicroSomething64"].split("val").size == pictured.recipe.size


@pytest.mark.parametrize("method", table("zoo").rows)
def test_every_twin_starts_from_a_network_whose_weights_fit(method):
    run = run_of("zoo", method)
    start, network = (ctnet.create_model(r.recipe.model, 24).state_dict() for r in (run.start, run))
    fitting = [name for name, value in start.items() if name in network and network[name].shape == value.shape]
    assert len(fitting) >= (0.85 if method == "ctnet" else 0.99) * len(start), "but for the convolutions it replaces"
    assert run.start.recipe.dataset == "MicroPictures"
    assert run.start.keep


def test_a_name_tells_network_dataset_and_seed():
    assert TwinRun(TSN.recipe).name == TSN.name
    assert TSN.name.startswith("tsn_r50_twin-MicroSomething-0-")
    assert TSN.seeded(3).name.startswith("tsn_r50_twin-MicroSomething-3-")


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"precision": "fp32"}, False),
        ({"workers": 3}, True),
        ({"root": "/data"}, True),
        ({"save_every": 1}, True),
        ({"options": {}}, True),
        ({"seed": 1}, False),
        ({"lr": 0.01}, False),
        ({"options": {"blocks": 4}}, False),
        ({"fold": 2}, False),
        ({"train_clips": 8000}, False),
    ],
    ids=str,
)
def test_a_name_changes_with_what_decides_the_outcome_and_nothing_else(changes, same):
    assert (TwinRun(TSN.recipe.override(changes)).name == TSN.name) == same


def test_a_name_changes_with_the_run_to_start_from_but_not_with_what_is_kept():
    assert TwinRun(TSN.recipe, start=TSN).name not in (TSN.name, TwinRun(TSN.recipe, start=TSN.seeded(1)).name)
    assert TwinRun(TSN.recipe, keep=True).name == TSN.name


@pytest.mark.parametrize("run", [run_of("2a", "ct-module"), twin_of("5", "ct-net", "hmdb51").runs[2]], ids=str)
def test_a_run_survives_as_plain_data(run):
    loaded = TwinRun.load(json.loads(json.dumps(run.dump())))
    assert loaded == run
    assert loaded.name == run.name
    assert loaded.start.keep == run.start.keep


def test_all_seeds_start_from_the_same_kept_run():
    run = run_of("2a", "ct-module")
    assert run.start.keep
    assert run.seeded(2).start == run.start
    tuned = twin_of("5", "ct-net", "ucf101").runs[0].seeded(2)
    assert (tuned.recipe.seed, tuned.start.recipe.seed, tuned.start.start.recipe.seed) == (2, 2, 0)


def test_runs_come_behind_those_that_they_start_from():
    names = list(runs_of())
    for run in runs_of().values():
        if run.start:
            assert names.index(run.start.name) < names.index(run.name)
    chain = with_starts(twin_of("5", "tsn", "ucf101").runs[:1])
    assert [run.recipe.dataset for run in chain.values()] == ["MicroPictures", "MicroKinetics", "MicroUCF"]


def test_tables_that_decide_most_come_first_and_all_rows_before_the_next_seed():
    first, second, every = (list(runs_of(tables)) for tables in (["2g"], ["2g", "3"], None))
    assert every[: len(first)] == first
    assert every[: len(second)] == second
    seeds = [run.recipe.seed for run in runs_of(["2d"]).values() if run.start]
    assert seeds == sorted(seeds)
    assert set(seeds) == set(range(6))


def test_tables_have_their_own_numbers_of_seeds_unless_one_is_given():
    for name, seeds in (("2d", 6), ("8", 3), ("fig3-pictured", 1)):
        assert seeds_of(name) == range(seeds)
        assert {run.recipe.seed for run in runs_of([name]).values()} == set(range(seeds))
    assert {run.recipe.seed for run in runs_of(["2a"], seeds=2).values()} == {0, 1}


def test_only_the_rows_of_a_second_look_have_more_seeds():
    """Table 2g's second order; what all rows start from has one seed."""
    assert seeds_of("2g") == range(6)
    assert {twin.row.id for twin in twins_of("2g").values() if all_seeds_of(twin) == range(12)} == {
        "ct-module-pwconv",
        "ct-module",
    }
    assert len(runs_of(["2g"])) == 2 * 12 + 3 * 6 + 1
    assert len(runs_of(["2g"], seeds=8)) == 2 * 8 + 3 * 6 + 1
    assert len(runs_of(["2g"], seeds=6)) == 5 * 6 + 1


def test_a_table_without_twins_is_refused():
    with pytest.raises(ValueError, match="no twins are trained for 1, 4; there are some for 2a"):
        runs_of(["1", "2a", "4"])


def test_a_run_is_looked_at_with_the_views_of_all_its_tables():
    te = run_of("2g", "ct-module-pwconv-te")
    assert views_of(te) == ["1x1", "1x2", "3x2"]
    assert views_of(te.seeded(7)) == views_of(te), "also with a seed that no table asks for"
    assert views_of(run_of("2h", "train-224-test-224")) == ["1x1", "1x1@32"]
    assert views_of(TSN) == ["1x1"]
    for twin in all_twins():
        assert View.parse(twin.view)
        assert all(twin.view in views_of(run) for run in twin.runs)


def test_rows_of_several_networks_are_fused_and_folds_are_not():
    ensemble, folds = twin_of("6", "8-12-16-24-x1x1"), twin_of("5", "tsn", "ucf101")
    assert ensemble.runs == tuple(run_of("6", str(frames)) for frames in (8, 12, 16, 24))
    assert (ensemble.view, ensemble.fused, folds.fused) == ("1x1", True, False)
    assert ensemble.names(1) == [ensemble.ensemble(1)]
    assert folds.names(1) == [run.seeded(1).name for run in folds.runs]
    assert ensembles()[ensemble.ensemble(1)] == (ensemble, 1)
    assert Counter(twin.row.table for twin, _ in ensembles().values()) == {"6": 2 * 6}


def test_every_recipe_is_complete():
    """A run needs no file that it does not make itself, and its configuration is the recipe's."""
    for run in runs_of(seeds=1).values():
        assert run.recipe.init == "none"
        config = run.config()
        rebuilt = Recipe(**{name: value for name, value in config.items() if name != "start"})
        decides = {n: v for n, v in run.recipe.to_dict().items() if n not in EXECUTION - {"precision"}}
        assert rebuilt == Recipe().override(decides)
        assert config.get("start") == (run.start.name if run.start else None)


@pytest.mark.parametrize("option", USUAL)
def test_what_is_usual_makes_no_other_network(option):
    def weights(**options):
        torch.manual_seed(0)
        return ctnet.create_model("ctnet_r50_twin", num_classes=3, **options).state_dict()

    plain, named = weights(), weights(**{option: USUAL[option]})
    assert plain.keys() == named.keys()
    assert all(torch.equal(value, named[name]) for name, value in plain.items())


def test_the_plain_ct_module_of_all_ablations_is_one_run():
    rows_of_3 = [("2a", "ct-module"), ("2b", "k2"), ("2c", "parallel"), ("2f", "kernels-3-3"), ("2g", "ct-module")]
    assert len({run_of(name, row).name for name, row in rows_of_3}) == 1


def test_a_protocol_is_what_twins_have_in_common():
    run = twin_run(Network("tsn_r50"))
    assert run.name == run_of("2g-sgd", "baseline-tsn").name
    changed = twin_run(Network("tsn_r50"), {"recipe": PROTOCOLS[2], "lr": 0.5, "keep": True, "start": {"lr": 0.1}})
    assert changed.recipe == get_recipe(PROTOCOLS[2]).override(
        {"model": "tsn_r26_twin", "options": {}, "frames": 8, "init": "none", "lr": 0.5}
    )
    assert changed.keep
    assert (changed.start.recipe, changed.start.start) == (run.recipe.override({"lr": 0.1}), run.start)


def test_a_protocol_may_name_another_twin_of_resnet_50_than_its_recipes():
    deep = {"recipe": PROTOCOLS[3], "backbone": "r50_twin"}
    run = twin_run(Network("ctnet_r50", {"blocks": 12}), deep)
    assert (run.recipe.model, run.recipe.options) == ("ctnet_r50_twin", {"blocks": 12})
    assert run.start.recipe.model == "tsn_r50_twin"
    assert twin_run(Network("ctnet_r26"), deep).recipe.model == "ctnet_r26_twin"
    assert run.recipe == get_recipe(PROTOCOLS[3]).override(
        {"model": "ctnet_r50_twin", "options": {"blocks": 12}, "frames": 8, "init": "none"}
    )


def test_weights_are_kept_among_the_results_or_lie_among_the_work(tmp_path, own_results):
    run = run_of("2g", "baseline-tsn")
    assert weights_file(run, tmp_path) == tmp_path / run.name / "model.safetensors"
    assert weights_file(run.start, tmp_path) == own_results / "checkpoints" / f"{run.start.name}.safetensors"


def test_a_table_that_declares_twins_has_runs(own_results, edited):
    """One word for the table and one for a row; what they are trained like is the protocol."""
    before = runs_of()
    with edited("published/table_4.json") as content:
        content |= {"seeds": 2, "twins": {"top1": {"epochs": 3, "lr": 0.5}}}
        (row,) = (row for row in content["rows"] if row["id"] == "ct-net-r50-16x3x4")
        row["twin"] = {"train_clips": 64, "lr": 0.25}
    (run,) = twin_of("4", "ct-net-r50-16x3x4").runs
    assert twin_of("4", "ct-net-r50-16x3x4").view == "3x4"
    assert (run.recipe.epochs, run.recipe.train_clips, run.recipe.frames) == (3, 64, 16)
    assert run.recipe.lr == 0.25, "the row's own word goes before its table's"
    assert list(runs_of(["4"])) == [run.start.name, run.name, run.seeded(1).name]
    assert runs_of().keys() - before.keys() == {run.name, run.seeded(1).name}
    assert views_of(run) == ["1x1", "3x4"]


# -- What runs have left -----------------------------------------------------------------------------------------------


def test_folds_and_ensembles(results):
    results("5", "ct-net", 0.8, column="ucf101")
    results("6", "8-16", 0.7)
    folds = twin_of("5", "ct-net", "ucf101")
    assert correct(folds, 0).mean() == pytest.approx(0.8, abs=0.01)
    assert len(correct(folds, 0)) == 3 * 480
    assert correct(twin_of("6", "8-16"), 1).mean() == pytest.approx(0.7, abs=0.01)
    assert correct(twin_of("6", "16"), 0) is None
    assert correct(twin_of("5", "ct-net", "hmdb51"), 0) is None


def test_runs_are_paired_by_the_seeds_that_all_have(results):
    results("2b", "k1", 0.6, seeds=[0, 1, 2])
    results("2b", "k2", 0.6, seeds=[1, 2, 3])
    twins = [twin_of("2b", "k1"), twin_of("2b", "k2")]
    first, second = paired(twins)
    assert list(correct_by_seed(twins[1])) == [1, 2, 3]
    assert first.shape == second.shape == (2, len(labels_of(twins[0].runs[0])))
    assert np.array_equal(first[0], correct(twins[0], 1))
    assert paired([*twins, twin_of("2b", "k3")]) is None


def test_accuracies_have_an_interval_from_two_seeds_on(results):
    for row, accuracy, seeds in (("c3d-module", 0.5, [0]), ("r-2-1-d-module", 0.6, [0, 1]), ("ct-module", 0.7, None)):
        results("2a", row, accuracy, seeds=seeds)
    found = accuracy_table("2a")
    assert list(found.index) == list(table("2a").rows)
    assert found["seeds"].tolist() == [1, 2, 0, 6]
    assert found["accuracy"].tolist() == pytest.approx([50, 60, float("nan"), 70], abs=0.1, nan_ok=True)
    assert found["low"].notna().tolist() == found["high"].notna().tolist() == [False, True, False, True]
    assert found.loc["ct-module", "low"] < 70 < found.loc["ct-module", "high"]


def test_predictions_of_other_clips_are_refused(results, edited):
    results("2b", "k1", 0.6)
    run = run_of("2b", "k1").seeded(1)
    with edited(run_file(run.name)) as content:
        content["predictions"] = {"1x1": encode(labels_of(run)[:100])}
    with pytest.raises(ValueError, match=f"{run.name}: predictions of other clips"):
        correct(twin_of("2b", "k1"), 1)


@pytest.mark.parametrize("part", ["predictions", "provenance"])
def test_an_outcome_that_lacks_a_part_is_damaged(own_results, edited, part):
    name = run_of("2b", "k1").name
    assert outcome(name)["data"]
    with edited(run_file(name)) as content:
        del content[part]
    with pytest.raises(ValueError, match=rf"{name}\.json is damaged"):
        outcome(name)
    (own_results / run_file(name)).unlink()
    assert outcome(name) is None


@pytest.mark.parametrize(("accuracy", "ends"), [(0.99, [100, 100]), (0.01, [0, 0]), (0.5, None)])
def test_intervals_of_accuracies_stay_between_0_and_100(accuracy, ends, results):
    results("2a", "ct-module", accuracy, spread=0.02)
    line = accuracy_table("2a").loc["ct-module"]
    assert 0 <= line["low"] < line["accuracy"] < line["high"] <= 100
    if ends:
        assert ends[0] in (line["low"], line["high"])


def test_seeds_that_no_verdict_reads_are_not_trained():
    for name, seeds in (("2d", 6), ("2g", 12)):
        assert len(runs_of([name], seeds)) == len(runs_of([name]))
        with pytest.raises(
            ValueError, match=f"more than {seeds} seeds of these tables, and {seeds + 1} were asked for"
        ):
            runs_of([name], seeds + 1)
