"""The numbers that the paper prints, read from `results/published`."""

import json
import os
from pathlib import Path
from typing import Any

import pandas as pd

TABLES = ("1", "2a", "2b", "2c", "2d", "2e", "2f", "2g", "2h", "3", "4", "5", "6", "7", "8")


def results_dir() -> Path:
    """Folder of the results: that of the clone this package is run from, or `CTNET_RESULTS`.

    Raises:
        FileNotFoundError: when there is none, as in a package that was copied out of its repository.
    """
    folder = Path(os.environ.get("CTNET_RESULTS", Path(__file__).parents[2] / "results"))
    if not (folder / "published").is_dir():
        raise FileNotFoundError(f"no results in {folder}: run from a clone of the repository, or set CTNET_RESULTS")
    return folder


def _read(name: str) -> dict[str, Any]:
    return json.loads((results_dir() / "published" / f"{name}.json").read_text())


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
