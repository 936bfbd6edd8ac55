"""One list of dependencies, one list of versions: what installs and documents the project must agree."""

import re
import subprocess
import sys
import tomllib
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
PINS = {
    canonicalize_name(name): pinned
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if line and not line.startswith("#")
    for name, pinned in [line.split("==")]
}
LISTED = PROJECT["dependencies"] + [text for extra, listed in EXTRAS.items() if extra != "bench" for text in listed]
REQUIREMENTS = [requirement for requirement in map(Requirement, LISTED) if requirement.name != PROJECT["name"]]


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=lambda requirement: requirement.name)
def test_every_dependency_is_pinned_and_installed_at_its_pin(requirement):
    pin = PINS[canonicalize_name(requirement.name)]
    assert Version(pin) in requirement.specifier
    assert version(requirement.name) == pin


def test_what_the_tests_import_comes_with_them():
    (own,) = (requirement for requirement in map(Requirement, EXTRAS["dev"]) if requirement.name == PROJECT["name"])
    assert own.extras >= {"cluster", "deploy", "peers", "tensorboard"}


def test_the_versions_that_everything_hangs_on():
    assert PINS["torch"] == "2.14.1"
    assert PINS["torchvision"] == "0.29.1"
    assert PINS["jupyter-book"] == "1.0.4.post1"


def test_conda_installs_the_same_thing_as_make():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *packages, from_pip = environment["dependencies"]
    makefile = (ROOT / "Makefile").read_text()
    installs = re.findall(r"pip install (.*) '\.\[(.*?)\]'", makefile)
    assert installs[-1][1] == "book,dev"
    assert all("--constraint constraints.txt" in options for options, _ in installs)
    assert from_pip["pip"] == ["--constraint constraints.txt", f"--editable .[{installs[-1][1]}]"]
    python = next(package for package in packages if package.startswith("python="))
    assert Version(python.partition("=")[2]) in Requirement(f"python{PROJECT['requires-python']}").specifier


def test_pins_name_no_index_and_no_file():
    assert not re.search(r"://|@", (ROOT / "constraints.txt").read_text())


def test_versions_of_the_package_agree():
    import ctnet

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert ctnet.__version__ == PROJECT["version"] == str(citation["version"]) == version("ctnet")


def test_importing_has_no_side_effects_and_needs_no_book():
    unwanted = ("matplotlib", "seaborn", "IPython", "pytorchvideo")
    modules = ["ctnet", *(f"study.{path.stem}" for path in (ROOT / "study").glob("[a-z]*.py"))]
    code = f"import sys, {', '.join(modules)}; print([module for module in {unwanted} if module in sys.modules])"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert done.stderr == ""


def run_code(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_drawn_classes_and_splits_are_told_without_torch():
    code = """
import sys, ctnet, ctnet.micro, ctnet.micro.datasets, ctnet.micro.files
for name, kind in ctnet.micro.MICRO_DATASETS.items():
    split = kind.split("val", fold=kind.folds)
    assert len(split.fingerprint) == 64 and kind.classes[split.label(split.members[0])].name and split.draw(0)
assert ctnet.micro.VERSION and ctnet.__version__
print([name for name in ("torch", "torchvision", "pandas") if name in sys.modules])
"""
    assert run_code(code) == "[]\n"


WAYS = [
    "import ctnet; print(ctnet.create_model.__module__)",
    "from ctnet import create_model; print(create_model.__module__)",
    "from ctnet import *; print(create_model.__module__)",
    "import ctnet; print(getattr(ctnet, 'models').create_model.__module__)",
]


def test_public_names_are_loaded_when_they_are_used():
    """Each way in a process without this package, but with torch, which takes seconds to load."""
    anew = "[sys.modules.pop(name) for name in list(sys.modules) if name.split('.')[0] == 'ctnet']"
    code = f"import sys, torch, torchvision\nfor way in {WAYS}:\n    {anew}\n    exec(way, {{}})"
    assert run_code(code) == len(WAYS) * "ctnet.models.registry\n"


@pytest.mark.parametrize("package", ["analysis", "deploy", "engine"])
def test_parts_load_their_public_names_too(package):
    module = import_module(f"ctnet.{package}")
    assert all(getattr(module, name) for name in module.__all__)
    assert len(module.__all__) == len(set(module.__all__)) > 5
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = module.nothing


def test_a_chapter_that_only_reads_results_does_not_pay_for_torch():
    parts = ("ledger", "chapters.tables", "chapters.accuracy", "chapters.plots", "costs")
    code = "import sys\n" + "".join(f"import study.{part}; print('torch' in sys.modules)\n" for part in parts)
    assert run_code(code) == len(parts) * "False\n"


def test_every_public_name_is_there_and_no_other():
    import ctnet

    assert set(ctnet.__all__) <= set(dir(ctnet))
    assert all(getattr(ctnet, name) for name in ctnet.__all__)
    with pytest.raises(AttributeError, match="no attribute 'creat_model'"):
        _ = ctnet.creat_model


def test_imports_point_one_way():
    """study -> deploy -> engine -> analysis -> micro, data, models -> files, errors, lazy, processes."""
    layers = {"models": set(), "data": set(), "micro": {"data"}, "analysis": {"models", "data", "micro"}}
    layers["engine"] = set(layers)
    layers["deploy"] = set(layers)
    for layer, allowed in layers.items():
        for path in (ROOT / "ctnet" / layer).rglob("*.py"):
            imported = set(re.findall(r"^\s*(?:from|import) ctnet\.(\w+)", path.read_text(), re.MULTILINE))
            assert imported <= allowed | {layer, "errors", "files", "lazy", "processes"}, path
    for name in ("errors", "files", "lazy", "processes"):
        assert not re.search(r"^\s*(?:from|import) ctnet", (ROOT / "ctnet" / f"{name}.py").read_text(), re.MULTILINE)
    for path in (ROOT / "ctnet").rglob("*.py"):
        assert not re.search(r"^\s*(?:from|import) study\b", path.read_text(), re.MULTILINE), path
    for path in (ROOT / "ctnet" / "models").rglob("*.py"):
        for package in re.findall(r"^(?:from|import) (\w+)", path.read_text(), re.MULTILINE):
            assert package in {"torch", "torchvision", "ctnet"} | sys.stdlib_module_names, path


def test_the_files_that_contributors_are_sent_to_are_there():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named = re.findall(r"\b((?:book|ctnet|results|study|tests)/[\w./]+\w)", text)
    assert len(named) > 20
    assert [name for name in named if "NAME" not in name and not (ROOT / name).exists()] == []
