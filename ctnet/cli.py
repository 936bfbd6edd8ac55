"""The command line: parses, calls, prints. Errors that a user can cause are one line, exit code 2."""

import json
import os
import sys
import traceback
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, NoReturn, cast

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from typer.exceptions import TyperException

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


Modules = Annotated[
    list[str] | None,
    typer.Option(
        "--import", envvar="CTNET_IMPORT", help="Module, also of this folder, that registers networks; may repeat."
    ),
]


@app.callback()
def begin(modules: Modules = None) -> None:
    """CT-Net (ICLR 2021): networks, costs, training, saliency."""
    if modules:
        sys.path.insert(0, os.getcwd())
    for name in modules or []:
        if not all(part.isidentifier() for part in name.split(".")):
            raise ValueError(f"--import {name}: name the module, such as mine, not its file")
        try:
            import_module(name)
        except ModuleNotFoundError as error:
            raise ValueError(f"--import {name}: {error}") from error
        except Exception as error:  # a mistake in the user's own module
            raise ValueError(f"--import {name}: {type(error).__name__}: {error}") from error


def print_table(columns: list[str], rows: list[list[str]]) -> None:
    """Print a table, as wide as the terminal; 200 characters where there is none."""
    table = Table(*columns)
    for row in rows:
        table.add_row(*map(escape, row))  # a name in brackets is no style
    console = Console()
    if not console.is_terminal:  # a pipe has no width to fit
        console = Console(width=200)
    console.print(table)


@app.command()
def models(as_json: Json = False) -> None:
    """List the networks that can be built by name."""
    from ctnet.models import list_models

    if as_json:
        print(json.dumps(list_models()))
    else:
        print("\n".join(list_models()))


@app.command()
def flops(
    model: Annotated[str, typer.Argument(help="A name that `ctnet models` lists.")],
    options: Annotated[
        list[str] | None,
        typer.Argument(metavar="[OPTION=VALUE]...", help="Of the network, as `create_model` takes them."),
    ] = None,
    frames: Annotated[int, typer.Option(help="Frames T of the clip.")] = 8,
    size: Annotated[int, typer.Option(help="Height and width of the clip in pixels.")] = 256,
    classes: Annotated[int, typer.Option(min=1, help="Classes of the head.")] = 174,
    as_json: Json = False,
) -> None:
    """Count a network's multiply-adds for one clip, and its parameters.

    ctnet flops ctnet_r50 sizes=3 connection=serial blocks=12
    """
    from ctnet import count_cost, create_model
    from ctnet.engine.recipe import read_assignments

    chosen = read_assignments(options or [], "option of a network", "name=value, such as sizes=3", {})
    try:
        network = create_model(model, classes, frames, **chosen)
    except TypeError as error:
        raise ValueError(f"{model} cannot be built with {', '.join(options or [])}: {error}") from error
    cost = count_cost(network, size=size, frames=frames)
    figures = {
        "gmacs": round(cost.gmacs, 2),
        "conv_linear_gmacs": round(cost.conv_linear_gmacs, 2),
        "params_m": round(cost.params_m, 2),
    }
    if as_json:
        settings = {"model": model, "options": chosen, "frames": frames, "size": size, "classes": classes}
        print(json.dumps(settings | figures | {"uncounted": dict(cost.uncounted)}))
    else:
        print(", ".join([model, *(options or []), f"{frames} x {size} x {size}", f"{classes} classes"]))
        print(f"{figures['gmacs']:>8} GMACs in all (what the paper calls GFLOPs)")
        print(f"{figures['conv_linear_gmacs']:>8} GMACs in convolutions and linear layers")
        print(f"{figures['params_m']:>8} M parameters")
        left_out = [f"{name} ({times} times)" for name, times in cost.uncounted.items()]
        print(f"Not counted: {', '.join(left_out) or 'no operator with multiply-adds'}")


data = typer.Typer(help="Video datasets: look at them, check them, draw one to rehearse with.", no_args_is_help=True)
app.add_typer(data, name="data")

Root = Annotated[Path, typer.Argument(help="Directory of the dataset, as it lies on disk after the official download.")]
Dataset = Annotated[str | None, typer.Option(help="Its name, if the annotation files do not tell it.")]


@data.command("info")
def data_info(root: Root, dataset: Dataset = None, as_json: Json = False) -> None:
    """Count a dataset's videos and classes, and the annotations whose video is missing."""
    from ctnet.data import info

    found = info(root, dataset)
    if as_json:
        print(json.dumps(found))
        return
    print(f"{found['dataset']}, {found['classes']} classes")
    rows = [
        [split, *(str(counts[key]) for key in ("videos", "classes", "left_out"))]
        for split, counts in found["splits"].items()
    ]
    print_table(["Split", "Videos", "Classes with a video", "Left out"], rows)


