"""Speed of training the twins, and of CT-Net against the same network written with Conv3d.

    python benchmarks/training.py
    python benchmarks/training.py --threads 2 --precision fp32

First whole epochs of `ctnet.train` on drawn clips, data loading included: clips per second of TSN and CT-Net in turn,
and the share of the time that is spent waiting for data. Then steps of training alone: CT-Net as it is here, where
spatial and temporal convolutions see one memory, against a straightforward version of the same function. That one turns
frames into clips and back, convolves with Conv3d on contiguous memory, transposes channels between sub-operations, and
multiplies attentions as they are written down.
All numbers are medians over the rounds. In each round every contestant has its turn, so that a busy machine slows all.
"""

import argparse
import copy
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import ctnet
from ctnet.engine import choose_precision, get_recipe, train
from ctnet.engine.training import keep_freed_memory
from ctnet.micro import MicroSomething
from ctnet.models import TSN, CTModule, TensorSeparableConv
from ctnet.models.excitation import TensorExcitation, temporal_pool
from ctnet.models.tensor_conv import OnClips, as_clips, as_frames

TWINS = {"TSN": "tsn_r50_twin", "CT-Net": "ctnet_r50_twin"}


def transpose_channels(x: Tensor, size: int) -> Tensor:
    """Bring the next sub-dimension innermost, in contiguous memory."""
    return x.unflatten(1, (-1, size)).transpose(1, 2).flatten(1, 2)


class StraightforwardExcitation(nn.Module):
    """x * sigmoid(...), Eq. 6-8, as one would write it down."""

    def __init__(self, excitation: TensorExcitation) -> None:
        super().__init__()
        self.reduce, self.expand = excitation.reduce, excitation.expand
        self.pooled = (2,) if excitation.pool is temporal_pool else (3, 4)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.expand(self.reduce(x.mean(self.pooled, keepdim=True))).sigmoid()


class StraightforwardModule(nn.Module):
    """A CT-Module (K = 2, PWConv, parallel) in Conv3d, between frames; channels come out in their natural order."""

    def __init__(self, module: CTModule) -> None:
        super().__init__()
        self.sizes = module.sizes
        module = copy.deepcopy(module)
        natural = transpose_channels(torch.arange(module.channels)[None], self.sizes[0])[0].argsort()
        for parameter in (*module.pointwise.parameters(), *module.pointwise.buffers()):
            if parameter.dim():  # the PWConv writes the order of the second sub-operation: undo that
                parameter.data = parameter.data[natural]
        for name, part in list(module.named_modules()):
            parent, _, child = name.rpartition(".")
            if isinstance(part, TensorSeparableConv):
                setattr(module.get_submodule(parent), child, conv3d(part))
            elif isinstance(part, TensorExcitation):
                setattr(module.get_submodule(parent), child, StraightforwardExcitation(part))
        self.first, self.second = module.sub_operations
        (self.pointwise,) = module.pointwise

    def forward(self, frames: Tensor, num_frames: int) -> Tensor:
        x = frames.unflatten(0, (-1, num_frames)).permute(0, 2, 1, 3, 4).contiguous()
        x = transpose_channels(self.pointwise(self.first(x)), self.sizes[0])
        x = transpose_channels(self.second(x), self.sizes[1])
        return x.permute(0, 2, 1, 3, 4).flatten(0, 1)


