"""What can be measured on a network without training it."""

from ctnet.analysis.cost import Cost, count_cost
from ctnet.analysis.receptive_field import ReceptiveField, progressive_fields, receptive_field

__all__ = ["Cost", "ReceptiveField", "count_cost", "progressive_fields", "receptive_field"]
