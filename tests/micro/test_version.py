"""The same seed gives the same drawn clips, on every machine, or ctnet.micro.drawing.VERSION says that it does not."""

from pathlib import Path
from typing import Any

from versions import check, digest, record_anew, scene_digest

from ctnet.micro import MICRO_DATASETS, VERSION, compose, render
from ctnet.micro.drawing import MOTIONS

RECORD, NAME = Path(__file__).with_name("version.json"), "VERSION in ctnet/micro/drawing.py"


def probe() -> dict[str, Any]:
    """Scenes and pixels of every motion, and of every dataset its fingerprints, labels and first scenes."""
    scenes = [compose((0, number), motion) for number, motion in enumerate(MOTIONS)]
    found = {
        "scenes of all motions": digest(*(scene_digest(scene) for scene in scenes)),
        "pixels of all motions": digest(*(part for scene in scenes for part in render(scene))),
    }
    for name, kind in MICRO_DATASETS.items():
        splits = [kind.split("train"), kind.split("val", difficulty=0.6)]
        found[f"fingerprints of {name}"] = digest(*(split.fingerprint for split in splits))
        found[f"labels of {name}"] = digest(*(str((n, split.label(n))) for split in splits for n in split.members))
        found[f"scenes of {name}"] = digest(
            *(scene_digest(split.scene(n)) for split in splits for n in split.members[: len(kind.classes)])
        )
    return found


def test_the_same_seed_gives_the_clips_of_this_version():
    check(RECORD, NAME, VERSION, probe())


if __name__ == "__main__":
    record_anew(RECORD, NAME, VERSION, probe())