def conv3d(conv: TensorSeparableConv) -> nn.Conv3d:
    """The same convolution as a Conv3d over the whole clip."""
    weight = conv.conv.weight.detach().reshape(*conv.conv.weight.shape[:2], *conv.kernel)
    padding = tuple(extent // 2 for extent in conv.kernel)
    groups = conv.conv.groups
    full = nn.Conv3d(weight.shape[1] * groups, weight.shape[0], conv.kernel, padding=padding, groups=groups, bias=False)
    full.weight = nn.Parameter(weight.contiguous())
    return full


class Straightforward(nn.Module):
    """A CT-Net in Conv3d and contiguous memory throughout, with the weights of another; same scores."""

    def __init__(self, model: TSN) -> None:
        super().__init__()
        self.model = copy.deepcopy(model)
        for name, module in list(self.model.named_modules()):
            if isinstance(module, OnClips):
                parent, _, child = name.rpartition(".")
                block = self.model.get_submodule(parent)
                setattr(block, child, StraightforwardModule(module.module))
                columns = block.conv3.weight.data
                block.conv3.weight.data = columns[:, module.module.output_order.argsort()].contiguous()

    def forward(self, clips: Tensor) -> Tensor:
        features = self.model.backbone(as_frames(clips).contiguous(), clips.shape[2])
        return self.model.forward_head(as_clips(features, clips.shape[2]))


def trainer(model: nn.Module, clips: Tensor, precision: torch.dtype) -> Callable[[], None]:
    """A step of training on clips in memory."""
    recipe = get_recipe("micro-something")
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=recipe.momentum)
    labels = torch.arange(len(clips)) % 24

    def step() -> None:
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            loss = cross_entropy(model(clips).float(), labels)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_grad)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def compare_epochs(clips: int, rounds: int, precision: str) -> None:
    """Epochs of `ctnet.train`, data loading included."""
    with tempfile.TemporaryDirectory() as folder:
        for split, count in (("train", clips), ("val", 24)):
            MicroSomething(folder, split, count=count, progress=False)
        shared = {"root": folder, "train_clips": clips, "val_clips": 24, "epochs": 1, "warmup_epochs": 0}
        rows: dict[str, list[dict[str, float]]] = {name: [] for name in TWINS}
        for turn in range(rounds):
            for name, model in TWINS.items():
                out = Path(folder, f"{name}-{turn}")
                changes = shared | {"model": model, "precision": precision}
                train(get_recipe("micro-something").override(changes), out, progress=False)
                rows[name].append(json.loads((out / "metrics.json").read_text())["epochs"][0])
    print(f"{'whole epochs':28} {'clips/s':>8}  waiting for data")
    for name, found in rows.items():
        speed, waiting = (
            statistics.median(row[key] for row in found) for key in ("clips_per_second", "waiting_for_data")
        )
        print(f"{name:28} {speed:8.1f}  {waiting:.1%}")


def compare_steps(batch: int, rounds: int, precision: torch.dtype) -> None:
    """Steps of training alone, of three networks in turn."""
    torch.manual_seed(0)
    ours = ctnet.create_model("ctnet_r50_twin", num_classes=24)
    theirs = Straightforward(ours)
    clips = torch.randn(batch, 3, 8, 32, 32)
    with torch.no_grad():
        difference = float((ours.eval()(clips[:2]) - theirs.eval()(clips[:2])).abs().max())
    assert difference < 1e-5, f"the networks differ by {difference}"
    tsn = ctnet.create_model("tsn_r50_twin", num_classes=24)
    contestants = {
        "CT-Net, here": ours.to(memory_format=torch.channels_last),
        "CT-Net, Conv3d": theirs,
        "TSN, here": tsn.to(memory_format=torch.channels_last),
    }
    steps = {name: trainer(model.train(), clips, precision) for name, model in contestants.items()}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(-2, rounds):  # the first two warm up
        for name, step in steps.items():
            begin = time.perf_counter()
            step()
            if turn >= 0:
                seconds[name].append(time.perf_counter() - begin)
    first = seconds["CT-Net, here"]
    print(f"\n{'steps alone':28} {'clips/s':>8}  time, CT-Net here = 1")
    for name, found in seconds.items():
        ratio = statistics.median(other / own for other, own in zip(found, first, strict=True))
        print(f"{name:28} {batch / statistics.median(found):8.1f}  {ratio:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="timed steps of each network")
    parser.add_argument("--epochs", type=int, default=3, help="timed epochs of each network; 0 leaves them out")
    parser.add_argument("--clips", type=int, default=480, help="of an epoch")
    parser.add_argument("--batch", type=int, default=32, help="clips of a step")
    parser.add_argument("--threads", type=int, default=1, help="of a process; the study trains with one")
    parser.add_argument("--precision", default="auto", help="auto, fp32 or bf16")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    precision = choose_precision(options.precision, torch.device("cpu"))
    print(f"{options.threads} threads, {str(precision).removeprefix('torch.')}\n")
    if options.epochs:
        compare_epochs(options.clips, options.epochs, options.precision)
    compare_steps(options.batch, options.rounds, precision)


if __name__ == "__main__":
    main()
