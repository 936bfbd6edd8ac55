"""One training run over a recipe's clips (appendix A.1), to be killed and resumed at any moment."""

import csv
import ctypes
import io
import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.checkpoint import checkpoint
from tqdm.auto import tqdm

from ctnet.data import VideoError, Videos
from ctnet.data.skipping import add_to_skip_list, read_skip_list
from ctnet.engine.checkpoint import (
    behaviour,
    describe,
    load_init,
    part_of,
    read_tensors,
    save_model,
    write_tensors,
)
from ctnet.engine.evaluation import Scores, data_identity, evaluate
from ctnet.engine.loading import Batches, Loader, eval_data, load_split, train_data
from ctnet.engine.optimizers import build_optimizer
from ctnet.engine.place import Place, distributed
from ctnet.engine.recipe import EXECUTION, REPAIRS, Recipe
from ctnet.errors import did_you_mean
from ctnet.files import check_folder, remove_scratch, write_text
from ctnet.models import VideoModel, create_model
from ctnet.models.modes import evaluating
from ctnet.models.tensor_conv import OnClips

STATE, MODEL, METRICS, SCORES = "state.safetensors", "model.safetensors", "metrics", "scores.npz"
BEST, UNREADABLE = "best.safetensors", "unreadable.txt"
REPLACED = 0.01  # largest share of the training videos that others may stand for
SHOWN = 20  # steps between two losses on the bar
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


def train(
    recipe: Recipe,
    out: str | Path,
    *,
    videos: Mapping[str, Videos] | None = None,
    resume: bool = True,
    progress: bool = True,
    on_epoch: Callable[[dict[str, float], VideoModel], object] | None = None,
) -> Scores:
    """Train and test a network as a recipe says; under `torchrun`, together with its other processes.

    Args:
        recipe: what to do.
        out: directory of the run. It gets `state.safetensors` while training, and at the end `model.safetensors`,
            `metrics.csv`, `metrics.json` and `scores.npz` with the scores of the validation clips; also
            `best.safetensors` and `unreadable.txt` where the recipe asks for them.
        videos: "train" and "val" to read in the place of the recipe's dataset, such as a `ctnet.data.VideoList` each.
            The recipe that is kept with the weights still names its own dataset, which `ctnet test` would read.
        resume: go on from the state in `out` if there is one; otherwise a directory that has one is refused.
        progress: show a bar, and what to know before the run begins; that stands in `metrics.json` too.
        on_epoch: called behind every epoch, by the first process, when the state is saved: with the epoch's row of
            `metrics.csv`, and the network in evaluation mode. It may log, test or look at the network; what it raises
            ends the run, which can go on later.

    Returns:
        Scores of the validation clips at the end, one clip and one crop each.

    Raises:
        FileNotFoundError: when the dataset or the initial weights are missing.
        ValueError: when the recipe does not fit the machine or the data, or `out` holds a run of another recipe or what
            is left of one whose state is gone.
        RuntimeError: when the loss or a weight is no longer finite, or too many training videos cannot be read.
        SystemExit: when SIGTERM or SIGUSR1 asked to stop, as a cluster does; the state is then saved.
    """
    check_folder(out)
    with distributed() as place:
        if place.device.type == "cpu":
            keep_freed_memory()
        torch.backends.cudnn.benchmark = True  # every step has clips of one shape
        run = Run(recipe, Path(out), place, resume, videos)
        if run.is_finished:
            if videos is not None and run.reads_other_clips:
                raise ValueError(f"{out} holds a finished run on other videos: give another directory")
            return Scores.load(run.out / SCORES)
        if progress and place.first:
            for note in run.notes:
                tqdm.write(note)
        with closing(run.loader):
            for epoch in range(run.progress.epoch, recipe.epochs):
                with signals() as run.asked:  # after them the state is saved, and nothing needs to be
                    train_one_epoch(run, progress)
                if (epoch + 1) % recipe.eval_every == 0 or epoch + 1 == recipe.epochs:
                    run.scores = run.evaluate(progress)
                run.finish_epoch()
                if progress and place.first:
                    tqdm.write(summary(run.progress.epochs[-1], recipe.epochs))
                if on_epoch is not None and place.first:
                    with evaluating(run.trained):
                        on_epoch(dict(run.progress.epochs[-1]), run.trained)
                    run.optimizer.zero_grad(set_to_none=True)  # of gradients that it took
        if run.scores is None:  # killed between the last epoch and the end
            run.scores = run.evaluate(progress)
        run.finish()
        return run.scores


