"""Speed of training the twins, and of CT-Net against the same network written with Conv3d.

    python benchmarks/training.py
    python benchmarks/training.py --threads 2 --precision bf16 --backbone r50_twin

The study's own runs compute with `ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2` in the environment.

First whole epochs of `ctnet.train` on drawn clips, data loading included: clips per second of TSN and CT-Net in turn,
and the share of the time that is spent waiting for data. Then steps of training alone: CT-Net as it is here, where
spatial and temporal convolutions see one memory, against the same function as one would write it down, `study.conv3d`.
All numbers are medians over the rounds. In each round every contestant has its turn, so that a busy machine slows all.
The arithmetic bound is reached when all multiply-adds of a step, forward and twice as many backward, are done at the
rate that a product of two large matrices has here.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import cross_entropy

import ctnet
from ctnet.deploy import matrix_rate
from ctnet.engine import choose_precision, get_recipe, train
from ctnet.engine.preparation import keep_freed_memory
from ctnet.micro import MicroSomething
from study.conv3d import InConv3d

TWINS = {"TSN": "tsn", "CT-Net": "ctnet"}


def trainer(model: nn.Module, clips: torch.Tensor, precision: torch.dtype) -> Callable[[], None]:
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


def compare_epochs(clips: int, rounds: int, precision: str, backbone: str) -> None:
    """Epochs of `ctnet.train`, data loading included."""
    with tempfile.TemporaryDirectory() as folder:
        for split, count in (("train", clips), ("val", 24)):
            MicroSomething(folder, split, count=count, progress=False)
        shared = {"root": folder, "train_clips": clips, "val_clips": 24, "epochs": 1, "warmup_epochs": 0}
        rows: dict[str, list[dict[str, float]]] = {name: [] for name in TWINS}
        for turn in range(rounds):
            for name, model in TWINS.items():
                out = Path(folder, f"{name}-{turn}")
                changes = shared | {"model": f"{model}_{backbone}", "precision": precision}
                train(get_recipe("micro-something").override(changes), out, progress=False)
                rows[name].append(json.loads((out / "metrics.json").read_text())["epochs"][0])
    print(f"{'whole epochs':28} {'clips/s':>8}  waiting for data")
    for name, found in rows.items():
        speed, waiting = (
            statistics.median(row[key] for row in found) for key in ("clips_per_second", "waiting_for_data")
        )
        print(f"{name:28} {speed:8.1f}  {waiting:.1%}")


def compare_steps(batch: int, rounds: int, precision: torch.dtype, backbone: str) -> None:
    """Steps of training alone, of three networks in turn."""
    torch.manual_seed(0)
    ours = ctnet.create_model(f"ctnet_{backbone}", num_classes=24)
    theirs = InConv3d(ours)
    clips = torch.randn(batch, 3, 8, 32, 32)
    with torch.no_grad():
        difference = float((ours.eval()(clips[:2]) - theirs.eval()(clips[:2])).abs().max())
    assert difference < 1e-5, f"the networks differ by {difference}"
    tsn = ctnet.create_model(f"tsn_{backbone}", num_classes=24)
    gmacs = [ctnet.count_cost(model, size=32, frames=8).conv_linear_gmacs for model in (ours, ours, tsn)]
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
    first, rate = seconds["CT-Net, here"], matrix_rate() * torch.get_num_threads()
    bound = f"of the arithmetic bound, {rate:.0f} GFLOP/s in fp32"
    print(f"\n{'steps alone':28} {'clips/s':>8}  time, CT-Net here = 1  {bound}")
    for (name, found), cost in zip(seconds.items(), gmacs, strict=True):
        ratio = statistics.median(other / own for other, own in zip(found, first, strict=True))
        speed = batch / statistics.median(found)
        print(f"{name:28} {speed:8.1f}  {ratio:21.2f}  {speed * 3 * 2 * cost / rate:.0%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="timed steps of each network")
    parser.add_argument("--epochs", type=int, default=3, help="timed epochs of each network; 0 leaves them out")
    parser.add_argument("--clips", type=int, default=480, help="of an epoch")
    parser.add_argument("--batch", type=int, default=32, help="clips of a step")
    parser.add_argument("--threads", type=int, default=1, help="of a process; the study trains with one")
    parser.add_argument("--precision", default="fp32", help="auto, fp32 or bf16; the study trains in fp32")
    parser.add_argument("--backbone", default="r26_twin", help="of the twins; r50_twin has ResNet-50's 16 blocks")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    precision = choose_precision(options.precision, torch.device("cpu"))
    print(f"{options.threads} threads, {str(precision).removeprefix('torch.')}\n")
    if options.epochs:
        compare_epochs(options.clips, options.epochs, options.precision, options.backbone)
    compare_steps(options.batch, options.rounds, precision, options.backbone)


if __name__ == "__main__":
    main()
