"""What can be measured on a network: cost, receptive field, where it looks; and what several runs allow to be said.

What the package offers is loaded when it is first used: a kept cost is read without torch.
"""

from typing import TYPE_CHECKING

from ctnet.lazy import loaded_when_used

if TYPE_CHECKING:
    from ctnet.analysis.cost import Cost, count_cost
    from ctnet.analysis.fields import ReceptiveField, progressive_fields, receptive_field
    from ctnet.analysis.saliency import (
        class_evidence,
        energy_share,
        grad_cam,
        pointing_game,
        saliency_tubes,
        scatter,
        temporal_concentration,
    )

__all__ = [
    "Cost",
    "ReceptiveField",
    "class_evidence",
    "count_cost",
    "energy_share",
    "grad_cam",
    "pointing_game",
    "progressive_fields",
    "receptive_field",
    "saliency_tubes",
    "scatter",
    "temporal_concentration",
]

__getattr__ = loaded_when_used(
    __name__,
    {
        "cost": ("Cost", "count_cost"),
        "fields": ("ReceptiveField", "progressive_fields", "receptive_field"),
        "saliency": (
            "class_evidence",
            "energy_share",
            "grad_cam",
            "pointing_game",
            "saliency_tubes",
            "scatter",
            "temporal_concentration",
        ),
    },
)
