import json
import re
from html import escape
from itertools import compress

import matplotlib as mpl
import pytest
from study.experiments import NOT_REPRODUCED, ROWS
from study.published import published_table
from study.runner import run_file
from study.twins import TWINS, runs_of

from study.chapters import plots, tables
from study.chapters.protocol import runs_table
from study.costs import networks, record
from study.exact import PEER_RULE, tolerance
from study.ledger import claims

mpl.use("agg")


def kept_costs(table):
    return {key: record(network)["cost"] for key, network in networks([table]).items()}


def cells(table):
    return tables.cost_table(table, kept_costs(table)).data


@pytest.mark.parametrize("table", ROWS)
def test_cost_tables_say_for_every_row_whether_it_was_measured(table):
    frame = cells(table)
    verdicts = frame["GFLOPs", "verdict"]
    allowed = {"reproduced", "differs", "paper inconsistent", "not reproduced", "not measured", "not printed"}
    allowed |= {"inconclusive"} if table == "6" else set()  # a figure that is not legible
    assert len(frame) == len(published_table(table))
    assert set(verdicts) <= allowed
    measured = frame["GFLOPs", "measured"] != "–"
    assert list(measured) == [row in ROWS[table] for row in published_table(table).index]
    reasons = [row in NOT_REPRODUCED.get(table, {}) for row in published_table(table).index]
    assert list(verdicts[~measured] == "not reproduced") == list(compress(reasons, ~measured))
    assert set(verdicts[~measured]) <= {"not reproduced", "not measured", "not printed"}


@pytest.mark.parametrize("table", ["3", "4"])
def test_both_counts_are_shown_with_the_one_that_is_printed(table):
    costs = kept_costs(table)
    frame = tables.counts_table(table, costs).data.set_index("Row")
    assert len(frame) == len(ROWS[table])
    shown = frame.loc[{"3": "TSM, 2D R50, 8 frames", "4": "I3D, Inception, 64xN/AxN/A"}[table]]
    assert shown.iloc[1] == {"3": "33", "4": "108"}[table]
    assert shown["Rounds to the printed figure"] == {"3": "both", "4": "neither"}[table]
    assert (frame["All operators"].astype(float) > frame["Convolutions and linear layers"].astype(float)).all()
    assert set(frame["Rounds to the printed figure"]) >= {"neither", "all operators", "convolutions and linear layers"}


@pytest.mark.parametrize("table", ROWS)
def test_published_accuracies_stand_under_a_heading_that_says_so(table):
    frame = cells(table)
    for group, name in frame.columns:
        if "Top" in name:
            assert group == "Accuracy in %: published, not run here"
    assert any("Top-1" in name for _, name in frame.columns)


def test_a_table_shows_the_printed_digits_and_the_difference():
    frame = cells("2e")
    row = frame.iloc[0]
    assert row["GFLOPs", "published"] == "43.0"
    assert row["GFLOPs", "measured"] == "42.94"
    assert row["GFLOPs", "difference"] == "-0.06"


def test_slips_and_notes_stand_in_the_caption():
    caption = tables.cost_table("6", kept_costs("6")).caption
    assert "447 / 3 = 149" in caption
    assert "6 x 112 = 672" in caption
    assert "the blocks of ResNet-101 were chosen to fit" in tables.cost_table("4", kept_costs("4")).caption
    assert "top5 as scanned" in tables.cost_table("2e", kept_costs("2e")).caption


def test_verdicts_are_words_with_a_class_for_their_colour():
    html = tables.cost_table("6", kept_costs("6")).to_html()
    assert re.search(r'class="[^"]*verdict-paper-inconsistent[^"]*"[^>]*>paper inconsistent<', html)


def test_a_table_has_the_same_name_in_every_build():
    assert 'id="T_4ee15db3"' in tables.claims_table(claims(["2b"]), "x").to_html()


def test_the_summary_accounts_for_every_claim():
    decided = claims()
    frame = tables.summary(decided).data
    assert frame["Number"].sum() == len(decided)
    (outcome,) = frame.loc[frame["Claims"].str.startswith("full size"), "Outcome"]
    assert outcome == "276 not run here"


