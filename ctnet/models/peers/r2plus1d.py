"""R(2+1)D (Tran et al., 2018): every 3D convolution is a spatial and a temporal one."""

from torch import nn
from torchvision.models.video.resnet import BasicBlock, Conv2Plus1D, R2Plus1dStem, VideoResNet

from ctnet.models.peers.network3d import Network3D, residual_stages
from ctnet.models.registry import register


class FactorisedConv(Conv2Plus1D):
    """A 3 x 3 x 3 convolution as 1 x 3 x 3 to M channels, BN, ReLU, 3 x 1 x 1 (section 3.5).

    M is such that both have as many weights as the 3 x 3 x 3 convolution would have. torchvision takes one M for the
    two convolutions of a block; here, as in the paper, each has its own.
    """

    def __init__(self, in_planes: int, out_planes: int, midplanes: int, stride: int = 1, padding: int = 1) -> None:
        midplanes = 27 * in_planes * out_planes // (9 * in_planes + 3 * out_planes)
        super().__init__(in_planes, out_planes, midplanes, stride, padding)


@register("r2plus1d34")
def r2plus1d34(num_classes: int = 400, num_frames: int = 32, dropout: float = 0.5) -> Network3D:
    """R(2+1)D with 34 layers, torchvision's `VideoResNet`; any T. Table 4's clips are 32 x 112 x 112."""
    net = VideoResNet(BasicBlock, [FactorisedConv] * 4, [3, 4, 6, 3], R2Plus1dStem, num_classes)
    backbone = nn.Sequential(residual_stages([net.stem, net.layer1, net.layer2, net.layer3, net.layer4]))
    mean, std = (0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)
    return Network3D(backbone, net.fc, num_frames, dropout, input_mean=mean, input_std=std)
