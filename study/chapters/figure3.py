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
from study.chapters.accuracy import directions_of
from study.chapters.style import COLORS, WIDTH, BookFigure
from study.chapters.tables import chapter_card, count_verdicts, styled
from study.localisation import (
    MEASURES,
    NAMES,
    localisation,
    localisation_claims,
    measured_runs,
    uniform,
)
from study.outcomes import labels_of, outcome
from study.runner import decode, run_file, weights_file
from study.twins import TWINS

Networks = Mapping[str, VideoModel]

_RUNS = {NAMES[row]: twin.runs[0] for row, twin in TWINS["fig3"].items()}
_KINDS = {
    "trained": "",
    "positive": ", evidence for the class",
    "larger": ", 64×64, one seed",
    "untrained": ", random weights",
}


def pictured_networks() -> dict[str, VideoModel]:
    """The larger twins, by name; none of them before all are trained."""
    paths = {name: weights_file(run, Path()) for name, run in _RUNS.items()}
    if not all(
        path.exists() and run_file(run.name).exists() for path, run in zip(paths.values(), _RUNS.values(), strict=True)
    ):
        return {}
    return {name: load_model(path) for name, path in paths.items()}


def disagreements() -> tuple[int | None, int | None]:
    """The first validation clip that CT-Net alone names rightly, and the first that it alone names wrongly.

    None where there is no such clip, or the larger twins are not trained.
    """
    found = {name: outcome(run.name) for name, run in _RUNS.items()}
    right = {
        name: decode(content["predictions"]["1x1"]) == labels_of(_RUNS[name])
        for name, content in found.items()
        if content
    }
    if len(right) < len(_RUNS):
        return None, None
    ours, first, second = right["CT-Net"], right["R(2+1)D"], right["CSN"]
    places = (np.flatnonzero(ours & ~first & ~second), np.flatnonzero(~ours & first & second))
    return tuple(int(place[0]) if len(place) else None for place in places)  # type: ignore[return-value]


def random_clips() -> list[int]:
    """Numbers of validation clips, drawn once and for all."""
    return sorted(np.random.default_rng(0).choice(len(_split().members), 12, replace=False).tolist())


def plot_saliency(explanations: Sequence[Explanation], title: str = "") -> Figure:
    """Frames of a video, and where each network sees a class in them: a row each, over one colour bar (Figure 3).

    Args:
        explanations: of the same video, from `ctnet.analysis.overlay.explain`.
        title: of the frames without saliency.
    """
    columns = 8
    panels = overlays(explanations, columns, side=192)
    gap, head, foot = 0.03, 0.24, 0.32  # inches: between frames, of a caption, of the colour bar
    frame = (WIDTH + gap) / columns - gap
    picture = frame * panels[0][1].shape[2] / panels[0][1].shape[3]
    height = len(panels) * (head + picture) + foot
    figure = BookFigure(figsize=(WIDTH, height), layout="none")  # type: ignore[arg-type]
    for row, (caption, pictures) in enumerate(panels):
        bottom = height - (row + 1) * (head + picture)
        text = title if title and row == 0 else caption
        figure.text(0, (bottom + picture + 0.06) / height, text, fontsize=9, va="baseline")
        for column, image in enumerate(pictures.permute(0, 2, 3, 1)):
            place = (column * (frame + gap) / WIDTH, bottom / height, frame / WIDTH, picture / height)
            axes = figure.add_axes(place)
            axes.imshow(image.numpy(), aspect="auto")
            axes.set_axis_off()
    bar = figure.add_axes((0.48, 0.09 / height, 0.25, 0.1 / height))
    bar.imshow(color_bar(8, 256).numpy(), aspect="auto")
    bar.set_axis_off()
    figure.text(0.472, 0.1 / height, f"{SCALE}: lowest", fontsize=9, ha="right")
    figure.text(0.738, 0.1 / height, "highest", fontsize=9)
    return figure


def plot_clip(networks: Networks, number: int | None) -> Figure:
    """A validation clip over eight frames, and where each network sees the class that it predicts.

    Without networks or number, the figure says so.
    """
    if not networks or number is None:
        return _empty("no such clip" if networks else "not run yet")
    return plot_saliency(_explanations(networks, number), title=f"Clip {number}: {_truth(number)}")