@data.command("check")
def data_check(
    root: Root,
    dataset: Dataset = None,
    min_frames: Annotated[int, typer.Option(help="Report videos with fewer frames.")] = 8,
    every_frame: Annotated[bool, typer.Option(help="Decode whole videos, not a few frames of each.")] = False,
    workers: Annotated[int | None, typer.Option(help="Processes; one for each core unless given.")] = None,
    skip_list: Annotated[
        Path | None, typer.Option(help="Write the videos to skip to this file; run again to go on.")
    ] = None,
    seconds: Annotated[float, typer.Option(help="Report videos that take longer to read.")] = 300,
    as_json: Json = False,
) -> None:
    """Find unreadable, truncated and short videos; exit with 1 when there are any."""
    from ctnet.data import check

    bad = check(root, dataset, min_frames, every_frame, workers, skip_list, not as_json, seconds)
    if as_json:
        print(json.dumps({str(path): reason for path, reason in bad.items()}, indent=1))
    else:
        for reason in bad.values():
            print(reason)
        print(f"{len(bad)} videos cannot be used" + (f", listed in {skip_list}" if skip_list else ""))
    raise typer.Exit(1 if bad else 0)


@data.command("make")
def data_make(
    name: Annotated[str, typer.Argument(help="A Micro dataset, such as MicroSomething.")],
    root: Annotated[Path, typer.Argument(help="Directory to make.")],
    layout: Annotated[str, typer.Option(help="somethingv2, somethingv1, kinetics or ucf101.")] = "somethingv2",
    size: Annotated[int, typer.Option(help="Height and width of the videos in pixels.")] = 128,
    train: Annotated[int | None, typer.Option(help="Number of training clips.")] = None,
    val: Annotated[int | None, typer.Option(help="Number of validation clips.")] = None,
    test: Annotated[int | None, typer.Option(help="Number of test clips, where there is such a split.")] = None,
    difficulty: Annotated[
        float | None, typer.Option(help="From 0 (easy) to 1 (the default; the study uses 0.6).")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
) -> None:
    """Draw a Micro dataset as real video files, in the layout of an official dataset."""
    from ctnet.micro import make

    asked = {"train": train, "val": val, "test": test}
    counts = {split: count for split, count in asked.items() if count is not None}
    made = make(name, root, layout, counts=counts, size=size, difficulty=difficulty, seed=seed)
    print(f"{made}: ready; look at it with `ctnet data info {made}`")


@app.command()
def train(
    recipe: Annotated[
        str | None, typer.Argument(help="Its name, `--list` shows them; or a .json file of what `--show` prints.")
    ] = None,
    changes: Annotated[list[str] | None, typer.Argument(metavar="[FIELD=VALUE]...", help="Fields to change.")] = None,
    out: Annotated[Path | None, typer.Option(help="Directory of the run. One that was interrupted goes on.")] = None,
    listed: Annotated[bool, typer.Option("--list", help="List the recipes.")] = False,
    show: Annotated[bool, typer.Option("--show", help="Print the recipe with the changes, and stop.")] = False,
) -> None:
    """Train a network by a recipe; under `torchrun` on many GPUs or machines. Run again to resume.

    ctnet train somethingv2 root=/data/somethingv2 clips_per_device=16 --out runs/v2
    """
    from ctnet.engine import RECIPES, distributed, get_recipe
    from ctnet.engine import train as run

    if listed:
        columns = ("model", "dataset", "frames", "epochs", "batch_size", "lr", "dropout", "weight_decay", "sampling")
        rows = [[name, *(str(getattr(r, column)) for column in columns)] for name, r in RECIPES.items()]
        return print_table(["Recipe", *columns], rows)
    if recipe is None:
        raise ValueError("name a recipe, such as somethingv2; `ctnet train --list` shows all")
    chosen = get_recipe(recipe).parse(changes or [])
    if show:
        return print(json.dumps(chosen.to_dict(), indent=1))
    if out is None:
        raise ValueError("say where the run is to be kept: --out DIRECTORY")
    with distributed() as place:
        scores = run(chosen, out)
    if place.first:
        print(f"{out}: top-1 {scores.accuracy(1):.2%}, top-5 {scores.accuracy(5):.2%} of {len(scores.labels)} videos")


@app.command("test")
def test_checkpoints(
    targets: Annotated[
        list[str],
        typer.Argument(
            metavar="CHECKPOINT|SCORES... [FIELD=VALUE]...",
            help="Weights (.safetensors) or kept scores (.npz); several are fused too. "
            "Fields of their recipes may be changed, such as root=DIRECTORY.",
        ),
    ],
    view: Annotated[list[str] | None, typer.Option(help="Crops x clips, such as 3x2; may repeat.")] = None,
    scores: Annotated[
        Path | None, typer.Option(help="Directory to keep the scores in, with what tells where they come from.")
    ] = None,
    average: Annotated[
        str, typer.Option(help="Of a video's views: probabilities, or scores, as the authors' code does.")
    ] = "probabilities",
    hardest: Annotated[
        int, typer.Option(min=0, help="Also list so many classes that are hardest, and what they are taken for.")
    ] = 0,
    as_json: Json = False,
) -> None:
    """Test networks on their validation split: a line for each way to look at a video, as in Table 6."""
    from dataclasses import asdict

    from ctnet.engine import View, distributed, score_files
    from ctnet.engine.evaluation import Average

    changes = [text for text in targets if "=" in text and not Path(text).exists()]
    files = [Path(text) for text in targets if text not in changes]
    with distributed() as place:
        views = [View.parse(name) for name in view or []]
        tested = score_files(files, changes, views, scores, cast(Average, average), progress=True)
    if not place.first:
        return
    if as_json:
        lines = [
            {"model": line.model, "frames": line.frames, "gmacs": line.gmacs and round(line.gmacs, 4)}
            | {f"top{k}": line.scores.accuracy(k) for k in (1, 5)}
            | {"videos": len(line.scores.labels), "left_out": line.scores.about.get("left_out")}
            | ({"hardest": [asdict(result) for result in line.scores.hardest(hardest)]} if hardest else {})
            for line in tested
        ]
        return print(json.dumps(lines, indent=1))
    several = len({line.model for line in tested}) > 1
    rows = [
        [
            *([line.model] if several else []),
            line.frames,
            f"{line.gmacs:.2f}" if line.gmacs else "",
            *(f"{line.scores.accuracy(k):.2%}" for k in (1, 5)),
            str(len(line.scores.labels)),
        ]
        for line in tested
    ]
    columns = ["Frames x crops x clips", "GMACs", "Top-1", "Top-5", "Videos"]
    print_table(["Model", *columns] if several else columns, rows)
    for line in tested if hardest else []:
        print(f"\nHardest classes of {', '.join(filter(None, (line.model, line.frames)))}")
        rows = [
            [result.name, str(result.videos), f"{result.accuracy:.2%}", result.mistaken_for or "", str(result.mistakes)]
            for result in line.scores.hardest(hardest)
        ]
        print_table(["Class", "Videos", "Top-1", "Mostly taken for", "Videos taken so"], rows)


@app.command()
def predict(
    videos: Annotated[list[Path], typer.Argument(metavar="VIDEO...", help="Video files, or folders of pictures.")],
    checkpoint: Annotated[
        Path, typer.Option(help="Weights that `ctnet train` wrote, or a file that `ctnet export` wrote.")
    ],
    view: Annotated[str, typer.Option(help="Crops x clips that are averaged.")] = "1x1",
    device: Annotated[str, typer.Option(help="cpu or cuda; exported files run on cpu.")] = "cpu",
    workers: Annotated[int, typer.Option(min=0, help="Processes that read videos.")] = 0,
    as_json: Json = False,
) -> None:
    """Name the five classes that a network finds most probable for each video."""
    from ctnet.deploy import load_network
    from ctnet.engine import View
    from ctnet.engine import predict as score
    from ctnet.engine.place import device_named

    place = device_named(device)
    network, recipe = load_network(checkpoint)
    scores = score(network.to(place), recipe, videos, View.parse(view), workers=workers, progress=len(videos) > 1)
    found = []
    for video, labels, row in zip(videos, scores.top(5), scores.probabilities, strict=True):
        best = [{"class": scores.classes[label], "probability": round(float(row[label]), 4)} for label in labels]
        found.append({"video": str(video), "top5": best})
    if as_json:
        print(json.dumps(found if len(found) > 1 else found[0], indent=1))
        return
    for each in found:
        if len(found) > 1:
            print(each["video"])
        for line in cast(list[dict[str, Any]], each["top5"]):
            print(f"{line['probability']:7.1%}  {line['class']}")


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="A file of weights that `ctnet train` wrote.")],
    format: Annotated[str, typer.Option(help="onnx, openvino or torch.")] = "onnx",
    out: Annotated[Path | None, typer.Option(help="File to write; beside the weights unless given.")] = None,
    int8: Annotated[bool, typer.Option("--int8", help="Round to 8 bits, calibrated on training clips (onnx).")] = False,
    changes: Annotated[list[str] | None, typer.Argument(metavar="[FIELD=VALUE]...", help="Fields to change.")] = None,
) -> None:
    """Write a network as a file for ONNX Runtime, OpenVINO or torch, for clips as its recipe tests them.

    ctnet export run/model.safetensors --format onnx
    """
    from ctnet.deploy import calibration_clips
    from ctnet.deploy import export as write
    from ctnet.deploy.files import require, suffix
    from ctnet.engine import load_model, load_recipe

    require(format, int8)
    out = out or checkpoint.with_suffix(suffix(format, int8))
    model, recipe = load_model(checkpoint), load_recipe(checkpoint, changes or [])
    write(model, out, format, recipe, int8=calibration_clips(model, recipe) if int8 else None)
    print(f"{out}: ready, for clips of {recipe.frames} frames of {recipe.eval_size} pixels")