def train_one_epoch(run: "Run", progress: bool = True) -> None:
    """Train from `run.progress` to the end of its epoch, saving on the way."""
    recipe, done, steps = run.recipe, run.progress, run.batches.steps
    bar = tqdm(
        total=recipe.epochs * steps * recipe.batch_size,  # so that the time left is that of the whole run
        initial=(done.epoch * steps + done.step) * recipe.batch_size,
        desc=f"epoch {done.epoch + 1}/{recipe.epochs}",
        unit="clip",
        leave=False,
        disable=not (progress and run.place.first),
        mininterval=0.1 if sys.stderr.isatty() else 60,  # a file keeps every line
    )
    batches, began = run.start_epoch(), time.perf_counter()
    losses: list[Tensor] = []  # read only where they are needed: reading waits for the GPU
    for step in range(done.step, steps):
        losses.append(train_step(run, step, batches))
        if not bar.disable and (step + 1) % SHOWN == 0:
            bar.set_postfix(loss=f"{float(losses[-1]):.3f}", refresh=False)
        bar.update(recipe.batch_size)
        stopped = run.is_stopped(step)
        if (step + 1) % recipe.save_every == 0 or step + 1 == steps or stopped:
            run.note(losses, step + 1)
            losses = []
            run.save()  # at an epoch's end too: testing may fail
        if stopped:
            bar.close()
            raise SystemExit(128 + stopped)
    bar.close()
    run.seconds = time.perf_counter() - began
    run.count_unreadable()


def summary(row: dict[str, float], epochs: int) -> str:
    """A finished epoch in one line."""
    tested = f", validation top-1 {row['val_top1']:.1%}, top-5 {row['val_top5']:.1%}" if "val_top1" in row else ""
    tested += f", {row['unreadable']} videos unreadable" if row.get("unreadable") else ""
    speed = f"{row['clips_per_second']:.0f} clips/s, {row['waiting_for_data']:.0%} of the time waiting for data"
    return f"epoch {row['epoch']:.0f}/{epochs}: loss {row['train_loss']:.3f}{tested}; {speed}"


def train_step(run: "Run", step: int, batches: Iterator[Any]) -> Tensor:
    """One step of the optimizer on the next batch, which comes in one or more pieces; returns its mean loss, ()."""
    recipe, place, scaler = run.recipe, run.place, run.scaler
    seed_step(recipe.seed, run.progress.epoch * run.batches.steps + step, place.rank)
    lr = recipe.lr_at(run.progress.epoch + (step + 1) / run.batches.steps)
    for group in run.optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]
    loss = torch.zeros((), device=place.device)
    own = mixup_share(recipe.mixup)
    for piece in range(len(run.batches.pieces)):
        clips, labels = (part.to(place.device, non_blocking=True) for part in next(batches))
        clips, others = (mixed(clips, own), labels.roll(1)) if own < 1 else (clips, labels)
        last = piece == len(run.batches.pieces) - 1
        with nullcontext() if last or place.world == 1 else run.forward.no_sync(), run.autocast():
            scores = run.forward(clips).float()
            measure = partial(cross_entropy, scores, label_smoothing=recipe.label_smoothing, reduction="sum")
            part = measure(labels) if own == 1 else own * measure(labels) + (1 - own) * measure(others)
            part = part / run.batches.share
        scaler.scale(part).backward()
        loss += part.detach()
    if recipe.clip_grad is not None:
        scaler.unscale_(run.optimizer)
        nn.utils.clip_grad_norm_(run.model.parameters(), recipe.clip_grad)
    scaler.step(run.optimizer)
    scaler.update()
    run.optimizer.zero_grad(set_to_none=True)
    if run.mean is not None:
        run.mean.update_parameters(run.model)
    return loss


def mixup_share(alpha: float) -> float:
    """A clip's own share when clips are blended (Zhang et al., 2018), drawn from Beta(alpha, alpha); 1 for alpha 0."""
    return float(torch.distributions.Beta(alpha, alpha).sample()) if alpha else 1.0


def mixed(clips: Tensor, share: float) -> Tensor:
    """Clips (N, C, T, H, W), each with its own share and the rest of its neighbour in the batch."""
    return clips.lerp(clips.roll(1, 0), 1 - share)


