"""The network of the authors' code, rebuilt literally from what is known of its checkpoints."""

import torchvision
from torch import nn


def unit(in_channels, out_channels, kernel, groups):
    padding = tuple(extent // 2 for extent in kernel)
    conv = nn.Conv3d(in_channels, out_channels, kernel, padding=padding, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm3d(out_channels), nn.ReLU())


class OfficialAttention(nn.Module):
    def __init__(self, channels, kernel, groups, pooled):
        super().__init__()
        padding = tuple(extent // 2 for extent in kernel)
        self.pooled = pooled
        self.fc1 = unit(channels, channels // 4, kernel, groups)
        conv = nn.Conv3d(channels // 4, channels, kernel, padding=padding, groups=groups, bias=False)
        self.fc2 = nn.Sequential(conv, nn.Sigmoid())

    def forward(self, x):
        return x * self.fc2(self.fc1(x.mean(self.pooled, keepdim=True)))


class OfficialModule(nn.Module):
    def __init__(self, channels, x, y, frames):
        super().__init__()
        self.x, self.y, self.frames = x, y, frames
        for number, (letter, groups) in enumerate((("x", x), ("y", y)), start=1):
            setattr(self, f"conv{number}_{letter}", unit(channels, channels, (1, 3, 3), groups))
            setattr(self, f"conv{number}_z", unit(channels, channels, (3, 1, 1), groups))
            setattr(self, f"s{letter}_attention", OfficialAttention(channels, (1, 3, 3), groups, 2))
            setattr(self, f"t{letter}_attention", OfficialAttention(channels, (3, 1, 1), groups, (3, 4)))
            setattr(self, f"c{letter}_attention", OfficialAttention(channels, (1, 1, 1), groups, (3, 4)))
        self.fusion = unit(channels, channels, (1, 1, 1), 1)

    def forward(self, x):
        x = x.reshape(-1, self.frames, *x.shape[1:]).transpose(1, 2)
        n, c, t, h, w = x.shape
        x = self.cx_attention(self.sx_attention(self.conv1_x(x)) + self.tx_attention(self.conv1_z(x)))
        x = self.fusion(x)
        x = x.reshape(n, self.x, self.y, t, h, w).transpose(1, 2).reshape(n, c, t, h, w)
        x = self.cy_attention(self.sy_attention(self.conv2_y(x)) + self.ty_attention(self.conv2_z(x)))
        x = x.reshape(n, self.y, self.x, t, h, w).transpose(1, 2).reshape(n, c, t, h, w)
        return x.transpose(1, 2).reshape(-1, c, h, w)


class OfficialNet(nn.Module):
    """Input (N, T*3, H, W), frame-major; the names are those of the authors' state dict."""

    def __init__(self, classes=174, frames=4):
        super().__init__()
        self.base_model = torchvision.models.resnet50()
        self.frames = frames
        for layer, channels, x, y in ((1, 64, 8, 8), (2, 128, 8, 16), (3, 256, 16, 16), (4, 512, 16, 32)):
            for index, block in enumerate(getattr(self.base_model, f"layer{layer}")):
                if index % 2:
                    block.conv1 = nn.Sequential(block.conv1, block.bn1)
                    block.conv2 = OfficialModule(channels, x, y, frames)
                    block.conv3 = nn.Sequential(block.conv3, block.bn3)
                    block.bn1 = block.bn2 = block.bn3 = nn.Identity()
        self.base_model.fc = nn.Identity()
        self.new_fc = nn.Linear(2048, classes)

    def forward(self, x):
        scores = self.new_fc(self.base_model(x.reshape(-1, 3, *x.shape[2:])))
        return scores.reshape(-1, self.frames, scores.shape[1]).mean(1)
