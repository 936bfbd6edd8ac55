"""The paper as data: all of its numbers are there, and what is declared of a row is complete and fits together."""

import json

import pytest

import ctnet
from ctnet.engine import View
from ctnet.models import list_models
from study.paper import (
    DATASET_NAMES,
    FILES,
    TABLES,
    Network,
    all_rows,
    half_a_digit,
    table,
    text_claims,
    training_settings,
)
from study.saliency import MEASURES
from study.store import results_dir

NETWORK = {"model": "tsn_r50"}


def printed_numbers(name):
    declared = table(name)
    measured = [column for column, about in declared.columns.items() if about.unit]
    return [
        value for row in declared.rows.values() for column in measured if (value := row.printed[column]) is not None
    ]


# -- What is printed ---------------------------------------------------------------------------------------------------


def test_all_the_papers_numbers_are_there():
    """417 numbers: every cost, parameter count and accuracy of Tables 2 to 8, besides the views of Table 4."""
    views = [row.printed["views"] for row in all_rows("4")]
    assert sum(len(printed_numbers(name)) for name in TABLES) - sum(value is not None for value in views) == 417
    assert all(isinstance(value, int | float) for name in TABLES for value in printed_numbers(name))


@pytest.mark.parametrize("name", TABLES)
def test_every_number_has_a_unit_and_every_accuracy_a_dataset(name):
    declared = table(name)
    assert declared.id == name
    assert declared.title
    for column, about in declared.columns.items():
        assert about.heading
        assert (about.unit == "percent") == (about.dataset is not None)
        assert about.dataset is None or about.dataset in DATASET_NAMES
        if about.unit is None:
            assert not any(isinstance(row.printed[column], float) for row in declared.rows.values())
    assert list(declared.accuracies) == [column for column, about in declared.columns.items() if about.dataset]


@pytest.mark.parametrize("name", TABLES)
def test_accuracies_are_percentages_and_top5_exceeds_top1(name):
    declared = table(name)
    for row in declared.rows.values():
        for column, about in declared.accuracies.items():
            value = row.printed[column]
            assert value is None or 0 < value < 100
            others = [c for c, other in declared.accuracies.items() if other.dataset == about.dataset and other.k == 5]
            if about.k == 1 and others and value is not None:
                assert row.printed[others[0]] is None or value < row.printed[others[0]]


def test_printed_digits_survive():
    text = (results_dir() / "published" / "table_2e.json").read_text()
    assert '"gflops": 43.0' in text
    assert isinstance(table("2e").printed.loc["blocks-0", "gflops"], float)
    assert isinstance(table("6").printed.loc["8", "gflops"], int)
    assert half_a_digit(table("2e").rows["blocks-0"].printed["gflops"]) == 0.05
    assert half_a_digit(table("6").rows["8"].printed["gflops"]) == 0.5


def test_nothing_printed_is_none():
    assert table("2c").printed["gflops"].tolist() == [None, None, None]


def test_files_are_plain_json_with_a_row_on_each_line():
    for name in FILES.values():
        text = (results_dir() / "published" / f"{name}.json").read_text()
        rows = json.loads(text)["rows"]
        assert sum(line.lstrip().startswith('{"id"') for line in text.splitlines()) == len(rows)


@pytest.mark.parametrize(
    ("name", "row_id", "label"),
    [
        ("3", "ct-net-8x3x2", "CT-Net, 2D R50, 8x3x2"),
        ("2b", "k2", "K = 2"),
        ("2d", "c2-sqrt", "C₂ = sqrt(C)"),
        ("2e", "blocks-12", "blocks = 12"),
        ("2f", "kernels-3-5", "kernels = 3 and 5"),
        ("6", "12", "12 frames"),
        ("4", "x3d-xl-16x3x10", "X3D-XL, 16x3x10"),
        ("5", "ct-net", "CT-Net, 2D R50"),
        ("fig3", "csn-module", "CSN"),
    ],
)
def test_rows_are_labelled_in_the_tables_own_words(name, row_id, label):
    assert table(name).rows[row_id].label == label


