"""One run of training, to be killed and resumed at any moment: what it consists of, its files and its state."""

import csv
import io
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ctnet.data import VideoError, Videos
from ctnet.data.skipping import add_to_skip_list, read_skip_list
from ctnet.engine.checkpoint import (
    behaviour,
    describe,
    part_of,
    read_tensors,
    save_model,
    write_tensors,
)
from ctnet.engine.evaluation import Scores, check_same_videos, data_identity, evaluate
from ctnet.engine.loading import Batches, Loader, eval_data, load_split, train_data
from ctnet.engine.optimizers import build_optimizer
from ctnet.engine.place import Place
from ctnet.engine.preparation import build_model, channels_last, choose_precision, freeze, recompute_activations
from ctnet.engine.recipe import EXECUTION, REPAIRS, Recipe
from ctnet.files import remove_scratch, write_text
from ctnet.models import VideoModel

STATE, MODEL, METRICS, SCORES = "state.safetensors", "model.safetensors", "metrics", "scores.npz"
BEST, UNREADABLE = "best.safetensors", "unreadable.txt"
REPLACED = 0.01  # largest share of the training videos that others may stand for
ASKED = 5  # steps between two times that several processes ask each other whether to stop


@dataclass
class Progress:
    """How far a run has come: the epoch, the step in it, and what was measured on the way."""

    epoch: int = 0
    step: int = 0
    losses: list[float] = field(default_factory=list)  # of every step so far
    changes: list[dict[str, Any]] = field(default_factory=list)  # to what the run reads, when it was resumed
    notes: list[str] = field(default_factory=list)  # what a user should know of its start, and of every resumption
    epochs: list[dict[str, float]] = field(default_factory=list)  # a row for each finished epoch


