"""Motion by motion: what the chapter shows adds up to what verdicts rest on."""

import json
import re

import numpy as np
import pytest

from ctnet.micro import MicroSomething
from ctnet.micro.drawing import MOTIONS
from study.chapters import motions
from study.chapters.motions import (
    NETWORKS,
    ORDER,
    difference_by_motion,
    lead_table,
    mistakes_table,
    motion_accuracies,
    motion_differences,
    motions_of,
    order_table,
    plot_motions,
    rest_table,
    seeds_table,
    twin_of,
)
from study.directions import directions
from study.runs import accuracy_table, answers, labels_of, protocol_of, run_file, trained_tables
from study.store import results_dir


def numbers(text):
    return [float(number.replace("−", "-")) for number in re.findall(r"[+−-]?\d+\.\d+", text)]


def test_networks_stand_side_by_side_because_they_saw_the_same():
    assert {protocol_of(table) for table, *_ in NETWORKS.values()} == {3}
    tested = {
        (run.recipe.dataset, run.recipe.val_clips, run.recipe.difficulty) for n in NETWORKS for run in twin_of(n).runs
    }
    assert tested == {("MicroSomething", 4008, 0.3)}


def test_opposite_motions_stand_together():
    for one, other in zip(ORDER[:20:2], ORDER[1:20:2], strict=True):
        assert (MOTIONS[one].opposite, MOTIONS[other].opposite) == (other, one)
    assert {MOTIONS[motion].opposite for motion in ORDER[20:]} <= {None, *ORDER[20:]}


@pytest.mark.parametrize("network", NETWORKS)
def test_motions_average_to_the_accuracy_of_the_table(network):
    table, row, _ = NETWORKS[network]
    assert np.bincount(motions_of(twin_of(network))).tolist() == [167] * 24
    assert motion_accuracies()[network].mean() == pytest.approx(accuracy_table(table).loc[row, "accuracy"])


def test_a_motion_is_that_of_its_clips():
    twin = twin_of("TSN")
    names = [MicroSomething.classes[label].motions[0] for label in labels_of(twin.runs[0])]
    assert [ORDER[place] for place in motions_of(twin)] == names


def test_a_network_is_right_where_its_clips_are(monkeypatch):
    names = [MicroSomething.classes[label].motions[0] for label in labels_of(twin_of("TSN").runs[0])]
    monkeypatch.setattr(
        motions, "correct_by_seed", lambda twin: {0: np.array(names) == "up", 1: np.array(names) == "up"}
    )
    assert motion_accuracies()["TSN"].to_dict() == {motion: 100.0 * (motion == "up") for motion in ORDER}


def test_differences_by_motion_average_to_the_verdicts():
    (direction,) = (d for d in directions() if d.table == "3" and d.subject == "ct-net-8 > teinet-8")
    one, other = difference_by_motion("CT-Net", "TEINet"), difference_by_motion("TEINet", "CT-Net")
    assert one["mean"].mean() == pytest.approx(direction.found.mean)
    np.testing.assert_allclose(one["mean"], -other["mean"])
    np.testing.assert_allclose(one["low"], -other["high"])
    assert (one["low"] <= one["mean"]).all()


def answering(of_label):
    """Two seeds of every network, whose answers follow from the labels alone."""
    labels = np.repeat(np.arange(24), 10)
    return lambda twin, seed: (of_label(labels), labels) if seed < 2 else None


def of(motion):
    """Whether a label is a motion's, (classes,)."""
    return np.array([item.motions[0] == motion for item in MicroSomething.classes])


def reversed_in_time(labels):
    """The opposite of every motion, by the labels of the dataset."""
    names = [item.motions[0] for item in MicroSomething.classes]
    return np.array([names.index(MOTIONS[names[label]].opposite or names[label]) for label in labels])


@pytest.mark.parametrize(
    ("said", "shares"),
    [
        (lambda labels: labels, ["100.0", "100.0", "100.0", "100.0"]),
        (reversed_in_time, ["100.0", "0.0", "100.0", "0.0"]),
        (
            lambda labels: np.where(of("stretch")[labels], labels, reversed_in_time(labels)),
            ["100.0", "50.0", "100.0", "0.0"],
        ),
    ],
)
def test_the_order_in_time_is_told_from_the_pair(monkeypatch, said, shares):
    monkeypatch.setattr(motions, "answers", answering(said))
    frame = order_table(["stretch", "squeeze"]).data.set_index(("", "Network"))
    assert frame.loc["TEA"].tolist() == shares


