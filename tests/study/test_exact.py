import json

import pytest
import torch
from study.experiments import IN_TEXT, NOT_REPRODUCED, ROWS, Network, Row
from study.provenance import code_hash, write_json
from study.published import TABLES, published_table
from torch.utils.flop_counter import FlopCounterMode

from ctnet.models import CTModule, create_model
from study.claims import HOLDS
from study.costs import cost_file, is_stale, networks, record, total
from study.exact import (
    OTHER_FIGURES,
    gmacs_verdict,
    peer_verdict,
    tolerance,
)
from study.ledger import claims, fallen, ledger_verdicts
from study.special_cases import SPECIAL_CASES, r2plus1d, special_case_difference


def test_every_kept_result_supports_its_claims():
    decided = [claim for claim in claims() if claim.kind in ("exact", "derived")]
    exceptions = {claim.id: claim.verdict for claim in decided if claim.verdict not in HOLDS}
    slips = dict.fromkeys(("6/16x1x2/gflops", "6/24x3x2/gflops"), "paper inconsistent")
    slips |= {"A.4/24 frames are worse than 16": "inconsistent", "3.3/ResNet-101": "differs"}
    unreadable = {"6/8x1x2/gflops": "inconclusive"}
    unexplained = {"4/i3d-64xn-axn-a/clip_gflops": "differs"}
    unmatched = {(table, row_id) for table, reasons in NOT_REPRODUCED.items() for row_id in reasons}
    assert exceptions == slips | unreadable | unexplained | {
        claim.id: "not reproduced"
        for claim in decided
        if claim.kind == "exact" and tuple(claim.id.split("/")[:2]) in unmatched
    }
    assert len({claim.id for claim in decided}) == len(decided)


KEPT = {(network.model, str(network.options)): network for network in networks([*ROWS, *IN_TEXT]).values()}


@pytest.mark.parametrize("key", KEPT, ids=" ".join)
def test_kept_costs_are_of_todays_networks(key):
    """By a count of another hand, on shapes alone: convolutions and linear layers, two FLOPs a multiply-add."""
    network = KEPT[key]
    with torch.device("meta"):
        model = create_model(network.model, num_classes=network.classes, **network.options).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(torch.zeros(1, 3, network.frames, network.size, network.size))
    counted, kept = counter.get_flop_counts()["Global"], record(network)["cost"]
    layers = sum(flops for operator, flops in counted.items() if "bmm" not in str(operator))  # no attention
    assert layers / 2e9 == pytest.approx(kept.conv_linear_gmacs)
    assert sum(parameter.numel() for parameter in model.parameters()) / 1e6 == pytest.approx(kept.params_m)


@pytest.mark.parametrize("table", ROWS)
def test_every_printed_cost_of_a_row_that_is_built_has_a_claim(table):
    decided = {claim.id for claim in claims([table])}
    frame = published_table(table)
    for row_id in ROWS[table]:
        for column in ("gflops", "clip_gflops", "params"):
            if frame.loc[row_id].get(column) is not None:
                assert f"{table}/{row_id}/{column}" in decided


def test_rows_exist_in_the_published_tables_and_all_of_table_2_and_8_is_built():
    for table, rows in ROWS.items():
        assert set(rows) <= set(published_table(table).index)
    for table in [table for table in TABLES if table[0] in "268"]:
        assert set(ROWS[table]) == set(published_table(table).index)
    for table in ("3", "4"):
        frame = published_table(table)
        assert {row for row in frame.index if frame.loc[row, "method"].startswith("CT-Net")} <= set(ROWS[table])


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


