"""Tidying makes no result stale, and a raised version does: tried on a copy of the tree."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tree(tmp_path):
    """A copy of the code and of the results."""
    for part in ("ctnet", "study", "results"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__", "full-scale"))
    return tmp_path


def edit(tree, change):
    """Change the text of every file of code."""
    for path in (*tree.glob("ctnet/**/*.py"), *tree.glob("study/**/*.py")):
        path.write_text(change(path.read_text()))


def stale(tree):
    """Which results are stale, by kind, as the code of the tree sees it."""
    code = """
import json
from study.store import results_dir, stale
kinds = {"runs": "runs/*.json", "costs": "cost/*.json", "saliency": "saliency.json"}
folder = results_dir()
files = {kind: [str(path.relative_to(folder)) for path in folder.glob(pattern)] for kind, pattern in kinds.items()}
assert all(files.values())
print(json.dumps({kind: len(list(stale(found))) for kind, found in files.items()}))
"""
    environment = {name: value for name, value in os.environ.items() if name != "CTNET_RESULTS"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=tree, env=environment | {"PYTHONPATH": str(tree)}, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def test_renaming_moving_and_adding_makes_nothing_stale(tree):
    code = "".join(path.read_text() for path in tree.glob("ctnet/**/*.py"))
    private = set(re.findall(r"\n *def (_[a-z]\w+)\(", code))
    assert len(private) > 50
    names = re.compile(rf"\b({'|'.join(map(re.escape, private))})\b")
    edit(tree, lambda text: names.sub(lambda found: f"{found[0]}_renamed", text))
    (tree / "ctnet" / "engine" / "place.py").rename(tree / "ctnet" / "engine" / "processes.py")
    edit(tree, lambda text: text.replace("ctnet.engine.place import", "ctnet.engine.processes import"))
    peers, recipes = tree / "ctnet" / "models" / "peers", tree / "ctnet" / "engine" / "recipe.py"
    (peers / "shifted.py").write_text((peers / "tsm.py").read_text().replace('("tsm")', '("shifted")'))
    with recipes.open("a") as file:
        file.write('\nRECIPES["another"] = replace(TWIN, epochs=70)\n')
    assert stale(tree) == {"runs": 0, "costs": 0, "saliency": 0}


def test_a_raised_version_makes_what_depends_on_it_stale(tree):
    path = tree / "ctnet" / "analysis" / "cost.py"
    path.write_text(re.sub(r"^VERSION = (\d+)", lambda found: f"VERSION = 1{found[1]}", path.read_text(), flags=re.M))
    found = stale(tree)
    assert found["costs"] == len(list(tree.glob("results/cost/*.json")))
    assert (found["runs"], found["saliency"]) == (0, 0)
