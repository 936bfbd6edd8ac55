"""Keeps the pages from asking the network for anything: formulas come from an installed package, live code goes.

MathJax 2 is copied from the package jupyter_server_mathjax instead of a CDN. The scripts of Thebe, which would load its
library from a CDN, are dropped: the chapters run in JupyterLab, not in the page.
"""

import shutil
from pathlib import Path
from typing import Any

import jupyter_server_mathjax
from sphinx.application import Sphinx

MATHJAX = {
    "config": ["TeX-AMS-MML_HTMLorMML-full.js"],
    "jax": ["input/TeX", "output/HTML-CSS"],
    "showMathMenu": False,
    "messageStyle": "none",
    "HTML-CSS": {
        "availableFonts": [],
        "webFont": "STIX-Web",
        "imageFont": None,
        "linebreaks": {"automatic": True, "width": "container"},
    },
    "tex2jax": {
        "inlineMath": [["\\(", "\\)"]],
        "displayMath": [["\\[", "\\]"]],
        "processClass": "tex2jax_process|mathjax_process|math|output_area",
        "ignoreClass": "tex2jax_ignore|mathjax_ignore|document",
    },
}


def _configure(app: Sphinx, config: object) -> None:
    app.config.mathjax2_config = MATHJAX
    app.config.mathjax3_config = None


def _copy_mathjax(app: Sphinx) -> None:
    source = Path(jupyter_server_mathjax.__file__).parent / "static"
    target = Path(app.outdir) / "_static" / "mathjax"
    if not target.is_dir():  # it stays with the pages that are rendered again
        shutil.copytree(source, target)


def _drop_thebe(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object) -> None:
    scripts = context.get("script_files", [])
    context["script_files"] = [
        script for script in scripts if "thebe" not in f"{script} {getattr(script, 'attributes', '')}".lower()
    ]


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect to the build."""
    app.connect("config-inited", _configure, priority=900)
    app.connect("builder-inited", _copy_mathjax)
    app.connect("html-page-context", _drop_thebe, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
