"""What can be measured on a network: cost, receptive field, where it looks; and what several runs allow to be said."""

from ctnet.analysis.cost import Cost, count_cost
from ctnet.analysis.receptive_field import ReceptiveField, progressive_fields, receptive_field
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
