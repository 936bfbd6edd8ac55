"""The loop that trains a network on a recipe's clips (appendix A.1)."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from tqdm.auto import tqdm

from ctnet.data import VideoError, Videos
from ctnet.engine import signals
from ctnet.engine.evaluation import Scores, interval
from ctnet.engine.place import distributed
from ctnet.engine.preparation import exact_fp32, keep_freed_memory, seed_step, where
from ctnet.engine.recipe import Recipe
from ctnet.engine.run import SCORES, Run
from ctnet.files import check_folder, claimed
from ctnet.models import VideoModel
from ctnet.models.modes import evaluating

SHOWN = 20  # steps between two losses on the bar


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
            ends the run, which can go on later. Other processes wait meanwhile: on GPUs for ten minutes at most, the
            limit that torch sets NCCL.

    Returns:
        Scores of the validation clips at the end, one clip and one crop each.

    Raises:
        FileNotFoundError: when the dataset or the initial weights are missing.
        ValueError: when the recipe does not fit the machine or the data, another process trains in `out`, or that holds
            a run of another recipe or what is left of one whose state is gone.
        RuntimeError: when the loss or a weight is no longer finite, or too many training videos cannot be read.
        SystemExit: when SIGTERM or SIGUSR1 asked to stop, as a cluster does; the state is then saved.
    """
    check_folder(out)
    with distributed() as place, _told_what_to_do(), ExitStack() as stack:
        if place.first and not stack.enter_context(claimed(out)):
            raise ValueError(
                f"another process trains in {out}: wait for it, or give another directory; processes that are to train "
                "together are started by torchrun"
            )
        if place.device.type == "cpu":
            keep_freed_memory()
        torch.backends.cudnn.benchmark = True  # every step has clips of one shape
        run = Run(recipe, Path(out), place, resume, videos)
        if run.is_finished:
            if videos is not None and run.reads_other_clips:
                raise ValueError(f"{out} holds a finished run on other videos: give another directory")
            return Scores.load(run.out / SCORES)
        if progress and place.first:
            for note in (where(place, run.precision), *run.notes):
                tqdm.write(note)
        with closing(run.loader):
            for epoch in range(run.progress.epoch, recipe.epochs):
                with signals.noted() as run.asked:  # after them the state is saved, and nothing needs to be
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


@contextmanager
def _told_what_to_do() -> Iterator[None]:
    try:
        yield
    except VideoError as error:
        raise VideoError(
            f"{error}; unreadable=replace lets other training videos stand in, and `ctnet data check` writes a list "
            "of those to leave out of training or validation by skip=FILE"
        ) from error


def train_one_epoch(run: Run, progress: bool = True) -> None:
    """Train from `run.progress` to the end of its epoch, saving on the way."""
    recipe, done, steps = run.recipe, run.progress, run.batches.steps
    bar = tqdm(
        total=recipe.epochs * steps * recipe.batch_size,  # so that the time left is that of the whole run
        initial=(done.epoch * steps + done.step) * recipe.batch_size,
        desc=f"epoch {done.epoch + 1}/{recipe.epochs}",
        unit="clip",
        leave=False,
        disable=not (progress and run.place.first),
        mininterval=interval(),
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
    if stopped := run.is_stopped(steps - 1):  # asked while the last step was saved
        raise SystemExit(128 + stopped)


def summary(row: dict[str, float], epochs: int) -> str:
    """A finished epoch in one line."""
    tested = f", validation top-1 {row['val_top1']:.1%}, top-5 {row['val_top5']:.1%}" if "val_top1" in row else ""
    tested += f", {row['unreadable']} videos unreadable" if row.get("unreadable") else ""
    speed = f"{row['clips_per_second']:.0f} clips/s, {row['waiting_for_data']:.0%} of the time waiting for data"
    return f"epoch {row['epoch']:.0f}/{epochs}: loss {row['train_loss']:.3f}{tested}; {speed}"


@exact_fp32()
def train_step(run: Run, step: int, batches: Iterator[Any]) -> Tensor:
    """One step of the optimizer on the next batch, which comes in one or more pieces; returns its mean loss, ().

    What autocast leaves in fp32 is multiplied in full, not as TF32.
    """
    recipe, place, scaler = run.recipe, run.place, run.scaler
    seed_step(recipe.seed, run.progress.epoch * run.batches.steps + step, place.rank)
    lr = recipe.lr_at(run.progress.epoch + (step + 1) / run.batches.steps)
    for group in run.optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]
    loss = torch.zeros((), device=place.device)
    own = mixup_share(recipe.mixup)
    for piece in range(len(run.batches.pieces)):
        clips, labels = next(batches)
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