@app.command()
def bench(
    models: Annotated[list[str], typer.Argument(help="Names that `ctnet models` lists.")],
    backend: Annotated[
        list[str] | None, typer.Option(help="eager, optimized, compiled, onnxruntime, openvino or int8; may repeat.")
    ] = None,
    frames: Annotated[int, typer.Option(help="Frames T of the clip.")] = 8,
    size: Annotated[int, typer.Option(help="Height and width of the clip in pixels.")] = 256,
    clips: Annotated[int, typer.Option(help="Clips at once.")] = 1,
    threads: Annotated[int | None, typer.Option(help="All cores unless given.")] = None,
    rounds: Annotated[int, typer.Option(help="Each measures every network in every runtime once.")] = 10,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    as_json: Json = False,
) -> None:
    """Measure what a clip takes in time and memory, in several runtimes."""
    from dataclasses import asdict

    from ctnet.deploy import bench as measure

    backends = backend or ["eager", "optimized"]
    settings: dict[str, Any] = {"frames": frames, "size": size, "clips": clips, "threads": threads}
    settings |= {"rounds": rounds, "device": device}
    found = measure(models, backends, **settings, progress=not as_json)
    if as_json:
        lines = [
            asdict(timing) | {"clips_per_second": timing.clips_per_second, "gflops": timing.gflops} for timing in found
        ]
        return print(json.dumps(settings | {"timings": lines}, indent=1))
    rows = [
        [
            timing.model,
            timing.backend,
            f"{timing.gmacs:.2f}",
            f"{timing.latency_ms:.1f} ± {timing.spread_ms:.1f}",
            "" if timing.processor_ms is None else f"{timing.processor_ms:.1f}",
            f"{timing.clips_per_second:.2f}",
            f"{timing.gflops:.1f}",
            "" if timing.memory_mb is None else f"{timing.memory_mb:.0f}",
        ]
        for timing in found
    ]
    columns = ["Model", "Runtime", "GMACs", "Latency (ms)", "Processor (ms)", "Clips/s", "GFLOP/s", "Memory (MB)"]
    print_table(columns, rows)


