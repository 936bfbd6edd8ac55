"""Figure 3's chapter: clips on which networks disagree, where each of them looks, and what was measured of that."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from IPython.display import HTML
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler

from ctnet.analysis.overlay import SCALE, Explanation, color_bar, explain, overlays, sampled_frames
from ctnet.data import sample_sparse
from ctnet.engine import load_model
from ctnet.engine.loading import sampler
from ctnet.micro import MicroSomething64, MicroSplit
from ctnet.models import VideoModel
from study.chapters.accuracy import directions_of, draw_differences
from study.chapters.style import WIDTH, BookFigure
from study.chapters.tables import chapter_card, count_verdicts, styled
from study.paper import table
from study.runs import labels_of, outcome, weights_file
from study.saliency import MEASURES, content, measured_runs, pictured_runs, uniform
from study.store import decode

Networks = Mapping[str, VideoModel]

_KINDS = {
    "trained": "",
    "positive": ", evidence for the class",
    "larger": ", 64×64, one seed",
    "untrained": ", random weights",
}


def _names() -> dict[str, str]:
    """Names of Figure 3's networks, by its rows."""
    return {row.id: row.label for row in table("fig3").rows.values()}


def pictured_networks() -> dict[str, VideoModel]:
    """The larger twins, by name; none of them before all are trained."""
    runs = {_names()[row]: run for row, run in pictured_runs().items()}
    if not all(weights_file(run).exists() and outcome(run.name) for run in runs.values()):
        return {}
    return {name: load_model(weights_file(run)) for name, run in runs.items()}


def disagreements() -> tuple[int | None, int | None]:
    """The first validation clip that CT-Net alone names rightly, and the first that it alone names wrongly.

    None where there is no such clip, or the larger twins are not trained.
    """
    runs = pictured_runs()
    right = {
        row: decode(found["predictions"]["1x1"]) == labels_of(run)
        for row, run in runs.items()
        if (found := outcome(run.name))
    }
    if len(right) < len(runs):
        return None, None
    ours, first, second = (right[row] for row in ("ct-module-pwconv-te", "r-2-1-d-module", "csn-module"))
    places = (np.flatnonzero(ours & ~first & ~second), np.flatnonzero(~ours & first & second))
    return tuple(int(place[0]) if len(place) else None for place in places)  # type: ignore[return-value]


def random_clips() -> list[int]:
    """Numbers of validation clips, drawn once and for all."""
    return sorted(np.random.default_rng(0).choice(len(_split().members), 6, replace=False).tolist())


Panels = Sequence[tuple[str, torch.Tensor]]
"""Strips of a clip: caption and frames, uint8 (T, 3, H, W)."""


