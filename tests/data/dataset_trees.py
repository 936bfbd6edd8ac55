"""Small copies of the official dataset directories, all videos the same."""

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from PIL import Image
from video_files import draw_frames

V1_LABELS = ["Tearing something", "Moving something left", "Dropping something", "Moving something right"]
V2_LABELS = {"Tearing something": "1", "Moving something left": "0", "Dropping something onto something": "2"}


def put(source: Path, root: Path, names: Iterable[str]) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, root / name)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def make_kinetics(root: Path, video: Path, mini: bool = False) -> None:
    head = "label,youtube_id,time_start,time_end,split\n"
    rows = {
        "train": [
            "zumba,-aAbB_cCdD1,12,22,train",
            "abseiling,bbbbbbbbbbb,0,10,train",
            "making tea,ccccccccccc,3,13,train",
        ],
        "val": ["making tea,ddddddddddd,100,110,val", "zumba,eeeeeeeeeee,7,17,val"],
    }
    write(root / "annotations" / "train.csv", head + "\n".join(rows["train"]) + "\n")
    write(root / "annotations" / "validate.csv", head + "\n".join(rows["val"]) + "\n")
    names = ["train/zumba/-aAbB_cCdD1_000012_000022.mp4", "train/bbbbbbbbbbb_000000_000010.mp4"]
    names += ["train/making_tea/ccccccccccc_000003_000013.mp4", "val/ddddddddddd_000100_000110.mp4"]
    put(video, root, [*names, "val/zumba/eeeeeeeeeee_000007_000017.mp4"])
    if mini:
        write(root / "annotations" / "train_ytid_list.txt", "bbbbbbbbbbb\n-aAbB_cCdD1\n")
        write(root / "annotations" / "val_ytid_list.txt", "eeeeeeeeeee\n")


def make_something_v1(root: Path, video: Path) -> None:
    write(root / "something-something-v1-labels.csv", "\n".join(V1_LABELS) + "\n")
    write(
        root / "something-something-v1-train.csv",
        "10;Tearing something\n11;Moving something left\n12;Dropping something\n",
    )
    write(root / "something-something-v1-validation.csv", "20;Moving something right\n")
    for name in ("10", "11", "12", "20"):
        folder = root / "20bn-something-something-v1" / name
        folder.mkdir(parents=True)
        for i, frame in enumerate(draw_frames(9), 1):
            Image.fromarray(frame).save(folder / f"{i:05d}.jpg")


def make_something_v2(root: Path, video: Path) -> None:
    write(root / "something-something-v2-labels.json", json.dumps(V2_LABELS))

    def rows(*pairs):
        keys = ("id", "label", "template", "placeholders")
        return json.dumps([dict(zip(keys, (i, "tearing paper", t, ["paper"]), strict=True)) for i, t in pairs])

    train = rows(("1", "Tearing [something]"), ("2", "Dropping [something] onto [something]"))
    write(root / "something-something-v2-train.json", train)
    write(root / "something-something-v2-validation.json", rows(("3", "Moving [something] left")))
    put(video, root, [f"20bn-something-something-v2/{i}.webm" for i in (1, 2, 3)])


def make_ucf101(root: Path, video: Path) -> None:
    names = {"YoYo": ["v_YoYo_g01_c01", "v_YoYo_g02_c01"], "Archery": ["v_Archery_g01_c01", "v_Archery_g02_c01"]}
    write(root / "ucfTrainTestlist" / "classInd.txt", "1 YoYo\r\n2 Archery\r\n")
    for fold in (1, 2, 3):
        held = 0 if fold == 1 else 1
        test = [f"{name}/{files[held]}.avi" for name, files in names.items()]
        train = [f"{name}/{files[1 - held]}.avi {i}" for i, (name, files) in enumerate(names.items(), 1)]
        write(root / "ucfTrainTestlist" / f"testlist0{fold}.txt", "\n".join(test) + "\n")
        write(root / "ucfTrainTestlist" / f"trainlist0{fold}.txt", "\n".join(train) + "\n")
    put(video, root, [f"UCF-101/{name}/{file}.avi" for name, files in names.items() for file in files])


def make_hmdb51(root: Path, video: Path) -> None:
    for name in ("wave", "brush_hair"):
        for fold in (1, 2, 3):
            uses = {1: [1, 2, 0], 2: [2, 1, 0], 3: [2, 0, 1]}[fold]
            lines = [f"{name}_(clip)_{i}.avi {use} " for i, use in enumerate(uses)]
            write(root / "testTrainMulti_7030_splits" / f"{name}_test_split{fold}.txt", "\n".join(lines) + "\n")
        put(video, root, [f"hmdb51_org/{name}/{name}_(clip)_{i}.avi" for i in range(3)])


def make_lists(root: Path, video: Path) -> None:
    put(video, root, ["a b/1.mp4", "2.mp4", "c/3.mp4", "c/4.mp4"])
    write(root / "classes.txt", "tea time\ncoffee\n")
    write(root / "train.txt", "a b/1.mp4\tcoffee\r\n2.mp4 9 0\r\n\r\n")
    write(root / "val.txt", "c/3.mp4 1\nc/4.mp4\ttea time\n")


def make_folders(root: Path, video: Path) -> None:
    names = ["train/tea/b.mp4", "train/tea/a.mp4", "train/coffee/c.mp4", "val/tea/d.mp4", "val/coffee/e.mp4"]
    put(video, root, [*names, "train/tea/.hidden.mp4"])
    write(root / "train" / "README.txt", "not a class")


def add_junk(folder: Path, video: Path) -> list[str]:
    """Each sort of what lies among videos and is none; returns the names that are worth telling."""
    for name in ("notes.txt", "a.srt", "a.info.json", "Thumbs.db", "desktop.ini", "cover.jpg", "b.PNG", "list.m3u8"):
        (folder / name).write_text("#EXTM3U\n#EXTINF:1,\nhttp://192.0.2.1/a.ts\n")
    for name in ("song.mp3", "song.m4a", "README", "poster.gif", "song.ogg"):
        (folder / name).write_bytes(b"ID3" + bytes(2000))
    for name in ("rest.mp4.part", "old.mp4.bak"):
        put(video, folder, [name])
    (folder / "to nothing.mp4").symlink_to("nowhere.mp4")
    (folder / "empty folder").mkdir()
    put(video, folder, ["deeper/a.mp4"])
    os.mkfifo(folder / "pipe.mp4")
    told = sorted(path.name for path in folder.iterdir() if path.name not in ("a.mp4", "b.mp4", ".hidden.mp4"))
    for name in (".DS_Store", "._a.mp4", ".hidden.mp4"):
        (folder / name).write_text("hidden")
    return told


MAKERS = {
    "kinetics": make_kinetics,
    "mini-kinetics": lambda root, video: make_kinetics(root, video, mini=True),
    "somethingv1": make_something_v1,
    "somethingv2": make_something_v2,
    "ucf101": make_ucf101,
    "hmdb51": make_hmdb51,
    "lists": make_lists,
    "folders": make_folders,
}
SUFFIX = {"somethingv2": ".webm", "ucf101": ".avi", "hmdb51": ".avi"}