def test_mistakes_are_counted_by_what_the_clips_show(monkeypatch):
    monkeypatch.setattr(motions, "answers", answering(lambda labels: labels))
    assert mistakes_table(["TSN"]).data.empty
    monkeypatch.setattr(motions, "answers", answering(reversed_in_time))
    frame = mistakes_table(["TSN"], count=20).data
    assert set(frame["% of its clips"]) == {"100.0"}
    assert all(MOTIONS[row["The motion"]].opposite == row["is taken for"] for _, row in frame.iterrows())
    assert len(frame) == 20


def test_without_leaving_out_a_motion_differences_are_those_of_the_verdicts():
    tables = {name for name in trained_tables() if protocol_of(name) == 3} - {"5", "fig3"}  # other clips, measures
    asked = {
        f"{d.label}, Table {d.table}": d.found
        for d in directions()
        if d.table in tables and d.found and abs(d.found.mean) < 10 and (d.table != "7" or d.column == "v2_top1")
    }
    frame = rest_table(()).data
    assert set(frame["Difference"]) == set(asked)
    assert {"2f", "6", "7"} < tables
    for _, row in frame.iterrows():
        found = asked[row["Difference"]]
        assert numbers(row["Without "]) == pytest.approx([found.mean, found.low, found.high], abs=0.051)


def test_what_is_left_out_takes_its_part_of_a_difference_with_it():
    frame = rest_table(("stretch", "squeeze")).data.set_index("Difference")
    (name,) = (name for name in frame.index if name.startswith("CT-Net − TEINet"))
    others = difference_by_motion("CT-Net", "TEINet").drop(["stretch", "squeeze"])["mean"].mean()
    assert numbers(frame.loc[name, "Without stretch and squeeze"])[0] == pytest.approx(others, abs=0.051)


def test_seeds_are_compared_with_and_without_motions(monkeypatch):
    labels = motions_of(twin_of("TSN"))
    two = np.isin(labels, [6, 7])
    monkeypatch.setattr(motions, "correct_by_seed", lambda twin: {0: ~two, 1: two | ~two})
    (row,) = seeds_table(["TSN"], ("stretch", "squeeze")).data.to_numpy().tolist()
    assert row == ["TSN", f"{100 / 12 / 2**0.5:.1f}", "0.0", "0 to 100", "100.0"]


def test_a_lead_is_that_of_the_motions_it_is_of():
    frame = lead_table("CT-Net", ["stretch"]).data.set_index("Network")
    alone = difference_by_motion("CT-Net", "TSM")
    assert numbers(frame.loc["CT-Net − TSM", "stretch"]) == pytest.approx(
        alone.loc["stretch", ["mean", "low", "high"]].tolist(), abs=0.051
    )
    rest = alone.drop("stretch")["mean"].mean()
    assert numbers(frame.loc["CT-Net − TSM", "all other motions"])[0] == pytest.approx(rest, abs=0.051)
    assert len(frame) == len(NETWORKS) - 1


def test_the_map_shows_every_number():
    accuracies = motion_accuracies()
    shown = [text.get_text() for text in plot_motions(accuracies).axes[0].texts]
    assert shown[: 24 * len(NETWORKS)] == [f"{value:.0f}" for value in accuracies.to_numpy().ravel()]
    assert shown[24 * len(NETWORKS) :] == [f"{value:.0f}" for value in accuracies.mean()]


def test_what_was_not_run_is_not_shown(own_results):
    twin = twin_of("TEINet")
    for seed in range(6):
        for name in twin.names(seed):
            (own_results / run_file(name)).unlink()
    assert motion_accuracies()["TEINet"].isna().all()
    data = json.loads(re.search(r"json\">(.*?)</script>", motion_differences("CT-Net", "TSM").data)[1])
    assert data["networks"].keys() == NETWORKS.keys() - {"TEINet"}
    assert order_table([]).data.set_index(("", "Network")).loc["TEINet"].tolist() == ["–"] * 4
    assert lead_table("CT-Net", ["still"]).data["Network"].str.contains("TEINet").sum() == 0
    assert "data-explorer" not in motion_differences("CT-Net", "TEINet").data, "the script would have nothing to show"
    assert results_dir() == own_results