def test_a_row_without_a_network_gives_its_reason(monkeypatch):
    monkeypatch.delitem(ROWS["4"], "corrnet-32x1x10")
    monkeypatch.setitem(NOT_REPRODUCED, "4", {"corrnet-32x1x10": "nobody knows"})
    found = {claim.id: claim for claim in claims(["4"]) if "corrnet-32x1x10" in claim.id and claim.kind == "exact"}
    assert found.keys() == {"4/corrnet-32x1x10/gflops", "4/corrnet-32x1x10/clip_gflops"}
    assert {(claim.verdict, claim.measured, claim.note) for claim in found.values()} == {
        ("not reproduced", None, "nobody knows")
    }


def test_a_reason_is_given_only_for_rows_that_nothing_stands_for():
    for table, reasons in NOT_REPRODUCED.items():
        assert set(reasons) <= set(published_table(table).index) - set(ROWS[table])


@pytest.mark.parametrize(("key", "slip"), OTHER_FIGURES.items())
def test_the_arithmetic_of_a_slip_is_the_papers_own(key, slip):
    table, row_id = key
    arithmetic, result = slip
    figure, times = [int(term) for term in arithmetic.split(" / ")]
    printed = published_table(table)["gflops"]
    assert figure / times == result != printed[row_id]
    (other,) = [row for row in ROWS[table] if printed[row] == figure]
    assert ROWS[table][other].views == times * ROWS[table][row_id].views
    assert ROWS[table][other].networks == ROWS[table][row_id].networks


@pytest.mark.parametrize(
    ("table", "row_id", "claim_id"),
    [
        ("2a", "csn-module", "2a/csn-module/gflops"),
        ("4", "ct-net-r101-16x3x4", "4/ct-net-r101-16x3x4/clip_gflops"),
        ("8", "ct-net-inceptionv3", "8/ct-net-inceptionv3/params"),
        ("6", "24", "6/8-12-16-24-x1x1/gflops"),
    ],
)
def test_a_changed_result_turns_the_claim_that_rests_on_it(own_results, table, row_id, claim_id):
    before = ledger_verdicts()
    (network,) = ROWS[table][row_id].networks
    content = json.loads(cost_file(network).read_text())
    content["cost"]["gmacs"] *= 1.02
    content["cost"]["params_m"] *= 1.02
    write_json(cost_file(network), content)
    lost = [claim.id for claim in fallen(claims(), before)]
    assert claim_id in lost
    untouched = [key for key in before if not key.startswith(("2", "3", "4", "6", "7", "8", "text"))]
    assert not set(lost) & set(untouched)


def test_a_row_that_no_longer_costs_least_fells_the_statement_on_it(own_results):
    (network,) = ROWS["2d"]["c2-16"].networks
    content = json.loads(cost_file(network).read_text())
    content["cost"]["gmacs"] = 36.2
    write_json(cost_file(network), content)
    assert "2d/text" in [claim.id for claim in fallen(claims(["2d"]), ledger_verdicts())]


def test_the_rule_of_section_3_3_is_held_against_the_printed_cost_of_resnet_101(own_results):
    (claim,) = [claim for claim in claims(["3.3"]) if claim.id == "3.3/ResNet-101"]
    assert (claim.published, claim.verdict) == (145.5, "differs")
    (network,) = IN_TEXT["3.3"]["resnet-101"].networks
    content = json.loads(cost_file(network).read_text())
    content["cost"]["gmacs"] = 145.45
    write_json(cost_file(network), content)
    assert {claim.verdict for claim in claims(["3.3"])} == {"reproduced"}
    with torch.device("meta"):
        model = create_model(network.model, **network.options)
    assert sum(isinstance(module, CTModule) for module in model.modules()) == 15


@pytest.mark.parametrize("dataset", ["v1_top1", "v2_top1"])
def test_24_frames_must_be_worse_on_both_datasets(own_results, dataset):
    path = own_results / "published" / "table_6.json"
    content = json.loads(path.read_text())
    (row,) = [row for row in content["rows"] if row["id"] == "24"]

    def verdict():
        write_json(path, content)
        (claim,) = [claim for claim in claims(["A.4"]) if "24 frames" in claim.id]
        return claim.verdict

    row[dataset] -= 1
    assert verdict() == "inconsistent"
    row["v1_top1"], row["v2_top1"] = 52.4, 64.4
    assert verdict() == "consistent"


