"""Claims on costs, receptive fields and special cases, and how their verdicts follow from what was measured."""

import itertools

import numpy as np
import pytest
import torch

from ctnet import count_cost
from ctnet.models import CTModule, create_model
from study.chapters.tables import cost_table
from study.claims import HOLDS
from study.costs import cost_file, costs_of
from study.exact import (
    COLUMNS,
    EVERY_SECOND_BLOCK,
    cost_claims,
    exact_claims,
    gmacs_verdict,
    networks_of,
    peer_verdict,
    tolerance,
)
from study.ledger import claims, fallen, ledger_verdicts
from study.paper import TABLES, all_rows, table
from study.runs import runs_of, twins_of
from study.special_cases import SPECIAL_CASES, r2plus1d, special_case_difference

ALL = [*TABLES, "3.3"]


def test_every_kept_result_supports_its_claims():
    decided = exact_claims(ALL)
    exceptions = {claim.id: claim.verdict for claim in decided if claim.verdict not in HOLDS}
    slips = dict.fromkeys(("6/16x1x2/gflops", "6/24x3x2/gflops"), "paper inconsistent")
    unreadable = {"6/8x1x2/gflops": "inconclusive"}
    unexplained = {"4/i3d-64xn-axn-a/clip_gflops": "differs", "3.3/ResNet-101": "differs"}
    nothing = {(row.table, row.id) for row in all_rows() if row.not_measured}
    assert nothing
    assert exceptions == slips | unreadable | unexplained | {
        claim.id: "not reproduced" for claim in decided if (claim.table, claim.subject) in nothing
    }
    assert len({claim.id for claim in decided}) == len(decided)


@pytest.mark.parametrize("name", TABLES)
def test_every_printed_cost_of_a_row_that_is_built_has_a_claim(name):
    decided = {(claim.subject, claim.column): claim for claim in exact_claims([name]) if claim.column}
    told = {
        (row.id, column)
        for row in table(name).rows.values()
        for column in COLUMNS
        if row.printed.get(column) is not None and (row.networks or row.not_measured)
    }
    assert decided.keys() == told
    for (row_id, column), claim in decided.items():
        row = table(name).rows[row_id]
        assert (claim.published, claim.table) == (row.printed[column], name)
        assert claim.evidence == tuple(map(cost_file, row.networks))
        assert ("fitted" in claim.topics) == bool(row.inferred)
        assert ("other method" in claim.topics) == (
            not row.networks or any(network.is_other_method for network in row.networks)
        )


# -- A row is declared in one place ------------------------------------------------------------------------------------


NEW = {
    "id": "ct-module-se",
    "printed": {"model": "+CT-Module+SE", "gflops": 43.0, "top1": 47.5, "top5": 76.0},
    "network": {"model": "tsn_r50"},
    "twin": {"lr": 0.017},
}


def test_an_ablation_that_is_added_as_one_row_shows_up_everywhere(own_results, edited):
    """One line of JSON, whose cost is kept already, and one pair of rows of which the first is said to be better."""
    runs = runs_of(["2g"])
    with edited("published/table_2g.json") as content:
        content["rows"].append(NEW)
        content["orders"]["top1"].append(["ct-module-se", "ct-module"])
    shown = cost_table("2g", costs_of(table("2g").rows)).data.iloc[-1]
    assert "+CT-Module+SE" in shown["", "Row"]
    assert shown["GFLOPs", "published"] == "43.0"
    assert shown["GFLOPs", "verdict"] == "reproduced"
    decided = {claim.id: claim for claim in claims(["2g"]) if "ct-module-se" in claim.id}
    assert {name: (claim.kind, claim.verdict) for name, claim in decided.items()} == {
        "2g/ct-module-se/gflops": ("cost", "reproduced"),
        "2g/ct-module-se/top1": ("full size", "not run here"),
        "2g/ct-module-se/top5": ("full size", "not run here"),
        "2g/ct-module-se > ct-module/top1": ("direction", "not run yet"),
    }
    assert decided["2g/ct-module-se > ct-module/top1"].published == 0.2
    (run,) = twins_of("2g")["ct-module-se", "top1"].runs
    assert (run.recipe.model, run.recipe.lr) == ("tsn_r26_twin", 0.017)
    assert runs_of(["2g"]).keys() - runs.keys() == {run.seeded(seed).name for seed in range(table("2g").seeds)}


