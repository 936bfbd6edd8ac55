"""Values as they are typed on a command line: YAML without its surprises."""

import re
from typing import Any

import yaml


def read_value(text: str) -> Any:
    """Read a number, a list such as [256, 320], a mapping such as {blocks: 4}, true, false, null, or else a text.

    Numbers are decimal ("010" is 10, "1e-4" is one), dates and words such as "no" are texts.

    Raises:
        ValueError: for what is no YAML, in one line.
    """
    try:
        return yaml.load(text, _Loader) if text else ""
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(str(error).splitlines()[0]) from error


class _Loader(yaml.SafeLoader):
    """Constructs nothing but plain data, and takes fewer texts for something else than YAML 1.1 does."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012


for _tag, _pattern in (
    ("null", r"null|~|"),
    ("bool", r"true|false|True|False"),
    ("int", r"[-+]?[0-9]+"),
    ("float", r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), None)
_Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(loader.construct_scalar(node)))  # type: ignore[arg-type]
