"""Interact fields of the modules of Table 1, measured from gradients."""

from typing import Any

CHANNELS = 64
"""Of the modules that are measured."""


def measure_fields() -> dict[str, dict[str, Any]]:
    """What each module's output depends on, as plain data.

    Returns:
        Name -> "extent" in T x H x W; of CT-Modules also "filled", the share of the positions in that box, "sizes",
        those of the sub-dimensions, and "channels", how many interact after each sub-operation.
    """
    from ctnet.analysis import progressive_fields, receptive_field
    from ctnet.models import CTModule, c3d_module, csn_module, r2plus1d_module
    from study.paper import PLAIN

    found: dict[str, dict[str, Any]] = {}
    for name, build in (("C3D", c3d_module), ("R(2+1)D", r2plus1d_module), ("CSN", csn_module)):
        found[name] = {"extent": receptive_field(build(CHANNELS), CHANNELS).extent}
    for k in (1, 2, 3):
        module = CTModule(CHANNELS, sizes=k, **PLAIN)
        fields = progressive_fields(module, CHANNELS)
        found[f"CT K={k}"] = {
            "extent": fields[-1].extent,
            "filled": fields[-1].filled,
            "sizes": module.sizes,
            "channels": [field.channels for field in fields],
        }
    return found