def test_text_claims_and_settings_say_where_they_stand():
    assert all(claim["where"] and claim["claim"] and claim["decided_by"] for claim in text_claims())
    assert all(told["setting"] and told.keys() >= {"something", "kinetics"} for told in training_settings())


# -- What is declared of a row -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", list(all_rows(*FILES)), ids=lambda row: f"{row.table}-{row.id}")
def test_what_is_declared_of_a_row_fits_together(row):
    declared = table(row.table)
    assert not (row.networks and row.not_measured), "a reason is given only where nothing stands for the row"
    assert row.networks or not (row.inferred or row.unreadable or row.other_figure)
    assert {network.model for network in row.networks} <= set(list_models())
    view = View.parse(row.view)
    assert (row.views, str(view)) == (view.crops * view.clips, row.view)
    assert set(row.unreadable) <= {column for column, about in declared.columns.items() if about.unit}
    assert not row.unreadable or row.note
    assert row.other_figure is None or row.printed["gflops"] is not None
    if row.twin is not None:
        assert declared.twins
        assert declared.seeds
        assert row.networks or row.twin["model"] in list_models()


@pytest.mark.parametrize("name", [name for name in TABLES if name[0] in "268"])
def test_every_row_of_the_papers_own_comparisons_has_a_network(name):
    assert all(row.networks for row in table(name).rows.values())


@pytest.mark.parametrize("row", [row for row in all_rows("3", "4") if row.printed["method"].startswith("CT-Net")])
def test_every_ct_net_of_the_state_of_the_art_has_a_network(row):
    assert row.networks
    assert not any(network.is_other_method for network in row.networks)


@pytest.mark.parametrize("row", [row for row in all_rows("3", "4") if row.printed.get("gflops") is not None])
def test_every_printed_cost_of_another_method_is_measured_or_says_why_not(row):
    assert row.networks or row.not_measured


@pytest.mark.parametrize("name", FILES)
def test_twins_and_orders_name_columns_and_rows_that_exist(name):
    declared = table(name)
    assert bool(declared.twins) == bool(declared.seeds) == any(row.twin is not None for row in declared.rows.values())
    top1 = {column for column, about in declared.accuracies.items() if about.k == 1}
    if name in TABLES:
        assert declared.twins.keys() <= top1
        assert declared.orders.keys() <= declared.twins.keys()
    else:
        assert declared.orders.keys() <= MEASURES.keys()
    for pairs in declared.orders.values():
        for better, worse in pairs:
            assert better != worse
            assert declared.rows[better].twin is not None
            assert declared.rows[worse].twin is not None
        assert len({frozenset(pair) for pair in pairs}) == len(pairs)


def test_networks_are_found_by_what_they_are():
    network = Network("ctnet_r50", {"sizes": 3}, frames=16)
    assert network.key == Network(**json.loads(json.dumps(network.config()))).key
    others = [Network("ctnet_r50"), Network("ctnet_r50", {"sizes": 3}), Network("ctnet_r101", {"sizes": 3}, 16)]
    assert len({network.key, *(other.key for other in others)}) == 4
    assert Network("tea_r50").is_other_method
    assert not Network("r2plus1d_r50").is_other_method
    assert Network("r2plus1d34").is_other_method
    assert len(table("6").networks) == 4, "16 rows share them"


# -- What cannot be used is named --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "other", "seeds", "twins"), [("2g", "sgd", 5, {"top1": {}})])
def test_what_else_a_table_is_run_with_has_its_rows_and_decides_nothing(name, other, seeds, twins):
    today, kept = table(name), table(f"{name}-{other}")
    assert kept.id == f"{name}-{other}"
    assert [(row.id, row.networks, row.printed, row.twin) for row in kept.rows.values()] == [
        (row.id, row.networks, row.printed, row.twin) for row in today.rows.values()
    ]
    assert {row.table for row in kept.rows.values()} == {kept.id}
    assert not kept.orders
    assert not kept.leads
    assert kept.seeds == seeds
    assert kept.twins == twins
    assert kept.twins.keys() <= today.twins.keys()


