import json

import pytest
import torch
from study.experiments import ROWS
from study.published import published_table
from study.runner import run_file
from study.twins import SEEDS, TWINS, Run, TwinRow, runs_of, seeds_of, views_of, with_starts

import ctnet
from ctnet.engine import Recipe, View, get_recipe
from ctnet.micro import MICRO_DATASETS
from study import twins

TSN = Run(get_recipe("micro-something").override({"model": "tsn_r50_twin"}))


def run_of(table, row):
    (run,) = TWINS[table][row].runs
    return run


@pytest.mark.parametrize("table", sorted(TWINS.keys() - {"fig3", "zoo"}))
def test_every_trained_row_is_a_row_of_the_published_table(table):
    published = published_table(table)
    for row in TWINS[table]:
        name, slash, dataset = row.rpartition("/")
        assert (name if slash else row) in published.index
        if slash:
            assert any(dataset in column for column in published.columns)


def test_kept_runs_are_of_todays_clips():
    done = [run for run in runs_of().values() if run_file(run.name).exists()]
    assert done
    for run in done:
        recipe, kept = run.recipe, json.loads(run_file(run.name).read_text())["data"]
        for split, count in (("train", recipe.train_clips), ("val", recipe.val_clips)):
            drawn = MICRO_DATASETS[recipe.dataset].split(split, count, fold=recipe.fold, difficulty=recipe.difficulty)
            assert kept[split] == drawn.fingerprint[:16], run.name


@pytest.mark.parametrize("table", [table for table in TWINS if table in ROWS and table != "2h"])
def test_a_twin_is_its_rows_network_at_another_size(table):
    for row, twin in TWINS[table].items():
        networks = ROWS[table][row.partition("/")[0]].networks
        assert [run.recipe.model for run in twin.runs] == [f"{network.model}_twin" for network in networks]
        assert [twins.USUAL | run.recipe.options for run in twin.runs] == [twins.USUAL | n.options for n in networks]
        if table != "7":
            assert [run.recipe.frames for run in twin.runs] == [network.frames for network in networks]


def test_rows_differ_in_what_their_table_is_about_only():
    def without(row, *names):
        fields = run_of(*row).recipe.to_dict()
        return {name: value for name, value in fields.items() if name not in names}

    assert without(("2g", "ct-module-pwconv-se"), "options") == without(("2g", "ct-module"), "options")
    assert without(("6", "16"), "frames") == without(("6", "8"), "frames")
    assert without(("2h", "train-224-test-224"), "size") == without(("2h", "train-256-test-256"), "size")
    assert TWINS["2h"]["train-224-test-256"].runs == TWINS["2h"]["train-224-test-224"].runs
    assert [run.recipe.fold for run in TWINS["5"]["tsn/ucf101"].runs] == [1, 2, 3]
    assert [run.start.recipe.dataset for run in TWINS["5"]["tsn/ucf101"].runs] == ["MicroKinetics"] * 3


def test_equal_configurations_are_one_run():
    assert run_of("2g", "ct-module").name == run_of("2a", "ct-module").name
    assert run_of("6", "8").name == run_of("2g", "ct-module-pwconv-te").name == run_of("8", "ct-net-resnet-50").name
    assert len(runs_of(["2a"])) == 4 * 5 + 1
    assert len(runs_of(["2a", "2g"])) == 4 * 5 + 4 * 5 + 1
    assert len(runs_of(["6"], seeds=2)) == 2 * 4 + 1
    rows = sum(len(row.runs) * len(seeds_of(table)) for table, found in TWINS.items() for row in found.values())
    assert len(runs_of()) < 0.75 * rows


def test_the_zoo_has_every_method_on_a_resnet_and_shares_the_runs_of_table_3():
    assert TWINS["zoo"].keys() == {"tsn", "ctnet"} | {
        name.partition("_")[0] for name in ctnet.models.list_models("resnet")
    }
    for method, row in (("tsn", "tsn-8"), ("teinet", "teinet-8"), ("tea", "tea-8"), ("ctnet", "ct-net-8")):
        assert TWINS["zoo"][method] == TWINS["3"][row]
    assert {run.recipe.frames for row in TWINS["zoo"].values() for run in row.runs} == {8}


@pytest.mark.parametrize("row", TWINS["fig3"])
def test_a_pictured_twin_differs_from_a_measured_one_in_size_only_and_is_kept(row):
    pictured, measured = run_of("fig3", row), run_of(twins.LOCALISED[row], row)
    changes = {"dataset": "MicroSomething64", "size": 64, "short_side": 64}
    assert pictured.recipe == measured.recipe.override(changes)
    assert pictured.start == measured.start
    assert pictured.keep
    assert MICRO_DATASETS["MicroSomething64"].split("val").size == pictured.recipe.size


@pytest.mark.parametrize("method", TWINS["zoo"])
def test_every_twin_starts_from_a_network_whose_weights_fit(method):
    run = run_of("zoo", method)
    start, network = (ctnet.create_model(r.recipe.model, 24).state_dict() for r in (run.start, run))
    fitting = [name for name, value in start.items() if name in network and network[name].shape == value.shape]
    assert len(fitting) >= (0.85 if method == "ctnet" else 0.99) * len(start), "but for the convolutions it replaces"
    assert run.start.recipe.dataset == "MicroPictures"
    assert run.start.keep


