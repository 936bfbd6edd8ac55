"""The wheel: the library alone, in an environment outside the clone, does what a user comes for."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest

from ctnet.micro import write_video

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", folder, ROOT]
    subprocess.run(command, check=True, capture_output=True)
    (path,) = folder.glob("ctnet-*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Run a command of an environment that has the wheel, and nothing of the clone, in a folder of its own."""
    folder = tmp_path_factory.mktemp("elsewhere")
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel]
    subprocess.run(install, check=True, capture_output=True)
    (own,) = (folder / "venv").glob("lib/python*/site-packages")
    # The packages that the wheel depends on; a path in a .pth file brings no editable installs with it.
    (own / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    hidden = {"PYTHONPATH", "CTNET_RESULTS"}
    environment = {name: value for name, value in os.environ.items() if name not in hidden} | {"TQDM_DISABLE": "1"}

    def call(program, *arguments):
        command = [folder / "venv" / "bin" / program, *map(str, arguments)]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    call.folder = folder
    return call


def test_the_wheel_holds_the_library_and_nothing_of_the_reproduction(wheel):
    names = {Path(name).parts[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {name for name in names if not name.endswith(".dist-info")} == {"ctnet"}


def test_the_library_is_that_of_the_wheel(installed):
    code = "import ctnet, importlib.util as i; print(ctnet.__file__, i.find_spec('study'), i.find_spec('tests'))"
    path, *others = installed("python", "-c", code).split()
    assert Path(path).is_relative_to(installed.folder)
    assert others == ["None", "None"]


WAY = """
import sys
from ctnet import cli
for words in {commands}:
    sys.argv = ["ctnet", *words]
    try:
        cli.main()
    except SystemExit as stop:
        assert stop.code == 0, words
    print("=" * 9)
"""


def test_a_users_way_from_a_video_to_a_network_of_ones_own(installed):
    """The commands one after the other in one process, for loading torch takes seconds."""
    assert "saliency" in installed("ctnet", "--help")
    write_video(installed.folder / "own.mp4", np.random.default_rng(0).integers(0, 255, (9, 36, 64, 3), np.uint8))
    fields = "model=ctnet_r26_twin init=none frames=2 size=32 short_side=32 batch_size=8 workers=0 epochs=1"
    commands = [
        "models",
        "flops ctnet_r26_twin --size 32",
        "data make MicroSomething videos --train 24 --val 24 --size 32",
        "data info videos",
        f"train somethingv2 root=videos {fields} warmup_epochs=0 --out run",
        "predict own.mp4 --checkpoint run/model.safetensors",
        "saliency own.mp4 --checkpoint run/model.safetensors --out seen.png",
    ]
    said = installed("python", "-c", WAY.format(commands=[command.split() for command in commands]))
    models, flops, _, info, _, predicted, _, _ = said.split("=" * 9 + "\n")
    assert "ctnet_r26_twin" in models.split()
    assert "GMACs in all" in flops
    assert "24 classes" in info
    assert len(predicted.splitlines()) == 5
    assert (installed.folder / "seen.png").read_bytes().startswith(b"\x89PNG")