def test_no_claim_is_found_by_the_words_of_its_row(own_results, edited):
    """Other ids and other words change what claims are called, and nothing else."""

    def outcomes():
        found = claims(["2h"])
        return [(c.kind, c.column, c.published, c.measured, c.verdict, c.note, c.rule, c.topics) for c in found]

    before = outcomes()
    called = {row: f"gflops/{number} > text/3.3" for number, row in enumerate(table("2h").rows)}
    with edited("published/table_2h.json") as content:
        for row in content["rows"]:
            row["id"] = called[row["id"]]
        content["orders"] = {
            column: [[called[row] for row in pair] for pair in pairs] for column, pairs in content["orders"].items()
        }
    assert outcomes() == before
    assert {claim.subject for claim in claims(["2h"]) if claim.kind == "cost"} == set(called.values())


def test_a_cost_passes_few_modules_on_its_way_to_a_verdict(unread_results, passed):
    files = passed(lambda: list(cost_claims("2g", costs_of(table("2g").rows))))
    assert files == {f"study/{module}.py" for module in ("paper", "store", "costs", "measured", "exact")}


# -- Verdicts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("published", "allowed"), [(37.3, 0.1), (120.0, 0.1), (145.5, 0.21825), (37, 0.5), (447, 0.6705), (1746, 2.619)]
)
def test_tolerance(published, allowed):
    assert tolerance(published) == pytest.approx(allowed)


@pytest.mark.parametrize(
    ("published", "measured", "views", "other", "verdict"),
    [
        (37.3, 37.39, 1, None, "reproduced"),
        (37.3, 37.42, 1, None, "differs"),
        (37, 37.49, 1, None, "reproduced"),
        (37, 37.6, 1, None, "differs"),
        (447, 447.6, 6, None, "reproduced"),
        (151, 149.1, 2, ("447 / 3", 149), "paper inconsistent"),
        (151, 149.1, 2, None, "differs"),
        (151, 155.0, 2, ("447 / 3", 149), "differs"),
        (672, 670.8, 6, None, "paper inconsistent"),
        (672, 668.0, 6, None, "differs"),
    ],
)
def test_gmacs_verdict(published, measured, views, other, verdict):
    found, note = gmacs_verdict(published, measured, views, other)
    assert found == verdict
    assert bool(note) == (verdict == "paper inconsistent")


@pytest.mark.parametrize(
    ("published", "gmacs", "conv_linear", "expected"),
    [
        (100, 100.4, 99.7, ("reproduced", 99.7, "both")),
        (100, 101.1, 99.8, ("reproduced", 99.8, "convolutions and linear layers")),
        (100, 99.6, 98.0, ("reproduced", 99.6, "all operators")),
        (62.3, 62.73, 62.31, ("reproduced", 62.31, "convolutions and linear layers")),
        (100, 100.9, 99.2, ("reproduced", 99.2, "neither")),
        (100, 103.0, 101.1, ("differs", 101.1, "neither")),
    ],
)
def test_peers_are_held_to_one_per_cent_of_either_count(published, gmacs, conv_linear, expected):
    verdict, measured, note = peer_verdict(published, gmacs, conv_linear)
    assert (verdict, measured, note.rpartition(": ")[2]) == expected
    assert f"{gmacs:.2f}" in note
    assert f"{conv_linear:.2f}" in note