@contextmanager
def signals() -> Iterator[list[int]]:
    """A list that gets the number of a SIGTERM or SIGUSR1 that arrives meanwhile; a second one acts as it always does.

    It stays empty outside the main thread.
    """
    asked: list[int] = []
    kinds = [kind for name in ("SIGTERM", "SIGUSR1") if (kind := getattr(signal, name, None)) is not None]
    if threading.current_thread() is not threading.main_thread():
        kinds = []
    before = {kind: signal.getsignal(kind) or signal.SIG_DFL for kind in kinds}

    def note(number: int, frame: object) -> None:
        asked.append(number)
        signal.signal(number, before[signal.Signals(number)])

    for kind in kinds:
        signal.signal(kind, note)
    try:
        yield asked
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


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
        average = get_ema_multi_avg_fn(recipe.ema)
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
            names = {id(parameter): name for name, parameter in self.model.named_parameters()}
            for parameter, state in self.optimizer.state.items():
                tensors |= {f"optimizer.{part}.{names[id(parameter)]}": value for part, value in state.items()}
            write_tensors(
                self.out / STATE,
                tensors,
                describe(self.model, self.classes, self.recipe)
                | {
                    "progress": vars(self.progress),
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


def _check_videos(videos: Mapping[str, Videos]) -> None:
    """Raise ValueError unless there are videos to train on and to validate on, of the same classes."""
    if missing := {"train", "val"} - videos.keys():
        raise ValueError(f"videos lacks {' and '.join(sorted(missing))}: give both, train and val")
    if videos["train"].class_names != videos["val"].class_names:
        raise ValueError("the videos to train on and to validate on are of different classes")


def build_model(recipe: Recipe, classes: list[str], notes: list[str] | None = None) -> VideoModel:
    """The recipe's network with its initial weights; how much of another network's they are is added to the notes."""
    weights = "imagenet" if recipe.init == "imagenet" else None
    model = create_model(
        recipe.model, len(classes), recipe.frames, weights=weights, dropout=recipe.dropout, **recipe.options
    )
    model.classes = classes
    if recipe.init not in ("imagenet", "none"):
        note = load_init(recipe.init, model, classes)
        if notes is not None:
            notes.append(f"init: {note}")
    return model


def channels_last(model: VideoModel) -> VideoModel:
    """Lay out the weights of 2D convolutions, and only theirs, as activations are: channels last."""
    for parameter in model.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return model


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed what is random in a step, such as dropout, so that it depends on nothing that came before."""
    torch.manual_seed(int(np.random.SeedSequence([seed, step, rank]).generate_state(1)[0]))


def keep_freed_memory() -> None:
    """Have glibc keep what is freed for the next step, instead of handing large blocks back to the kernel.

    Every step would have page faults again. Does nothing where there is no glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        for parameter, value in ((-4, 0), (-1, 2**31 - 1), (-2, 2**28)):  # M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD
            mallopt(parameter, value)


def choose_precision(name: str, device: torch.device, testing: bool = False) -> torch.dtype:
    """The type for autocast; "auto" is bf16 where the hardware multiplies it, fp16 on older GPUs, else fp32.

    For testing "auto" is fp32: in 8 bits of bf16 the best classes of a video often tie.

    Raises:
        ValueError: when the device cannot train in that type.
    """
    if device.type == "cuda":
        fast = torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    else:
        able = torch.cpu.get_capabilities()
        fast = torch.bfloat16 if able.get("avx512_bf16") or able.get("amx_bf16") else torch.float32
        if name == "fp16":
            raise ValueError("precision fp16 needs a GPU: use bf16, fp32 or auto")
    return {
        "auto": torch.float32 if testing else fast,
        "fp32": torch.float32,
        "bf16": torch.bfloat16,
        "fp16": torch.float16,
    }[name]


def freeze(model: nn.Module, recipe: Recipe) -> None:
    """Keep what a recipe freezes as it is: parts with weights and statistics, and batch normalisation.

    Raises:
        ValueError: for a part that is not there, or when nothing is left to train.
    """
    parts = dict(model.named_modules())
    for name in recipe.freeze:
        if not name or name not in parts:
            raise ValueError(
                f"{recipe.model} has no part {name!r} to freeze; {did_you_mean(name, filter(None, parts))}"
            )
        parts[name].eval()
        parts[name].requires_grad_(False)
    freeze_batch_norm(model, recipe.freeze_bn)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError(f"freeze={recipe.freeze} leaves nothing to train")


def freeze_batch_norm(model: nn.Module, which: str) -> None:
    """Keep statistics and scales of batch normalisation as they are: of "none", of "all" or, as TSN's partial BN
    does, of all that pictures trained but the first ("partial"): those of modules that mix frames go on learning."""
    layers = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    new = {id(part) for module in model.modules() if isinstance(module, OnClips) for part in module.modules()}
    of_pictures = [layer for layer in layers if id(layer) not in new]
    for layer in {"none": [], "partial": of_pictures[1:], "all": layers}[which]:
        layer.eval()
        layer.requires_grad_(False)


def recompute_activations(model: nn.Module) -> None:
    """Keep only the inputs of the backbone's blocks for the backward pass, and compute the rest again there."""
    backbone = getattr(model, "backbone", nn.Module())
    stages = [stage for stage in backbone.children() if list(stage.children())]  # not the stem's single layers
    if not stages:
        raise ValueError(f"activation_checkpointing does not know the blocks of {type(model).__name__}: leave it out")
    for stage in stages:
        for block in stage.children() if isinstance(stage, nn.Sequential) else [stage]:
            contexts = partial(_recomputation, block)
            block.forward = partial(checkpoint, block.forward, use_reentrant=False, context_fn=contexts)


def _recomputation(block: nn.Module) -> tuple[Any, Any]:
    """Contexts of a block's two forward passes; the second must not count into the running statistics again."""
    return nullcontext(), _StatisticsKept(block)


class _StatisticsKept:
    """Within it, batch normalisation uses statistics of the batch but does not gather them."""

    def __init__(self, block: nn.Module) -> None:
        self.layers = [m for m in block.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]

    def __enter__(self) -> None:
        self.kept = [{name: buffer.clone() for name, buffer in layer.named_buffers()} for layer in self.layers]

    def __exit__(self, *error: object) -> None:
        for layer, buffers in zip(self.layers, self.kept, strict=True):
            for name, buffer in buffers.items():
                layer.get_buffer(name).copy_(buffer)


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