@app.command()
def profile(
    models: Annotated[list[str], typer.Argument(help="Names that `ctnet models` lists.")],
    optimized: Annotated[bool, typer.Option("--optimized", help="As `ctnet.optimize` rewrites them.")] = False,
    frames: Annotated[int, typer.Option(min=1, help="Frames T of the clip.")] = 8,
    size: Annotated[int, typer.Option(min=1, help="Height and width of the clip in pixels.")] = 256,
    threads: Annotated[int | None, typer.Option(min=1, help="All cores unless given.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Each measures every network once.")] = 5,
    as_json: Json = False,
) -> None:
    """Measure where the time of networks goes on a CPU, by the size of their maps and the kind of operation."""
    from dataclasses import asdict

    import torch

    from ctnet.deploy import optimize
    from ctnet.deploy import profile as measure
    from ctnet.deploy.timing import on_threads
    from ctnet.models import create_model

    made = [create_model(name, num_frames=frames).eval() for name in models]
    with on_threads(threads):
        found = measure(list(map(optimize, made)) if optimized else made, torch.rand(1, 3, frames, size, size), rounds)
    if as_json:
        named = [
            {"model": name} | asdict(share) for name, shares in zip(models, found, strict=True) for share in shares
        ]
        return print(json.dumps({"optimized": optimized, "frames": frames, "size": size, "shares": named}, indent=1))
    rows = []
    for name, shares in zip(models, found, strict=True):
        whole = sum(share.ms for share in shares) or 1.0
        rows += [
            [name, str(share.maps), share.kind, f"{share.gmacs:.3f}", f"{share.ms:.1f}", f"{share.ms / whole:.1%}"]
            for share in shares
        ]
    print_table(["Model", "Maps", "Kind", "GMACs", "Processor (ms)", "Share"], rows)


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="A checkpoint of the authors' code (.pth.tar).")],
    out: Annotated[Path, typer.Option(help="File to write.")],
    recipe: Annotated[str, typer.Option(help="Recipe that tells its network and dataset, such as somethingv1.")],
    changes: Annotated[list[str] | None, typer.Argument(metavar="[FIELD=VALUE]...", help="Fields to change.")] = None,
) -> None:
    """Turn a checkpoint of the authors' code into one that `test`, `predict` and `train` understand.

    Class names are read from the dataset, where root=DIRECTORY tells its place.
    """
    from ctnet.engine import convert_official, get_recipe

    convert_official(source, out, get_recipe(recipe).parse(changes or []))
    print(f"{out}: ready")