def plot_clips(networks: Networks, numbers: Sequence[int]) -> Figure:
    """Several clips, two beside one another: a row of frames, and one for each network; classes by their motions."""
    if not networks:
        return _empty()
    motions = {item.name: item.motions[0] for item in MicroSomething64.classes}
    gap, line, columns = 0.3, 0.19, 4  # inches between clips and of a caption; frames of a clip
    wide = (WIDTH - gap) / 2
    tall = (1 + len(networks)) * (wide / columns + line) + gap
    height = -(-len(numbers) // 2) * tall
    figure = BookFigure(figsize=(WIDTH, height), layout="none")  # type: ignore[arg-type]
    for place, number in enumerate(numbers):
        found = _explanations(networks, number)
        panels = overlays([one._replace(label=motions[one.label]) for one in found], columns, side=128)
        panels[0] = f"{number}: {motions[_truth(number)]}", panels[0][1]
        left, top = (wide + gap) * (place % 2), height - tall * (place // 2)
        for row, (caption, frames) in enumerate(panels):
            bottom = top - (row + 1) * (wide / columns + line)
            weight = "normal" if row else "bold"
            figure.text(left / WIDTH, (bottom + wide / columns + 0.04) / height, caption, fontsize=8, weight=weight)
            axes = figure.add_axes((left / WIDTH, bottom / height, wide / WIDTH, wide / columns / height))
            strip = torch.nn.functional.pad(frames, (0, 3), value=255).permute(2, 0, 3, 1).flatten(1, 2)
            axes.imshow(strip.numpy(), aspect="auto")
            axes.set_axis_off()
    return figure


def plot_video(networks: Networks, video: Path) -> Figure:
    """A video file, and where CT-Net's larger twin sees the class that it predicts."""
    if not networks:
        return _empty()
    model, recipe = networks["CT-Net"], _RUNS["CT-Net"].recipe
    return plot_saliency([explain("CT-Net", model, sampled_frames(video, sampler(recipe)), size=recipe.size)])


def localisation_table() -> Styler:
    """Means of the measures, and half of their 95 % intervals: trained networks, variants and controls."""
    content, rows = localisation(), []
    for kind, suffix in _KINDS.items():
        means = (content or {"means": {"trained": {}}})["means"].get(kind)
        for row, name in NAMES.items() if means is not None else ():
            cells = {
                heading: _interval(means[row][key]) if row in means else "not run yet"
                for key, heading in MEASURES.items()
            }
            rows.append({"Network": name + suffix, **cells})
    if content:
        best = content["means"]["best"]["masks"]
        rows += [
            {"Network": "The masks themselves, on 2×2"}
            | {name: f"{best[key][0]:.1f}" for key, name in MEASURES.items()},
            {"Network": "Uniform map"} | {name: f"{uniform(content, key):.1f}" for key, name in MEASURES.items()},
        ]
    caption = "Percent, ± half of the 95 % interval over seeds and clips. Of scatter, 100 is that of a uniform map."
    return styled(pd.DataFrame(rows), caption)


def _interval(values: Sequence[float]) -> str:
    return f"{values[0]:.1f}" + (f" ± {(values[2] - values[1]) / 2:.1f}" if len(values) > 1 else "")


def plot_localisation_differences() -> Figure:
    """The differences that the verdicts are about, with 95 % intervals: a panel for each measure."""
    claims = [(claim, found) for claim in localisation_claims() if (found := claim.measure())]
    if not claims:
        return _empty()
    groups = {key: [pair for pair in claims if pair[0].id.endswith(f"/{key}")] for key in MEASURES}
    groups = {key: pairs for key, pairs in groups.items() if pairs}
    figure = BookFigure(figsize=(WIDTH, 0.5 + 0.85 * len(groups)))
    for axes, (key, pairs) in zip(figure.subplots(len(groups), 1, sharex=True), groups.items(), strict=True):
        means, places = np.array([found.mean for _, found in pairs]), range(len(pairs))
        ends = np.array([[found.mean - found.low, found.high - found.mean] for _, found in pairs]).T
        axes.axvline(0, color="#888888", linewidth=1)
        axes.errorbar(means, places, xerr=ends, fmt="o", color=COLORS["measured"], capsize=3)
        axes.set_yticks(places, [claim.label for claim, _ in pairs])
        axes.set_ylim(len(pairs) - 0.5, -0.5)
        axes.set_title(MEASURES[key], fontsize=9)
        axes.grid(axis="y", visible=False)
    axes.set_xlabel("difference, points")
    return figure


def localisation_card() -> HTML:
    """The card that opens the chapter."""
    content, decided = localisation(), directions_of("fig3")
    runs = [run for seeds in measured_runs().values() for run in seeds]
    done = sum(run_file(run.name).exists() for run in runs), sum(run_file(run.name).exists() for run in _RUNS.values())
    made = content["provenance"] if content else None
    commands = {
        "Train what is missing": "python -m study run --weights --table 2a --table 2g --table fig3",
        "Measure again": "python -m study localise",
    }
    items = {
        "Claim": "CT-Net localises action and object better in space and time than R(2+1)D and CSN, whose regions of "
        "interest are scattered (section 4.3, Figure 3)",
        "Trained as twins": f"{done[0]} of {len(runs)} networks to measure, {done[1]} of {len(_RUNS)} larger ones",
        "Measured here": f"where they look in {content['clips']} clips, against the objects that act"
        if content
        else "not run yet",
        "Verdict on the directions": count_verdicts(Counter(verdict for _, _, verdict in decided)),
        **({"Time": f"measured in {made['seconds']:.0f} s ({made['hardware']['cpu']})"} if made else {}),
    }
    return chapter_card(items, commands)


def _split() -> MicroSplit:
    recipe = _RUNS["CT-Net"].recipe
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