def test_unknown_table_is_refused():
    with pytest.raises(ValueError, match=r"no table '9'; its tables are 1, 2a, .* 8$"):
        table("9")


def row_of(content):
    return content["rows"][1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: row_of(content).update(netwrok=NETWORK), "netwrok"),
        (lambda content: row_of(content).update(network={"modle": "tsn_r50"}), "modle"),
        (lambda content: content["columns"]["top1"].update(datset="somethingv1"), "datset"),
        (lambda content: content["orders"]["top1"].append(["ct-module", "ct-modul"]), "ct-modul"),
        (lambda content: content["orders"]["top1"].append(["ct-module"]), "not enough values"),
        (lambda content: row_of(content).update(twin=None), "orders name rows without a twin: ct-module"),
        (
            lambda content: content.update(
                rows=[row | {"network": None, "networks": []} for row in content["rows"]],
                costs={"statement": "", "order": "", "dearer": [["baseline-tsn", "ct-module"]]},
            ),
            "rows without a network: baseline-tsn, ct-module",
        ),
        (
            lambda content: content["second_look"]["orders"]["top1"].append(["ct-module-pwconv", "ct-modul"]),
            "second look",
        ),
        (lambda content: content["second_look"].update(seeds=6), "more seeds than 6, got 6"),
        (lambda content: content["second_look"].pop("seeds"), "seeds"),
        (lambda content: content["second_look"].update(seeds=12.0), "float"),
        (lambda content: content["second_look"].update(sedes=12), "sedes"),
        (lambda content: content.update(second_look={}), "seeds"),
        (lambda content: content.update(twins={}), "no twins are trained: top1"),
        (lambda content: row_of(content).update(id="baseline-tsn"), "two rows have one id"),
        (lambda content: row_of(content)["printed"].pop("top5"), "ct-module"),
        (lambda content: row_of(content)["printed"].update(top55=1.0), "ct-module"),
        (lambda content: row_of(content).pop("printed"), "printed"),
        (lambda content: content.update(order={}), "order"),
        (lambda content: content.pop("columns"), "columns"),
        (lambda content: content.pop("rows"), "rows"),
    ],
)
def test_a_declaration_that_cannot_be_read_is_named_with_its_file(own_results, edited, change, message):
    with edited("published/table_2g.json") as content:
        change(content)
    with pytest.raises(ValueError, match=rf"table_2g\.json is damaged \(.*{message}.*\): restore it with git"):
        table("2g")
    assert table("2a").rows, "the others can be read"


@pytest.mark.parametrize("file", ["table_2g", "text_claims", "training"])
def test_a_missing_file_is_named(own_results, file):
    (own_results / "published" / f"{file}.json").unlink()
    read = {"text_claims": text_claims, "training": training_settings}.get(file, lambda: table("2g"))
    with pytest.raises(FileNotFoundError, match=rf"{file}\.json is missing: restore it with git"):
        read()


def test_a_changed_file_is_read_again(own_results, edited):
    assert table("2g") is table("2g")
    assert table("2g").rows["ct-module"].printed["top1"] == 47.3
    with edited("published/table_2g.json") as content:
        row_of(content)["printed"]["top1"] = 47.4
    assert table("2g").rows["ct-module"].printed["top1"] == 47.4


def test_the_figures_of_the_reason_why_tsn_on_inception_is_not_reproduced():
    model = ctnet.create_model("tsn_inceptionv3", num_classes=400)
    small, large = (25 * ctnet.count_cost(model, size=size, frames=1).gmacs for size in (224, 299))
    reason = table("4").rows["tsn-25x10x1"].not_measured
    assert f"{small:.0f} GFLOPs in InceptionV3 at 224" in reason
    assert f"299 x 299 takes {large:.0f}" in reason
    assert f"{large * (224 / 299) ** 2:.0f} is those {large:.0f} times (224 / 299)^2" in reason
