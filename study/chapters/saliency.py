"""Figure 3's chapter: clips on which networks disagree, where each of them looks, and what was measured of that."""

from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from IPython.display import HTML

from ctnet.analysis.overlay import INFERNO, SCALE, Explanation, color_bar, explain, overlays, sampled_frames
from ctnet.data import sample_sparse
from ctnet.engine import load_model
from ctnet.engine.loading import sampler
from ctnet.micro import MicroSomething64, MicroSplit
from ctnet.models import VideoModel
from study.chapters.accuracy import directions_of
from study.chapters.clips import strip
from study.chapters.explorers import explorer, webp
from study.chapters.markup import BookTable
from study.chapters.tables import chapter_card, count_verdicts
from study.paper import table
from study.runs import labels_of, outcome, weights_file
from study.saliency import MEASURES, content, measured_runs, pictured_runs, uniform
from study.store import decode

Networks = Mapping[str, VideoModel]

_KINDS = {
    "trained": "",
    "positive": ", positive evidence alone",
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


def saliency_strips(explanations: Sequence[Explanation], title: str = "", caption: str = "") -> HTML:
    """Frames of a video, and where each network sees a class in them: a row each, over one colour bar (Figure 3).

    Args:
        explanations: of the same video, from `ctnet.analysis.overlay.explain`.
        title: of the frames without saliency.
        caption: below them.
    """
    return HTML(_strips(explanations, title, f"<figcaption>{escape(caption)}</figcaption>"))


def _strips(explanations: Sequence[Explanation], title: str, caption: str = "") -> str:
    rows = []
    for place, (told, pictures) in enumerate(overlays(explanations, 8, side=128)):
        heading = escape(title if title and place == 0 else told)
        source = strip(pictures.permute(0, 2, 3, 1).numpy())
        rows.append(f'<p>{heading}</p><img src="{source}" alt="Eight frames: {heading}" style="--frames:8">')
    bar = webp(color_bar(8, 160).numpy())
    scale = f'<p class="scale">{SCALE}: lowest <img src="{bar}" alt="from dark to bright"> highest</p>'
    return f'<figure class="strips saliency-strips">{"".join(rows)}{scale}{caption}</figure>'


def saliency_player(networks: Networks, chosen: Mapping[int | None, str]) -> HTML:
    """Validation clips that move, and beside them where each network sees the class that it predicts, in step.

    Args:
        networks: by name.
        chosen: numbers of clips, with what each is chosen for; None is passed over.
    """
    numbers = {number: why for number, why in chosen.items() if number is not None}
    if not networks or not numbers:
        return HTML(f"<p>{'no such clip' if networks else 'not run yet'}</p>")
    motions = {item.name: item.motions[0] for item in MicroSomething64.classes}
    clips: list[dict[str, Any]] = []
    found = {number: _explanations(networks, number) for number in numbers}
    for number, explanations in found.items():
        frames, masks = _split().draw(number)
        taken = sample_sparse(len(frames), len(explanations[0].frames))[0]
        clips.append(
            {
                "title": f"Clip {number}: {motions[_truth(number)]}",
                "why": numbers[number],
                "frames": strip(frames[taken]),
                "masks": webp(np.concatenate(255 * masks[taken].astype(np.uint8), axis=1)),
                "maps": [strip((255 * one.tubes).round().byte().numpy()) for one in explanations],
                "captions": [one._replace(label=motions[one.label]).caption for one in explanations],
            }
        )
    first = next(iter(numbers))
    data = {"clips": clips, "count": len(taken), "size": frames.shape[1], "colors": INFERNO.split()}
    picture = _strips(found[first], clips[0]["title"])
    return explorer("saliency", "Clips and the saliency of three networks", data, picture)


def video_strips(networks: Networks, video: Path, caption: str) -> HTML:
    """A video file, and where CT-Net's larger twin sees the class that it predicts."""
    if not networks:
        return HTML("<p>not run yet</p>")
    model, recipe = networks["CT-Net"], pictured_runs()["ct-module-pwconv-te"].recipe
    explanation = explain("CT-Net", model, sampled_frames(video, sampler(recipe)), size=recipe.size)
    return saliency_strips([explanation], caption=caption)


def saliency_table() -> BookTable:
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
            {"Network": "The masks themselves, on 4×4"}
            | {name: f"{best[key][0]:.1f}" for key, name in MEASURES.items()},
            {"Network": "Uniform map"} | {name: f"{uniform(kept, key):.1f}" for key, name in MEASURES.items()},
        ]
    caption = "Percent, ± half of the 95 % interval over seeds and clips. Of scatter, 100 is that of a uniform map."
    return BookTable(pd.DataFrame(rows), caption)


def _interval(values: Sequence[float]) -> str:
    return f"{values[0]:.1f}" + (f" ± {(values[2] - values[1]) / 2:.1f}" if len(values) > 1 else "")


def saliency_card() -> HTML:
    """The card that opens the chapter."""
    kept, decided = content(), directions_of("fig3")
    runs, larger = [run for seeds in measured_runs().values() for run in seeds], pictured_runs().values()
    done, larger_done = (sum(outcome(run.name) is not None for run in each) for each in (runs, larger))
    commands = {
        "Train what is missing": "python -m study run --weights --table fig3 --table fig3-pictured",
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