class Run:
    """All that one run consists of, built from its recipe or from the state that an earlier process left."""

    def __init__(
        self, recipe: Recipe, out: Path, place: Place, resume: bool, videos: Mapping[str, Videos] | None = None
    ) -> None:
        self.recipe, self.out, self.place = recipe, out, place
        if place.first:
            for name in (STATE, MODEL, BEST, SCORES, f"{METRICS}.csv", f"{METRICS}.json"):
                remove_scratch(out / name)
        self.precision = choose_precision(recipe.precision, place.device)
        torch.manual_seed(recipe.seed)
        if videos is not None:
            _check_videos(videos)
        learnt = videos["train"] if videos is not None else load_split(recipe, "train")
        self.classes = learnt.class_names
        held = (out / STATE).exists()
        start = recipe.override({"init": "none"}) if held and resume else recipe  # the state has all weights
        if not held and (left := [name for name in (MODEL, SCORES) if (out / name).exists()]):
            raise ValueError(f"{out} holds {left[0]} of a run whose state is gone: move it, or give another directory")
        self.notes: list[str] = []  # what a user should know before the run begins
        self.model = channels_last(build_model(start, self.classes, self.notes).to(place.device))
        self.train_set = train_data(recipe, self.model, learnt)
        self.test_set = eval_data(recipe, self.model, videos=videos["val"] if videos is not None else None)
        for use, clips in (("training", self.train_set), ("validation", self.test_set)):
            self.notes += [f"{use}: {note}" for note in clips.notes]
        self.batches = Batches(len(self.train_set), recipe.batch_size, recipe.seed, place, recipe.clips_per_device)
        if recipe.mixup and min(self.batches.pieces) == 1:
            raise ValueError(
                "mixup blends clips that a device has at once: it needs two or more, raise clips_per_device"
            )
        self._check_schedule()
        if recipe.tensorboard:
            summary_writer()
        unreadable = out / UNREADABLE if recipe.unreadable == "replace" else None
        self.loader = Loader(self.train_set, self.batches, recipe.workers, place, unreadable)
        self.optimizer = build_optimizer(self.model, recipe)
        self.scaler = torch.amp.GradScaler(place.device.type, enabled=self.precision == torch.float16)
        self.progress = Progress()
        self.seconds = self.seconds_waiting = 0.0  # of the epoch, in this process
        self.first_step = 0  # of the epoch, in this process
        self.scores: Scores | None = None
        self.asked: list[int] = []  # signals that ask to stop
        self.unreadable = 0  # training videos of the epoch
        average = _mean_of(recipe.ema)
        self.mean = AveragedModel(self.model, multi_avg_fn=average, use_buffers=True) if recipe.ema else None
        self._resume(resume)
        self.progress.notes += [note for note in self.notes if note not in self.progress.notes]
        self._check_places()
        self.forward = self._executable()

    def _check_schedule(self) -> None:
        """Refuse a run that learns nothing: the rate of its only step is the end of the cosine."""
        recipe, steps = self.recipe, self.batches.steps
        if not any(recipe.lr_at((step + 1) / steps) for step in range(recipe.epochs * steps)):
            raise ValueError(f"a run of one step has rate 0: raise epochs, or lower batch_size={recipe.batch_size}")

    def _check_places(self) -> None:
        """Refuse to go on from different states; a process that sees another disk than the first would begin anew."""
        for clips in (self.train_set, self.test_set):
            check_same_videos(clips, self.place)
        own = torch.tensor([[self.progress.epoch, self.progress.step]], device=self.place.device)
        found = self.place.interleave(own, self.place.world).tolist()
        if any(position != found[0] for position in found):
            told = ", ".join(f"epoch {epoch + 1} step {step}" for epoch, step in found)
            raise ValueError(f"the processes would go on from different states ({told}): give all the same {self.out}")

    @property
    def is_finished(self) -> bool:
        """Whether all epochs are trained and everything is written."""
        return self.progress.epoch == self.recipe.epochs and all((self.out / name).exists() for name in (MODEL, SCORES))

    @property
    def reads_other_clips(self) -> bool:
        """Whether the clips are not those that the state in the directory was trained and tested on."""
        now = {"epoch": self.progress.epoch + 1, "step": self.progress.step}
        found = [change for change in self.progress.changes if change.items() >= now.items()]
        return any(change["field"] in self.clips for change in found)

    @property
    def trained(self) -> VideoModel:
        """The network that is tested and kept: with the mean of the weights, where a recipe asks for one."""
        return self.model if self.mean is None else self.mean.module  # type: ignore[return-value]

    def is_stopped(self, step: int) -> int:
        """Number of the signal that asks some process to stop behind a step; 0 if none does, or nobody looks yet."""
        own = self.asked[0] if self.asked else 0
        if self.place.world == 1:
            return own
        if (step + 1) % ASKED and step + 1 < self.batches.steps:
            return 0
        told = torch.tensor([[own]], device=self.place.device)
        return int(self.place.interleave(told, self.place.world).max())

    def autocast(self) -> torch.autocast:
        """Mixed precision, where it was chosen."""
        return torch.autocast(self.place.device.type, self.precision, enabled=self.precision != torch.float32)

    def _executable(self) -> Any:
        """The model as it is called in training: synchronised, compiled, recomputing, distributed as asked."""
        model: Any = self.model
        freeze(model, self.recipe)
        if self.recipe.sync_bn:
            if self.place.device.type != "cuda":
                raise ValueError("sync_bn needs GPUs: leave it out on a CPU")
            if self.place.world > 1:
                self.model = model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        if self.recipe.activation_checkpointing:
            if self.recipe.compile:
                raise ValueError("compile and activation_checkpointing do not go together: leave one of them out")
            recompute_activations(model)
        if self.place.world > 1:
            devices = [self.place.device] if self.place.device.type == "cuda" else None
            model = DistributedDataParallel(model, device_ids=devices)
        if self.recipe.compile:  # what is distributed: gradients then travel while others are computed
            model = torch.compile(model, backend=self.recipe.compile)
        return model

    def evaluate(self, progress: bool) -> Scores:
        """Scores of the validation clips, with the first process's statistics of batch normalisation: those saved."""
        self.place.share(self.trained.buffers())
        return evaluate(
            self.trained,
            self.test_set,
            self.place,
            batch_size=2 * (self.recipe.clips_per_device or self.batches.share),
            precision=choose_precision(self.recipe.precision, self.place.device, testing=True),
            workers=self.recipe.workers,
            progress=progress,
        )

    def start_epoch(self) -> Iterator[Any]:
        """Make everything ready for the epoch of `progress`; returns its batches from the step of `progress` on."""
        self.model.train()
        freeze(self.model, self.recipe)
        self.train_set.set_epoch(self.progress.epoch)
        if self.place.first or self.progress.step == 0:
            self._look_again(self.progress.step > 0)
        self.place.wait()  # until it is gone for all
        self.first_step = self.progress.step
        self.batches.start(self.progress.epoch, self.first_step)
        return self.timed(iter(self.loader))

    def timed(self, batches: Iterator[Any]) -> Iterator[Any]:
        """Pass batches on, and add up the seconds spent waiting for them."""
        before = time.perf_counter()
        for batch in batches:
            self.seconds_waiting += time.perf_counter() - before
            yield batch
            before = time.perf_counter()

    def note(self, losses: list[Tensor], step: int) -> None:
        """Record the losses of some steps, up to `step`; all processes raise when one, or a weight, is not finite."""
        values = self.place.mean(torch.stack(losses)).tolist()
        again = "lower lr, or lengthen warmup_epochs"
        if (self.out / STATE).exists():
            again += f"; a run in another directory can begin from the last good state, init={self.out / STATE}"
        if not np.isfinite(values).all():
            at = self.progress.step + int(np.flatnonzero(~np.isfinite(values))[0])
            found = values[at - self.progress.step]
            raise RuntimeError(f"the loss is {found} at step {at + 1} of epoch {self.progress.epoch + 1}: {again}")
        if not torch.stack([parameter.detach().isfinite().all() for parameter in self.model.parameters()]).all():
            raise RuntimeError(f"a weight is not finite behind step {step} of epoch {self.progress.epoch + 1}: {again}")
        self.progress.losses += values
        self.progress.step = step

    def finish_epoch(self) -> None:
        """Close the epoch's row of metrics, and save."""
        done, steps, scores = self.progress, self.batches.steps, self.scores
        row: dict[str, float] = {"epoch": done.epoch + 1, "lr": self.recipe.lr_at(done.epoch + 1)}
        row["train_loss"] = float(np.mean(done.losses[-steps:]))
        if scores is not None:
            own = scores.probabilities[np.arange(len(scores.labels)), scores.labels]
            row["val_loss"] = float(-np.log(np.maximum(own, 1e-12)).mean())
            row |= {f"val_top{k}": scores.accuracy(k) for k in (1, 5)}
            kept = [each["val_top1"] for each in done.epochs if each.get("kept")]
            if self.recipe.keep_best and row["val_top1"] > max(kept, default=-1.0):
                row["kept"] = 1
                if self.place.first:
                    save_model(self.out / BEST, self.trained, self.classes, self.recipe)
        spent = max(self.seconds, 1e-9)
        row["clips_per_second"] = max(steps - self.first_step, 0) * self.recipe.batch_size / spent
        row["waiting_for_data"] = self.seconds_waiting / spent
        if self.recipe.unreadable == "replace":
            row["unreadable"] = self.unreadable
        self.seconds = self.seconds_waiting = 0.0
        done.epochs.append(row)
        done.epoch, done.step = done.epoch + 1, 0
        last = done.epoch == self.recipe.epochs
        self.scores = scores if last else None
        self.save()
        if self.place.first:
            self._write_metrics()
            if self.recipe.tensorboard:
                write_tensorboard(self.out / "tensorboard", row)

    def _look_again(self, resumed: bool) -> None:
        """Empty the list of unreadable videos, but for those of an epoch's earlier steps that are so still."""
        path, names = self.out / UNREADABLE, self.train_set.names
        listed = read_skip_list(path, names)[0] if resumed and path.exists() else set()
        path.unlink(missing_ok=True)
        for index, name in enumerate(names) if listed else ():
            if name in listed:
                try:
                    self.train_set[index]
                except VideoError as error:
                    add_to_skip_list(path, name, str(error))

    def count_unreadable(self) -> None:
        """Count the training videos that could not be read in this epoch.

        Raises:
            RuntimeError: on all processes, when others stand for too many.
        """
        path = self.out / UNREADABLE
        listed = read_skip_list(path, self.train_set.names)[0] if path.exists() else ()
        counts = self.place.interleave(torch.tensor([[len(listed)]], device=self.place.device), self.place.world)
        self.unreadable = int(counts.max())  # where each machine has a disk of its own, no list is whole
        if self.unreadable > max(1, REPLACED * len(self.train_set)):
            raise RuntimeError(
                f"{self.unreadable} of {len(self.train_set)} training videos cannot be read, see {path}: mend them, "
                "or leave them out with a copy of that file, skip=FILE"
            )

    def _write_metrics(self) -> None:
        rows = self.progress.epochs
        columns = list(dict.fromkeys(key for row in rows for key in row))
        table = io.StringIO()
        writer = csv.DictWriter(table, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(self.out / f"{METRICS}.csv", table.getvalue())
        content = {"recipe": self.recipe.to_dict(), "epochs": rows, "losses": self.progress.losses}
        content |= {"notes": self.progress.notes} if self.progress.notes else {}
        content |= {"changes": self.progress.changes} if self.progress.changes else {}
        write_text(self.out / f"{METRICS}.json", json.dumps(content))

    def finish(self) -> None:
        """Write the trained model and its scores. The state stays, and says that the run is done."""
        if self.place.first:
            self._write_metrics()
            save_model(self.out / MODEL, self.trained, self.classes, self.recipe)
            assert self.scores is not None
            self.scores.save(self.out / SCORES)
        self.place.wait()

    # -- State -------------------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Write all that is needed to go on from here.

        The learning rate, the order of the clips and every random number follow from the recipe and the position, so
        the position stands for the state of schedule, sampler and generators.
        """
        if self.place.first:
            tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
            if self.mean is not None:
                tensors |= {f"mean.{name}": tensor for name, tensor in self.mean.state_dict().items()}
            tensors["losses"] = torch.tensor(self.progress.losses)  # they may be many, and a description is short
            names = {id(parameter): name for name, parameter in self.model.named_parameters()}
            for parameter, state in self.optimizer.state.items():
                tensors |= {f"optimizer.{part}.{names[id(parameter)]}": value for part, value in state.items()}
            write_tensors(
                self.out / STATE,
                tensors,
                describe(self.model, self.classes, self.recipe)
                | {
                    "progress": vars(self.progress) | {"losses": []},
                    "scaler": self.scaler.state_dict(),
                    "clips": self.clips,
                    "behaviour": behaviour(self.recipe, self.recipe.model),
                },
            )
        self.place.wait()

    def _resume(self, resume: bool) -> None:
        path = self.out / STATE
        if not path.exists():
            return
        if not resume:
            raise ValueError(f"{self.out} holds a run already: resume it, or give another directory")
        tensors, about = read_tensors(path)
        try:
            theirs = Recipe(**about["recipe"]).to_dict()
            progress, classes, scaler = Progress(**about["progress"]), about["classes"], about["scaler"]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} holds no state of a run that this version can go on with ({error})") from error
        ours = json.loads(json.dumps(self.recipe.to_dict()))  # as in the file, tuples as lists
        other = [
            f"{key} is {theirs[key]!r} there and {ours[key]!r} here"
            for key in sorted(ours.keys() - EXECUTION - REPAIRS)
            if ours[key] != theirs[key]
        ]
        if classes != self.classes:
            other.append("the dataset has other classes")
        if other:
            raise ValueError(f"{self.out} holds a run of another recipe ({'; '.join(other)}): give another directory")
        self.model.load_state_dict(part_of(tensors, "model."))
        if self.mean is not None:
            self.mean.load_state_dict(part_of(tensors, "mean."))
        kept: dict[str, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("optimizer."):
                _, part, name = key.split(".", 2)
                kept.setdefault(name, {})[part] = value
        if kept.keys() - dict(self.model.named_parameters()).keys():
            raise ValueError(f"{path} was written by another version, which kept its optimizer otherwise: start anew")
        for name, parameter in self.model.named_parameters():
            for part, value in kept.get(name, {}).items():
                alike = value.shape == parameter.shape  # else a counter, which stays on the CPU
                own = torch.empty_like(parameter).copy_(value) if alike else value.clone()  # the file is let go
                self.optimizer.state[parameter][part] = own
        progress.losses = tensors["losses"].tolist() if "losses" in tensors else progress.losses
        if scaler:  # that of a run in another precision is empty
            self.scaler.load_state_dict(scaler)
        self.progress = progress
        read = {key: (theirs[key], ours[key]) for key in sorted(REPAIRS | {"root"})}
        read |= {use: (about.get("clips", {}).get(use, clips), clips) for use, clips in self.clips.items()}
        today = behaviour(self.recipe, self.recipe.model)
        read["behaviour"] = (about.get("behaviour", today), today)
        for key, (before, now) in read.items():
            if before != now:
                moment = {"epoch": progress.epoch + 1, "step": progress.step}
                progress.changes.append({"field": key, "before": before, "now": now, **moment})
                self.notes.append(f"resumed with another {key}: it was {before!r} and is {now!r}")

    @cached_property
    def clips(self) -> dict[str, str]:
        """What the run reads: for each use the number of clips, and what tells them from others."""
        used = {"training clips": self.train_set, "validation clips": self.test_set}
        return {use: f"{len(clips)} ({data_identity(clips)})" for use, clips in used.items()}


def _mean_of(decay: float) -> Callable[..., None]:
    """The moving mean for `AveragedModel`; what is counted in whole numbers, such as indices, is taken as it is."""
    average = get_ema_multi_avg_fn(decay)

    def update(means: list[Tensor], values: list[Tensor], count: Any) -> None:  # of one type
        if means[0].is_floating_point():
            average(means, values, count)
        else:
            for mean, value in zip(means, values, strict=True):
                mean.copy_(value)

    return update


def _check_videos(videos: Mapping[str, Videos]) -> None:
    """Raise ValueError unless there are videos to train on and to validate on, of the same classes."""
    if missing := {"train", "val"} - videos.keys():
        raise ValueError(f"videos lacks {' and '.join(sorted(missing))}: give both, train and val")
    if videos["train"].class_names != videos["val"].class_names:
        raise ValueError("the videos to train on and to validate on are of different classes")


def summary_writer() -> Any:
    """TensorBoard's writer; raises ValueError where the package is missing."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ValueError("tensorboard=true needs a package: pip install 'ctnet[tensorboard]'") from error
    return SummaryWriter


def write_tensorboard(folder: Path, row: dict[str, float]) -> None:
    """Add a row of metrics to a TensorBoard log."""
    with summary_writer()(str(folder)) as writer:
        for name, value in row.items():
            writer.add_scalar(name, value, int(row["epoch"]))