def plot_strips(clips: Sequence[Panels], abreast: int = 1) -> Figure:
    """Clips, some beside one another: frames under a caption, and where each network sees a class in them (Figure 3).

    Args:
        clips: of one shape, the frames themselves first.
        abreast: clips in a row.
    """
    gap, line, foot = 0.3, 0.22, 0.32  # inches: between clips, of a caption, of the colour bar
    wide = (WIDTH - gap * (abreast - 1)) / abreast
    strips = [[(caption, _side_by_side(frames)) for caption, frames in panels] for panels in clips]
    first = strips[0][0][1]
    tall = wide * first.shape[0] / first.shape[1]
    step = len(strips[0]) * (tall + line) + gap * (len(clips) > abreast)
    height = step * -(-len(clips) // abreast) + foot
    figure = BookFigure(figsize=(WIDTH, height), layout="none")  # type: ignore[arg-type]
    for place, panels in enumerate(strips):
        left, top = (wide + gap) * (place % abreast), height - step * (place // abreast)
        for row, (caption, strip) in enumerate(panels):
            bottom = top - (row + 1) * (tall + line)
            weight = "normal" if row else "bold"
            figure.text(left / WIDTH, (bottom + tall + 0.05) / height, caption, fontsize=9 - abreast / 2, weight=weight)
            axes = figure.add_axes((left / WIDTH, bottom / height, wide / WIDTH, tall / height))
            axes.imshow(strip, aspect="auto")
            axes.set_axis_off()
    bar = figure.add_axes((0.48, 0.09 / height, 0.25, 0.1 / height))
    bar.imshow(color_bar(8, 256).numpy(), aspect="auto")
    bar.set_axis_off()
    figure.text(0.472, 0.1 / height, f"{SCALE}: lowest", fontsize=9, ha="right")
    figure.text(0.738, 0.1 / height, "highest", fontsize=9)
    return figure


def _side_by_side(frames: torch.Tensor) -> np.ndarray:
    """Frames (T, 3, H, W) as one picture (H, T * W, 3), white between them."""
    padded = torch.nn.functional.pad(frames, (0, 3), value=255).permute(2, 0, 3, 1).flatten(1, 2)[:, :-3]
    return np.asarray(padded)


def plot_clip(networks: Networks, number: int | None) -> Figure:
    """A validation clip over eight frames, and where each network sees the class that it predicts.

    Without networks or number, the figure says so.
    """
    if not networks or number is None:
        return _empty("no such clip" if networks else "not run yet")
    (_, frames), *maps = overlays(_explanations(networks, number), 8, side=192)
    return plot_strips([[(f"Clip {number}: {_truth(number)}", frames), *maps]])


def plot_clips(networks: Networks, numbers: Sequence[int]) -> Figure:
    """Several clips, two beside one another: a row of frames, and one for each network; classes by their motions."""
    if not networks:
        return _empty()
    motions = {item.name: item.motions[0] for item in MicroSomething64.classes}
    clips = []
    for number in numbers:
        found = [one._replace(label=motions[one.label]) for one in _explanations(networks, number)]
        (_, frames), *maps = overlays(found, 4, side=128)
        clips.append([(f"{number}: {motions[_truth(number)]}", frames), *maps])
    return plot_strips(clips, abreast=2)


def plot_video(networks: Networks, video: Path) -> Figure:
    """A video file, and where CT-Net's larger twin sees the class that it predicts."""
    if not networks:
        return _empty()
    model, recipe = networks["CT-Net"], pictured_runs()["ct-module-pwconv-te"].recipe
    seen = explain("CT-Net", model, sampled_frames(video, sampler(recipe)), size=recipe.size)
    return plot_strips([overlays([seen], 8, side=192)])


def saliency_table() -> Styler:
    """Means of the measures, and half of their 95 % intervals: trained networks, variants and controls."""
    kept, rows = content(), []
    for kind, suffix in _KINDS.items():
        means = (kept or {"means": {"trained": {}}})["means"].get(kind)
        for row, name in _names().items() if means is not None else ():
            cells = {
                heading: _interval(means[row][key]) if row in means else "not run yet"
                for key, heading in MEASURES.items()
            }
            rows.append({"Network": name + suffix, **cells})
    if kept:
        best = kept["means"]["best"]["masks"]
        rows += [
            {"Network": "The masks themselves, on 2×2"}
            | {name: f"{best[key][0]:.1f}" for key, name in MEASURES.items()},
            {"Network": "Uniform map"} | {name: f"{uniform(kept, key):.1f}" for key, name in MEASURES.items()},
        ]
    caption = "Percent, ± half of the 95 % interval over seeds and clips. Of scatter, 100 is that of a uniform map."
    return styled(pd.DataFrame(rows), caption)


def _interval(values: Sequence[float]) -> str:
    return f"{values[0]:.1f}" + (f" ± {(values[2] - values[1]) / 2:.1f}" if len(values) > 1 else "")


def plot_saliency_differences() -> Figure:
    """The differences that the verdicts are about, with 95 % intervals: a panel for each measure."""
    asked = [direction for direction in directions_of("fig3") if direction.found]
    if not asked:
        return _empty()
    groups = {key: pairs for key in MEASURES if (pairs := [d for d in asked if d.column == key])}
    figure = BookFigure(figsize=(WIDTH, 0.5 + 0.85 * len(groups)))
    for axes, (key, pairs) in zip(figure.subplots(len(groups), 1, sharex=True), groups.items(), strict=True):
        draw_differences(axes, pairs)
        axes.set_title(MEASURES[key], fontsize=9)
    axes.set_xlabel("difference, points")
    return figure


def saliency_card() -> HTML:
    """The card that opens the chapter."""
    kept, decided = content(), directions_of("fig3")
    runs, larger = [run for seeds in measured_runs().values() for run in seeds], pictured_runs().values()
    done, larger_done = (sum(outcome(run.name) is not None for run in each) for each in (runs, larger))
    commands = {
        "Train what is missing": "python -m study run --weights --table 2a --table 2g --table fig3",
        "Measure again": "python -m study saliency",
    }
    measured = f"where they look in {kept['clips']} clips, against the objects that act" if kept else "not run yet"
    items = {
        "Claim": table("fig3").claim,
        "Trained as twins": f"{done} of {len(runs)} networks to measure, {larger_done} of {len(larger)} larger ones",
        "Measured here": measured,
        "Verdict on the directions": count_verdicts(Counter(direction.verdict for direction in decided)),
    }
    if kept:
        made = kept["provenance"]
        items["Time"] = f"measured in {made['seconds']:.0f} s ({made['hardware']['cpu']})"
    return chapter_card(items, commands)


def _split() -> MicroSplit:
    recipe = pictured_runs()["ct-module-pwconv-te"].recipe
    return MicroSomething64.split("val", recipe.val_clips, difficulty=recipe.difficulty)


def _truth(number: int) -> str:
    return MicroSomething64.classes[_split().label(number)].name


def _explanations(networks: Networks, number: int) -> list[Explanation]:
    split = _split()
    clip = torch.from_numpy(split.draw(number)[0].copy()).permute(0, 3, 1, 2)  # (T, 3, H, W)
    return [
        explain(name, model, clip[sample_sparse(len(clip), model.num_frames)[0]], size=split.size)
        for name, model in networks.items()
    ]


def _empty(reason: str = "not run yet") -> Figure:
    """In place of a figure that cannot be drawn."""
    figure = BookFigure(figsize=(WIDTH, 0.8))
    figure.text(0.5, 0.5, reason, ha="center", va="center", color="#777777", fontsize=11)
    return figure