def test_a_row_without_a_network_gives_its_reason(own_results, edited):
    with edited("published/table_4.json") as content:
        (row,) = (row for row in content["rows"] if row["id"] == "corrnet-32x1x10")
        del row["network"], row["inferred"]
        row["not_measured"] = "nobody knows"
    found = {claim.id: claim for claim in exact_claims(["4"]) if claim.subject == "corrnet-32x1x10"}
    assert found.keys() == {"4/corrnet-32x1x10/gflops", "4/corrnet-32x1x10/clip_gflops"}
    assert {(claim.verdict, claim.measured, claim.note, claim.evidence) for claim in found.values()} == {
        ("not reproduced", None, "nobody knows", ())
    }


@pytest.mark.parametrize("row", [row for row in all_rows() if row.other_figure], ids=lambda row: row.id)
def test_the_arithmetic_of_a_slip_is_the_papers_own(row):
    arithmetic, result = row.other_figure
    figure, times = [int(term) for term in arithmetic.split(" / ")]
    assert figure / times == result != row.printed["gflops"]
    (other,) = [other for other in table(row.table).rows.values() if other.printed["gflops"] == figure]
    assert other.views == times * row.views
    assert other.networks == row.networks


@pytest.mark.parametrize(
    ("name", "row_id", "claim_id"),
    [
        ("2a", "csn-module", "2a/csn-module/gflops"),
        ("4", "ct-net-r101-16x3x4", "4/ct-net-r101-16x3x4/clip_gflops"),
        ("8", "ct-net-inceptionv3", "8/ct-net-inceptionv3/params"),
        ("6", "24", "6/8-12-16-24-x1x1/gflops"),
    ],
)
def test_a_changed_result_turns_the_claims_that_rest_on_it_and_no_others(own_results, edited, name, row_id, claim_id):
    before = ledger_verdicts()
    (network,) = table(name).rows[row_id].networks
    with edited(cost_file(network)) as content:
        content["cost"]["gmacs"] *= 1.02
        content["cost"]["params_m"] *= 1.02
    lost = fallen(exact_claims(ALL), before)
    assert claim_id in {claim.id for claim in lost}
    assert all(cost_file(network) in claim.evidence for claim in lost if claim.column)


@pytest.mark.parametrize(
    ("name", "row_id", "gmacs"),
    [("2d", "c2-16", 36.2), ("2b", "k3", 36.5), ("2e", "blocks-6", 36.0), ("2f", "kernels-3-3", 37.0)],
)
def test_a_cost_out_of_order_fells_the_statement_on_it(own_results, edited, name, row_id, gmacs):
    (network,) = table(name).rows[row_id].networks
    with edited(cost_file(network)) as content:
        content["cost"]["gmacs"] = gmacs
    assert f"{name}/text" in {claim.id for claim in fallen(exact_claims([name]), ledger_verdicts())}


@pytest.mark.parametrize(("name", "place"), [("2f", 1), ("2d", 4), ("2b", 0)])
def test_a_row_that_is_added_leaves_what_is_said_of_the_others_order(own_results, edited, name, place):
    with edited(f"published/table_{name}.json") as content:
        content["rows"].insert(place, content["rows"][0] | {"id": "new", "network": {"model": "tsn_r50"}})
    added = next(claim for claim in claims([name]) if claim.id == f"{name}/text")
    assert added.verdict == "reproduced"
    assert len(added.measured) == len(table(name).rows) - 1  # the paper says nothing of the new one


def test_the_rule_of_section_3_3_is_held_against_the_printed_cost_of_resnet_101(own_results, edited):
    (claim,) = [claim for claim in exact_claims(["3.3"]) if claim.id == "3.3/ResNet-101"]
    assert (claim.published, claim.verdict) == (145.5, "differs")
    with edited(cost_file(EVERY_SECOND_BLOCK)) as content:
        content["cost"]["gmacs"] = 145.45
    assert {claim.verdict for claim in exact_claims(["3.3"])} == {"reproduced"}
    with torch.device("meta"):
        model = create_model(EVERY_SECOND_BLOCK.model, **EVERY_SECOND_BLOCK.options)
    assert sum(isinstance(module, CTModule) for module in model.modules()) == 15