def test_the_chapter_says_what_the_predictions_show():
    """When this fails, rewrite what stands below the figures of `motions`."""
    accuracies = motion_accuracies()
    mixing = accuracies.drop(columns="TSN")
    easy = mixing.drop(["stretch", "squeeze", "still"])
    assert easy.drop(columns="TSM").min(axis=None) >= 89  # none in fewer than 89 clips of 100
    assert set(easy.index[easy["TSM"] < 89]) == {"approach", "recede"}  # for TSM
    assert all({*mixing[name].nsmallest(2).index} == {"stretch", "squeeze"} for name in mixing)  # the hardest two

    def told(network):
        answered = [answers(twin_of(network), seed) for seed in range(6)]
        names = np.array([item.motions[0] for item in MicroSomething.classes])
        return [(names[predicted], names[labels]) for predicted, labels in answered]

    predicted, labels = map(np.concatenate, zip(*told("TSN"), strict=True))
    assert (labels[predicted == "shake"] != "shake").mean() > 0.5  # most clips that it calls shaking do not shake
    seeds = told("CT-Net")
    right = {motion: [(p[y == motion] == motion).mean() for p, y in seeds] for motion in ("stretch", "squeeze")}
    low = int(np.argmin(right["stretch"]))
    taken = (seeds[low][0][seeds[low][1] == "stretch"] == "squeeze").mean()
    shares = (right["stretch"][low], max(right["stretch"]), right["squeeze"][low], taken)
    assert [round(100 * share) for share in shares] == [23, 79, 83, 46]
    predicted, labels = map(np.concatenate, zip(*told("TEINet"), strict=True))
    wrong = np.isin(labels, ["stretch", "squeeze"]) & (predicted != labels)
    assert (predicted[wrong] == "still").mean() > 0.5  # mostly takes the object to be still
    behind = difference_by_motion("TEA", "CT-Net").drop(["stretch", "squeeze"])["mean"]
    assert (behind > 0).sum() >= 20  # a little ahead on nearly every motion


# -- What a reader plays with ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def played():
    return motion_differences("CT-Net", "TEINet").data


def lines(page):
    return [numbers(told.text_content())[:3] for told in page.locator(".difference-told").all()]


def test_the_page_shows_the_differences_of_the_package(show, played):
    page = show(played)
    expected = difference_by_motion("CT-Net", "TEINet")
    np.testing.assert_allclose(lines(page), expected[["mean", "low", "high"]], atol=0.11)
    for line, motion in zip(page.locator(".difference-name").all_inner_texts(), ORDER, strict=True):
        assert line.startswith(motion)
    assert "; ".join(
        f"{name} {motion_accuracies()[name].mean():.1f} %" for name in ("CT-Net", "TEINet")
    ) in page.inner_text(".explorer-told")
    assert page.locator(".explorer-picture").count() == 0


def test_another_pair_is_chosen_and_no_network_meets_itself(show, played):
    page = show(played)
    page.get_by_label("minus network").select_option("TSM")
    expected = difference_by_motion("CT-Net", "TSM")
    np.testing.assert_allclose(lines(page), expected[["mean", "low", "high"]], atol=0.11)
    standing = [name for name in ORDER if expected.loc[name, "p"] < 0.05]
    assert page.locator(".stands").count() == len(standing)
    page.get_by_label("Network", exact=True).select_option("TSM")
    assert page.get_by_label("minus network").input_value() == "CT-Net"
    np.testing.assert_allclose(lines(page), -expected[["mean", "high", "low"]], atol=0.11)


def test_without_scripts_the_picture_stays(show, played):
    page = show(played, scripts=False)
    assert (
        page.locator(".explorer-picture img").get_attribute("alt").startswith("Differences of accuracy between CT-Net")
    )
