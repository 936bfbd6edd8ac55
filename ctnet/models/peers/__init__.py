"""The networks that the paper compares CT-Net with (Tables 3 and 4): one file per method, one interface."""

from collections.abc import Callable

from ctnet.models.tsn import VideoModel

PEERS: dict[str, Callable[..., VideoModel]] = {}
"""Name -> builder, called with num_classes, num_frames, dropout and weights (None or "imagenet")."""