def test_networks_are_those_of_the_rows_and_of_the_section():
    assert networks_of(["3.3"]) == {EVERY_SECOND_BLOCK.key: EVERY_SECOND_BLOCK}
    assert networks_of(["2g", "3.3"]).keys() == {EVERY_SECOND_BLOCK.key, *table("2g").networks}
    assert EVERY_SECOND_BLOCK.key not in networks_of(TABLES)


def test_table_1_is_measured_from_gradients():
    found = {claim.subject: claim for claim in exact_claims(["1"])}
    modules = {f"CT K={k}{more}" for k in (1, 2, 3) for more in ("", " channels")}
    assert found.keys() == {"C3D", "R(2+1)D", "CSN"} | modules
    assert found["CT K=3"].measured == "7x7x7"
    assert found["CT K=3 channels"].measured[-1] == 64


def _serial(in_channels, out_channels):
    return CTModule(in_channels, out_channels, sizes=1, connection="serial", excitation="none")


def _turned(in_channels, out_channels):
    """R(2+1)D with a 1 x 3 x 3 kernel turned on its side."""
    module = r2plus1d(in_channels, out_channels)
    module[0][0] = torch.nn.Conv3d(
        in_channels, out_channels, (1, 3, 3), padding=(0, 1, 1), padding_mode="circular", bias=False
    )
    return module


@pytest.mark.parametrize("name", SPECIAL_CASES)
def test_special_cases_are_equal(name):
    assert special_case_difference(*SPECIAL_CASES[name]) <= 1e-5


def test_a_special_case_with_another_kernel_would_be_noticed(monkeypatch, tmp_path):
    monkeypatch.setenv("CTNET_MEASURED", str(tmp_path))  # not what was measured before
    assert special_case_difference(_serial, r2plus1d) <= 1e-5  # serial with K = 1 is R(2+1)D
    monkeypatch.setitem(SPECIAL_CASES, "CSN", (SPECIAL_CASES["R(2+1)D"][0], _turned))
    decided = {claim.subject: claim.verdict for claim in exact_claims(["3.3"]) if "special cases" in claim.topics}
    assert decided == {"C3D": "reproduced", "R(2+1)D": "reproduced", "CSN": "differs"}


def cost_of(name, classes, **options):
    with torch.device("meta"):
        model = create_model(name, classes, **options)
    size, frames = (299, 8) if "inception" in name else (256, 16)
    cost = count_cost(model, size=size, frames=frames)
    return cost.gmacs, cost.params_m


def test_other_blocks_of_resnet_101_fit_the_printed_cost_too():
    blocks = {"layer1": (1, 2), "layer3": range(1, 16, 2), "layer4": (1,)}
    assert gmacs_verdict(145.5, cost_of("ctnet_r101", 400, blocks=blocks)[0])[0] == "reproduced"


def test_no_choice_of_3x3_convolutions_alone_fits_both_figures_of_inception():
    """Those of one shape cost the same, and costs add up: what each saves tells the cost of every choice."""
    alike = {
        "Mixed_5b.branch3x3dbl_2.conv": 4,
        "Mixed_5b.branch3x3dbl_3.conv": 3,
        "Mixed_7b.branch3x3dbl_2.conv": 2,
        "Conv2d_2b_3x3.conv": 1,
    }
    plain = np.array(cost_of("tsn_inceptionv3", 174))
    saved = np.array([cost_of("ctnet_inceptionv3", 174, blocks=[name]) for name in alike]) - plain
    choices = np.array(list(itertools.product(*(range(count + 1) for count in alike.values()))))
    gmacs, params = (plain + choices @ saved).T
    fits = params.round(1) == 20.9
    assert np.abs(gmacs[fits] - 43.9).min() > 0.1
    assert gmacs[fits][np.abs(gmacs[fits] - 43.9).argmin()].round(1) == 43.8
