"""The numbers that the paper prints, read from `results/published`."""

import os
from pathlib import Path
from typing import Any

import pandas as pd

from study.provenance import read_json

TABLES = ("1", "2a", "2b", "2c", "2d", "2e", "2f", "2g", "2h", "3", "4", "5", "6", "7", "8")


def results_dir() -> Path:
    """Folder of the results: that of the clone this package is run from, or `CTNET_RESULTS`.

    Raises:
        FileNotFoundError: when there is none, as in a package that was copied out of its repository.
    """
    folder = Path(os.environ.get("CTNET_RESULTS", Path(__file__).parents[1] / "results"))
    if not (folder / "published").is_dir():
        raise FileNotFoundError(f"no results in {folder}: run from a clone of the repository, or set CTNET_RESULTS")
    return folder


DATASETS = {
    "somethingv1": "SSv1",
    "somethingv2": "SSv2",
    "kinetics": "Kinetics-400",
    "mini-kinetics": "Mini-Kinetics",
    "ucf101": "UCF101",
    "hmdb51": "HMDB51",
}
"""The paper's datasets by the names that recipes have for them, as its tables call them."""
_COLUMNS = {"v1_": "somethingv1", "v2_": "somethingv2", "mini_kinetics_": "mini-kinetics"}


def dataset_of(table: str, column: str) -> str:
    """The dataset that a table's column of accuracies is of, one of `DATASETS`."""
    if column in DATASETS:
        return column
    usual = "kinetics" if table == "4" else "somethingv1"
    return next((dataset for prefix, dataset in _COLUMNS.items() if column.startswith(prefix)), usual)


def accuracy_columns(printed: pd.DataFrame) -> list[str]:
    """The columns of accuracies in a published table."""
    return [column for column, unit in printed.attrs["units"].items() if unit == "percent"]


def half_a_digit(printed: float) -> float:
    """How far a value may lie from a printed figure that it rounds to; figures have one decimal or none."""
    return 0.5 if isinstance(printed, int) else 0.05


def _read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = read_json(results_dir() / "published" / f"{name}.json")
    return content


def published_table(table: str) -> pd.DataFrame:
    """One table of the paper, as printed: a row each under its id, None where the paper prints nothing.

    Args:
        table: one of `TABLES`, such as "2a".

    The table's title, the paper's claim on it and the units of its columns are in the frame's `attrs`.
    """
    if table not in TABLES:
        raise ValueError(f"the paper has no table {table!r}; its tables are {', '.join(TABLES)}")
    content = _read(f"table_{table}")
    frame = pd.DataFrame(content["rows"], dtype=object).set_index("id")
    frame = frame.where(frame.notna(), None)
    frame.attrs = {key: value for key, value in content.items() if key != "rows"}
    return frame


def row_label(frame: pd.DataFrame, row_id: str) -> str:
    """What a row of a published table is about, in the table's own words: "CT-Net, 2D R50, 8x3x2", "K = 2"."""
    names = {column: value for column, value in frame.loc[row_id].items() if column not in frame.attrs["units"]}
    if "||" in str(names.get("c1")):  # spatial and temporal kernels of two sub-operations: "1x3x3 || 3x1x1"
        return "kernels = " + " and ".join(max(filter(str.isdigit, names[column])) for column in ("c1", "c2"))
    parts = [
        _named(str(column), value)
        for column, value in names.items()
        if column not in ("note", "stages", "pretrain") and value is not None
    ]
    return ", ".join(parts)


_SYMBOLS = {"k": "K", "c1": "C₁", "c2": "C₂"}


def _named(column: str, value: Any) -> str:
    if column == "frames" and str(value).isdigit():
        return f"{value} frames"
    return value if isinstance(value, str) and column not in _SYMBOLS else f"{_SYMBOLS.get(column, column)} = {value}"


def text_claims() -> list[dict[str, Any]]:
    """Claims of the running text: where they stand, what they say, and which other claims decide them."""
    return _read("text_claims")["claims"]


def training_settings() -> list[dict[str, Any]]:
    """How the paper (appendix A.1) and the authors' scripts train, as far as they tell: a setting each, by dataset."""
    return _read("training")["settings"]