@app.command()
def saliency(
    video: Annotated[Path, typer.Argument(help="A video file, or a folder of its frames 00001.jpg, 00002.jpg, ...")],
    checkpoint: Annotated[list[Path], typer.Option(help="Weights of a network; several are drawn side by side.")],
    out: Annotated[Path, typer.Option(help="Picture to write: .png gives a strip of frames, .gif and .mp4 move.")],
    label: Annotated[str | None, typer.Option(help="Class to look for; the one predicted unless given.")] = None,
    method: Annotated[str, typer.Option(help="tubes (Saliency Tubes) or grad_cam, for any network.")] = "tubes",
    as_json: Json = False,
) -> None:
    """Draw where networks see a class in a video (Saliency Tubes, or Grad-CAM)."""
    from ctnet.analysis.overlay import checked_path, explain, sampled_frames, save_explanations
    from ctnet.engine import load_model, load_recipe
    from ctnet.engine.loading import sampler

    checked_path(out)
    explanations = []
    for path in checkpoint:
        model, recipe = load_model(path), load_recipe(path)
        name = path.stem if len({other.stem for other in checkpoint}) == len(checkpoint) else str(path)
        frames = sampled_frames(video, sampler(recipe))
        explanations.append(explain(name, model, frames, label, recipe.eval_size, method))
    save_explanations(out, explanations)
    if as_json:
        keys = ("name", "label", "score")
        print(json.dumps([{key: getattr(explanation, key) for key in keys} for explanation in explanations]))
    else:
        print("\n".join(explanation.caption for explanation in explanations))


def execute(application: typer.Typer, name: str) -> NoReturn:
    """Run a command line, turning errors into one line; exits.

    With CTNET_DEBUG=1 in the environment the traceback of an error is shown instead.
    """
    try:
        sys.exit(application(standalone_mode=False, prog_name=name) or 0)
    except Exception as error:
        if os.environ.get("CTNET_DEBUG") == "1":
            raise
        message = describe_error(error)
    print(f"{name}: {message}", file=sys.stderr)
    sys.exit(2)


def describe_error(error: Exception) -> str:
    """An error in one line; one that is no fault of the user's says where it happened, and how to see more of it."""
    from ctnet.engine import Recipe

    if isinstance(error, TyperException):
        message = error.format_message()
        field = str(getattr(error, "option_name", "")).lstrip("-").replace("-", "_")
        if field in Recipe.__dataclass_fields__:
            message += f"; fields of a recipe are written {field}=VALUE"
    elif isinstance(error, OSError) and error.strerror:
        message = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    elif isinstance(error, MemoryError):
        message = f"not enough memory ({error})"
    elif type(error).__name__ == "OutOfMemoryError":  # torch's, which need not be imported yet
        message = (
            f"{str(error).partition('. ')[0]}: lower clips_per_device (of predict --view, of bench --clips); "
            "in training activation_checkpointing=true saves memory too"
        )
    elif isinstance(error, ValueError | OSError | RuntimeError):
        message = str(error)
    else:
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(last.filename).name}, line {last.lineno}"
        message = f"internal error: {type(error).__name__}: {error} ({place}); CTNET_DEBUG=1 shows all of it"
    return " ".join(message.split()) or type(error).__name__


def main() -> None:
    """Run `ctnet`."""
    execute(app, "ctnet")


if __name__ == "__main__":
    main()
