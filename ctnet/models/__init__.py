"""CT-Net and the networks that it is compared with."""

from ctnet.models import peers
from ctnet.models.backbones import BLOCKS, create_backbone, resnet_twin
from ctnet.models.ct_module import CTModule, c3d_module, csn_module, r2plus1d_module
from ctnet.models.ctnet import register_backbone, register_module, replace_convs, select_convs, tensorize
from ctnet.models.excitation import SqueezeExcitation, TensorExcitation
from ctnet.models.official import load_official_checkpoint, read_official_checkpoint
from ctnet.models.registry import create_model, list_models, network_version, register
from ctnet.models.tensor_conv import TensorSeparableConv, sub_dimension_sizes
from ctnet.models.tsn import TSN, VideoModel
from ctnet.models.weights import Weights, find_weights, list_weights

__all__ = [
    "BLOCKS",
    "TSN",
    "CTModule",
    "SqueezeExcitation",
    "TensorExcitation",
    "TensorSeparableConv",
    "VideoModel",
    "Weights",
    "c3d_module",
    "create_backbone",
    "create_model",
    "csn_module",
    "find_weights",
    "list_models",
    "list_weights",
    "load_official_checkpoint",
    "network_version",
    "peers",
    "r2plus1d_module",
    "read_official_checkpoint",
    "register",
    "register_backbone",
    "register_module",
    "replace_convs",
    "resnet_twin",
    "select_convs",
    "sub_dimension_sizes",
    "tensorize",
]