def test_a_name_tells_network_dataset_and_seed():
    assert Run(TSN.recipe).name == TSN.name
    assert TSN.name.startswith("tsn_r50_twin-MicroSomething-0-")
    assert TSN.seeded(3).name.startswith("tsn_r50_twin-MicroSomething-3-")


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"precision": "fp32"}, True),
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
    assert (Run(TSN.recipe.override(changes)).name == TSN.name) == same


def test_a_name_changes_with_the_run_to_start_from_but_not_with_what_is_kept():
    assert Run(TSN.recipe, start=TSN).name not in (TSN.name, Run(TSN.recipe, start=TSN.seeded(1)).name)
    assert Run(TSN.recipe, keep=True).name == TSN.name


@pytest.mark.parametrize("run", [run_of("2a", "ct-module"), TWINS["5"]["ct-net/hmdb51"].runs[2]], ids=str)
def test_a_run_survives_as_plain_data(run):
    loaded = Run.load(json.loads(json.dumps(run.dump())))
    assert loaded == run
    assert loaded.name == run.name
    assert loaded.start.keep == run.start.keep


def test_all_seeds_start_from_the_same_kept_run():
    run = run_of("2a", "ct-module")
    assert run.start.keep
    assert run.seeded(2).start == run.start
    tuned = TWINS["5"]["ct-net/ucf101"].runs[0].seeded(2)
    assert (tuned.recipe.seed, tuned.start.recipe.seed, tuned.start.start.recipe.seed) == (2, 2, 0)


def test_runs_come_behind_those_that_they_start_from():
    names = list(runs_of())
    for run in runs_of().values():
        if run.start:
            assert names.index(run.start.name) < names.index(run.name)
    chain = with_starts(TWINS["5"]["tsn/ucf101"].runs[:1])
    assert [run.recipe.dataset for run in chain.values()] == ["MicroPictures", "MicroKinetics", "MicroUCF"]


def test_tables_have_their_own_numbers_of_seeds_unless_one_is_given():
    assert all(number != twins.FEWEST for number in SEEDS.values())
    for table, seeds in (("2a", 5), ("8", 3), ("fig3", 1)):
        assert {run.recipe.seed for run in runs_of([table]).values()} == set(range(seeds))
    assert {run.recipe.seed for run in runs_of(["2a"], seeds=2).values()} == {0, 1}


def test_a_table_without_twins_is_refused():
    with pytest.raises(ValueError, match="no twins are trained for 1, 4; there are some for 2a"):
        runs_of(["1", "2a", "4"])


def test_a_run_is_looked_at_with_the_views_of_all_its_tables():
    te = run_of("2g", "ct-module-pwconv-te")
    assert views_of(te) == ["1x1", "1x1@32", "1x2", "3x2"]
    assert views_of(te.seeded(7)) == views_of(te), "also with a seed that no table asks for"
    assert views_of(run_of("2h", "train-224-test-224")) == ["1x1", "1x1@28", "1x1@32"]
    assert views_of(TSN) == ["1x1"]
    for rows in TWINS.values():
        for row in rows.values():
            assert View.parse(row.view)
            assert all(row.view in views_of(run) for run in row.runs)


def test_fused_rows_have_several_networks():
    assert all(len(row.runs) > 1 for rows in TWINS.values() for row in rows.values() if row.fused)
    assert TWINS["6"]["8-12-16-24-x3x2"] == TwinRow(
        tuple(run_of("6", str(frames)) for frames in (8, 12, 16, 24)), "3x2", fused=True
    )


def test_every_recipe_is_complete():
    """A run needs no file that it does not make itself, and its configuration is the recipe's."""
    for run in runs_of(seeds=1).values():
        assert run.recipe.init == "none"
        config = run.config()
        rebuilt = Recipe(**{name: value for name, value in config.items() if name != "start"})
        assert rebuilt == Recipe().override({n: v for n, v in run.recipe.to_dict().items() if n not in twins.EXECUTION})
        assert config.get("start") == (run.start.name if run.start else None)


@pytest.mark.parametrize("option", twins.USUAL)
def test_what_is_usual_makes_no_other_network(option):
    def weights(**options):
        torch.manual_seed(0)
        return ctnet.create_model("ctnet_r50_twin", num_classes=3, **options).state_dict()

    plain, named = weights(), weights(**{option: twins.USUAL[option]})
    assert plain.keys() == named.keys()
    assert all(torch.equal(value, named[name]) for name, value in plain.items())


def test_the_plain_ct_module_of_all_ablations_is_one_run():
    rows = [("2a", "ct-module"), ("2b", "k2"), ("2c", "parallel"), ("2d", "c2-sqrt"), ("2e", "blocks-7")]
    rows += [("2f", "kernels-3-3"), ("2g", "ct-module")]
    assert len({twins.TWINS[table][row].runs[0].name for table, row in rows}) == 1
