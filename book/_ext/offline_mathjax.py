"""Renders formulas with the MathJax 2 that the package jupyter_server_mathjax installs, instead of one from a CDN."""

import shutil
from pathlib import Path

import jupyter_server_mathjax
from sphinx.application import Sphinx

CONFIG = {
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
    app.config.mathjax2_config = CONFIG
    app.config.mathjax3_config = None


def _copy(app: Sphinx) -> None:
    source = Path(jupyter_server_mathjax.__file__).parent / "static"
    shutil.copytree(source, Path(app.outdir) / "_static" / "mathjax", dirs_exist_ok=True)


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect to the build."""
    app.connect("config-inited", _configure, priority=900)
    app.connect("builder-inited", _copy)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