def test_a_special_case_with_another_kernel_would_be_noticed(monkeypatch):
    def wrong(in_channels, out_channels):
        return CTModule(in_channels, out_channels, sizes=1, connection="serial", excitation="none")

    assert special_case_difference(*SPECIAL_CASES["C3D"]) <= 1e-5
    assert special_case_difference(wrong, r2plus1d) <= 1e-5  # serial with K = 1 is R(2+1)D
    monkeypatch.setitem(SPECIAL_CASES, "CSN", (wrong, r2plus1d))
    assert decided_cases() == ["reproduced"] * 3
    monkeypatch.setitem(SPECIAL_CASES, "CSN", (SPECIAL_CASES["R(2+1)D"][0], _swapped))
    assert decided_cases() == ["reproduced", "reproduced", "differs"]


def decided_cases():
    return [claim.verdict for claim in claims(["3.3"]) if "special case" in claim.statement]


def _swapped(in_channels, out_channels):
    """R(2+1)D with a 1 x 3 x 3 kernel turned on its side."""
    from torch import nn

    module = r2plus1d(in_channels, out_channels)
    module[0][0] = nn.Conv3d(
        in_channels, out_channels, (1, 3, 3), padding=(0, 1, 1), padding_mode="circular", bias=False
    )
    return module


@pytest.mark.parametrize("damage", ["missing", "truncated", "other network", "no cost"])
def test_damaged_results_are_named(own_results, damage):
    path = cost_file(Network("tsn_r50"))
    content = json.loads(path.read_text())
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_text(path.read_text()[:100])
    elif damage == "other network":
        write_json(path, content | {"config": {"model": "tsn_r101"}})
    else:
        write_json(path, {key: value for key, value in content.items() if key != "cost"})
    with pytest.raises((ValueError, FileNotFoundError), match=rf"{path.name}.*python -m study verify --live"):
        record(Network("tsn_r50"))


def test_results_of_other_code_are_stale(own_results):
    path = cost_file(Network("tsn_r50"))
    content = json.loads(path.read_text())
    content["provenance"]["code"] = "0" * 12
    write_json(path, content)
    assert is_stale(record(Network("tsn_r50")))
    assert {claim.stale for claim in claims(["2e"]) if claim.id.startswith("2e/blocks-0/gflops")} == {True}


def test_kept_results_carry_their_provenance():
    for network in networks(ROWS).values():
        content = record(network)
        assert content["provenance"].keys() >= {"made", "seconds", "code", "commit", "versions", "hardware"}
        assert content["provenance"]["versions"]["torch"]


def test_a_row_sums_networks_and_multiplies_views():
    tsn, ct = Network("tsn_r50"), Network("ctnet_r50")
    costs = {network.key: record(network)["cost"] for network in (tsn, ct)}
    one, other = costs.values()
    gmacs, conv_linear, params = total(Row((tsn, ct), "3x2"), costs)
    assert gmacs == pytest.approx(6 * (one.gmacs + other.gmacs))
    assert conv_linear == pytest.approx(6 * (one.conv_linear_gmacs + other.conv_linear_gmacs))
    assert params == pytest.approx(one.params_m + other.params_m)


def test_live_measurement_is_kept_with_provenance(own_results, monkeypatch):
    monkeypatch.setitem(ROWS, "2e", {"blocks-0": Row((Network("tsn_r50_twin", size=32),))})
    decided = [claim for claim in claims(["2e"], live=True) if claim.id.endswith("gflops")]
    assert [claim.verdict for claim in decided] == ["differs"]  # a twin does not cost what the paper prints
    kept = record(Network("tsn_r50_twin", size=32))
    assert not is_stale(kept)
    assert kept["provenance"]["code"] == code_hash("models", "analysis/cost.py")