def test_the_findings_count_what_the_ledger_holds():
    decided = claims()
    text = tables.findings(decided).data
    peers = [claim for claim in decided if claim.kind == "exact" and claim.rule == PEER_RULE]
    reproduced = sum(claim.verdict == "reproduced" for claim in peers)
    assert f"Of {len(peers)} GFLOPs of other methods, {reproduced} reproduced" in text
    assert "of the 276 that the paper prints, 276 not run here." in text
    tested = [claim for claim in decided if claim.kind == "direction"]
    assert f"of {len(tested)} orderings" in text
    assert all((claim.statement in text) == (claim.verdict in ("supported", "contradicted")) for claim in tested)
    assert f"of {len(runs_of())} training runs are done" in text


@pytest.mark.parametrize("table", [*ROWS, "5"])
def test_cards_tell_claim_time_and_command(table):
    html = tables.card(table).data
    assert published_table(table).attrs["claim"] in html
    assert (f"python -m study verify --table {table} --live" in html) == (table in ROWS)
    assert (f"python -m study run --table {table}" in html or "python -m study repeat RUN" in html) == (table in TWINS)
    assert table == "5" or re.search(r"costs \d+ s", html)


def test_the_ledger_shows_every_claim_with_its_rule():
    decided = claims(["2g"])
    html = tables.ledger_table(decided).data
    assert html.count("<tr><td>") == len(decided)
    for claim in decided:
        assert escape(claim.statement) in html
        assert escape(claim.rule) in html
    assert "<td>+30.4</td><td>twins +" in html  # of two networks on other clips


def test_figures_of_claims_are_short():
    assert tables.figure(4.77e-7) == "5e-07"
    assert tables.figure(37.3204) == "37.32"
    assert tables.figure([8, 64]) == "8, 64"
    assert tables.figure({"mean": -0.01, "low": -0.04, "high": 0.02}) == "+0.0 (0.0 to 0.0)"


def test_source_is_the_packages_own():
    assert "def tolerance" in tables.source(tolerance).data


def test_stage_bars_add_up_to_the_backbones_cost():
    costs = {"TSN": next(iter(kept_costs("2e").values()))}
    figure = plots.plot_stages(costs)
    widths = sum(bar.get_width() for container in figure.axes[0].containers for bar in container)
    assert widths == pytest.approx(costs["TSN"].gmacs - costs["TSN"].by_operator["linear"], rel=1e-3)
    assert figure.axes[0].get_legend().texts[0].get_text() == "stem"


def test_differences_are_drawn_for_every_measured_row():
    figure = plots.plot_differences("8", kept_costs("8"))
    (points,) = (c for c in figure.axes[0].collections if len(c.get_offsets()) == 4)
    assert all(abs(x) < 0.1 for x, _ in points.get_offsets())
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [
        f"{method}, {backbone}" for backbone in ("ResNet-50", "InceptionV3") for method in ("TSN", "CT-Net")
    ]


def test_a_curve_shows_measured_and_published_points():
    figure = plots.plot_curve({1: 2.0, 2: 4.0, 4: 8.0}, {2: 4.1}, "setting", log=True, baseline=("TSN", 9.0))
    (axes,) = figure.axes
    assert axes.lines[0].get_ydata().tolist() == [2.0, 4.0, 8.0]
    assert axes.collections[0].get_offsets().tolist() == [[2.0, 4.1]]
    assert {text.get_text() for text in axes.get_legend().texts} == {"measured here", "published", "TSN"}


def test_tradeoff_draws_every_method_that_prints_both_numbers():
    frame = published_table("4")
    figure = plots.plot_published_tradeoff(frame, "gflops", "top1", "top-1")
    drawn = {line.get_label(): len(line.get_xdata()) for line in figure.axes[0].lines}
    assert sum(drawn.values()) == int(frame[["gflops", "top1"]].notna().all(axis=1).sum()) == 21
    assert "I3D" not in drawn


def test_a_figure_shows_itself_as_png():
    assert plots.plot_curve({1: 1.0}, {1: 1.0}, "x")._repr_png_().startswith(b"\x89PNG")


def test_the_table_of_runs_counts_files_and_those_of_earlier_code():
    kept = [json.loads(path.read_text()) for name in runs_of() if (path := run_file(name)).exists()]
    table = runs_table()
    assert table.data.iloc[-1]["Done"] == str(len(kept))
    earlier = sum("confirmed" in content["provenance"] for content in kept)
    assert f" {earlier} of the runs that are done were made by earlier code" in table.caption
