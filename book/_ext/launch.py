"""Buttons that open a chapter in Binder or in Colab, in a clone of a public repository.

Which repository that is says git: the remote "origin", if it is on GitHub. Pages of another clone have no such buttons.
Binder needs no account: it opens the chapters in the repository, with the packages of `environment.yml`. Colab opens a
single notebook. So each chapter lies in the folder `colab` beside the pages once more, with a first cell that fetches
the rest, and is opened from there: from the branch `gh-pages`, which the pages are published on.
"""

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import nbformat
from nbformat.v4 import new_code_cell
from sphinx.application import Sphinx

from study.building.inputs import Repository, repository

PUBLISHED, FOLDER = "gh-pages", "colab"
FIRST_CELL = """\
# Colab starts with this notebook alone: fetch the package, the results and what chapters import.
import sys

!git clone --quiet --depth 1 --branch {branch} {address} ctnet
!{{sys.executable}} -m pip install --quiet --editable "./ctnet[chapters]"
%cd ctnet/book
sys.path.insert(0, "..")"""


def _write_notebooks(found: Repository, app: Sphinx, exception: Exception | None) -> None:
    if exception:
        return  # whose pages are not published
    folder = Path(app.outdir) / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    first = new_code_cell(FIRST_CELL.format(branch=found.branch, address=found.address), id="fetch")
    for source in [Path(app.env.doc2path(name)) for name in app.env.found_docs]:
        if source.suffix == ".ipynb":
            notebook = nbformat.read(source, as_version=4)
            notebook.cells.insert(0, first)
            nbformat.write(notebook, folder / source.name)


def _add_colab(found: Repository, app: Sphinx, page: str, template: str, context: dict[str, Any], tree: object) -> None:
    url = f"https://colab.research.google.com/github/{found.name}/blob/{PUBLISHED}/{FOLDER}/{page}.ipynb"
    button = {"type": "link", "text": "Colab", "tooltip": "Launch on Colab", "icon": "_static/images/logo_colab.png"}
    for group in context.get("header_buttons", []):
        if group.get("label") == "launch-buttons":
            group["buttons"].append(button | {"url": url})


def _configure(app: Sphinx, config: Any) -> None:
    found = repository(Path(app.srcdir))
    if found is None:
        return
    config.html_theme_options = config.html_theme_options | {
        "repository_url": found.address,
        "repository_branch": found.branch,
        "path_to_docs": "book",
        "use_repository_button": True,
        "launch_buttons": {"binderhub_url": "https://mybinder.org", "notebook_interface": "jupyterlab"},
    }
    app.connect("html-page-context", partial(_add_colab, found), priority=900)  # behind the theme's own buttons
    app.connect("build-finished", partial(_write_notebooks, found))


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect to the build."""
    app.connect("config-inited", _configure)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
