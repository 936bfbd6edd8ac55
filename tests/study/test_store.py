import json
import os
import shutil

import numpy as np
import pytest
import torch
from restoring import restore, stamps

from ctnet import micro
from ctnet.micro import drawing
from ctnet.models import network_version
from study.costs import cost_file
from study.paper import table
from study.runs import run_file, runs_of, twins_of
from study.store import (
    BEHAVIOUR,
    KERNELS,
    behaviour,
    config_hash,
    decode,
    encode,
    is_stale,
    kind_of_machine,
    provenance,
    read,
    results_dir,
    stale,
    write,
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder of results."""
    (tmp_path / "published").mkdir()
    monkeypatch.setenv("CTNET_RESULTS", str(tmp_path))
    return tmp_path


# -- Files -------------------------------------------------------------------------------------------------------------


def test_what_is_written_is_read_and_what_is_not_there_is_none(folder):
    assert read("runs/a.json") is None
    assert write("runs/a.json", {"a": [1, "ä"]}) == folder / "runs" / "a.json"
    assert read("runs/a.json") == {"a": [1, "ä"]}


def test_a_file_is_parsed_once_as_long_as_its_time_stays(folder):
    path = write("a.json", {"a": 1})
    first = read("a.json")
    assert read("a.json") is first
    path.write_text('{"a": 2}')
    os.utime(path, ns=(0, 10**18))
    assert read("a.json") == {"a": 2}
    path.unlink()
    assert read("a.json") is None


@pytest.mark.parametrize("replace", [True, False], ids=["of one size, put in its place", "of another size"])
def test_another_file_of_the_same_time_is_read_anew(folder, replace):
    path = write("a.json", {"a": 1})
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    assert read("a.json") == {"a": 1}
    other = folder / "b.json" if replace else path
    other.write_text(path.read_text().replace("1", "2" if replace else "20"))
    os.utime(other, ns=times)
    other.replace(path)
    assert read("a.json") == {"a": 2 if replace else 20}


def test_what_was_just_written_is_read_however_quickly(folder):
    """Times of files are too coarse to tell two that were written right after one another."""
    for number in range(100):
        write("a.json", {"a": number % 10})
        assert read("a.json") == {"a": number % 10}


@pytest.mark.parametrize(("content", "reason"), [(b"{", "Expecting"), (b"[]", "no object"), (b'"\xff"', "utf-8")])
def test_a_damaged_file_is_named_in_one_line_with_what_to_do(folder, content, reason):
    (folder / "a.json").write_bytes(content)
    for _ in range(2):
        with pytest.raises(
            ValueError, match=f"a.json is damaged .*{reason}.*: restore it with git, or delete"
        ) as error:
            read("a.json")
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("arguments", [["verify"], ["status"]])
def test_commands_name_a_damaged_file_in_one_line(own_results, run_study, arguments):
    path = own_results / "published" / "table_2g.json"
    path.write_text("{")
    code, out, errors = run_study(*arguments)
    assert (code, out, errors.count("\n")) == (2, "", 1)
    assert f"study: {path} is damaged (Expecting" in errors
    assert "restore it with git" in errors


def test_a_file_is_written_whole_or_not_at_all(folder):
    path = write("new/result.json", {"a": 1})
    with pytest.raises(TypeError):
        write("new/result.json", {"a": object()})
    assert read("new/result.json") == {"a": 1}
    assert list(path.parent.iterdir()) == [path]


def test_without_results_the_folder_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("CTNET_RESULTS", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match="no results in .*nowhere: .* set CTNET_RESULTS"):
        results_dir()


def test_config_hash_does_not_depend_on_the_order_of_keys():
    assert config_hash({"a": 1, "b": [1, 2]}) == config_hash({"b": [1, 2], "a": 1})
    assert config_hash({"a": 1}) != config_hash({"a": 2})


def test_predictions_survive_as_text():
    predictions = np.array([0, 3, 255, 23])
    assert decode(encode(predictions)).tolist() == [0, 3, 255, 23]
    assert len(encode(np.zeros(2016, np.int64))) < 2700


# -- Versions of behaviour ---------------------------------------------------------------------------------------------


def made(**versions):
    """A result that these versions of behaviour made, and today's of the engine."""
    return {"provenance": {"behaviour": behaviour(["engine"]) | versions}}


def test_every_part_has_a_version_and_that_of_drawing_is_the_caches():
    assert set(behaviour(BEHAVIOUR)) == {"drawing", "data", "engine", "cost", "saliency"}
    assert all(version >= 1 for version in behaviour(BEHAVIOUR).values())
    assert behaviour(["drawing"]) == {"drawing": drawing.VERSION}


def test_a_result_of_todays_versions_is_not_stale():
    networks = ["tsn_r50_twin", "ctnet_r50", "tsn_r50_twin"]
    assert behaviour([], networks) == {"networks": {"ctnet_r50": 1, "tsn_r50_twin": 1}}
    recorded = json.loads(json.dumps({"provenance": provenance(BEHAVIOUR, networks, 1.0)}))
    assert recorded["provenance"]["behaviour"] == behaviour(BEHAVIOUR, networks)
    assert not is_stale(recorded)


@pytest.mark.parametrize(
    "content",
    [
        *(made(**{part: version - 1}) for part, version in behaviour(BEHAVIOUR).items()),
        made(networks={"ctnet_r50": network_version("ctnet_r50") - 1, "tsn_r50": network_version("tsn_r50")}),
        made(networks={"a_network_that_is_gone": 1}),
        made(a_part_that_nobody_knows=1),
        {"provenance": {"behaviour": {}}},
        {"provenance": {"code": "0123456789abcdef"}},
    ],
    ids=str,
)
def test_a_result_of_other_versions_or_of_none_is_stale(content):
    assert is_stale(content)


def test_a_raised_version_makes_old_results_stale_and_no_others(folder, monkeypatch):
    write("runs/a.json", {"provenance": provenance(["drawing", "engine"], ["ctnet_r50"], 1.0)})
    write("runs/b.json", {"provenance": provenance(["engine"], ["ctnet_r50"], 1.0)})
    files = ["runs/a.json", "runs/b.json", "runs/not there.json"]
    assert list(stale(files)) == []
    monkeypatch.setattr(micro, "VERSION", micro.VERSION + 1)
    assert list(stale(files)) == ["runs/a.json"]


@pytest.mark.parametrize(
    ("name", "find", "advice"),
    [
        ("2a", lambda: cost_file(table("2a").rows["csn-module"].networks[0]), "measure again with --live"),
        (
            "2b",
            lambda: run_file(next(iter(twins_of("2b").values())).names(0)[0]),
            "run `python -m study confirm`, also with `--table pilot`",
        ),
        ("fig3", lambda: "saliency.json", "run `python -m study saliency`"),
    ],
)
def test_the_command_tells_what_rests_on_stale_results(own_results, edited, run_study, name, find, advice):
    with edited(find()) as content:
        content["provenance"]["behaviour"] = dict.fromkeys(content["provenance"]["behaviour"], 0) | {"networks": {}}
    code, _, errors = run_study("verify", "--table", name)
    assert code == 0
    assert f"claims rest on results of older versions of behaviour: {advice}\n" in errors


@pytest.mark.parametrize(
    ("find", "advice"),
    [
        (lambda: "speed/runtimes.json", "run `python -m study speed`"),
        (lambda: run_file(next(iter(runs_of(["pilot"])))), "run `python -m study confirm`, also with `--table pilot`"),
    ],
)
def test_the_command_tells_of_stale_results_that_no_claim_rests_on(own_results, edited, run_study, find, advice):
    with edited(find()) as content:
        content["provenance"]["behaviour"] = {"cost": 0}
    code, _, errors = run_study("verify")
    assert (code, errors) == (0, f"1 more results are of older versions of behaviour: {advice}\n")


def test_a_number_is_kept_with_the_circumstances_it_was_made_in(monkeypatch):
    for name in (*KERNELS, "MKL_CBWR"):
        monkeypatch.delenv(name, raising=False)
    kept = provenance(["cost"], [], 1.234)
    assert kept["seconds"] == 1.23
    assert kept["versions"].keys() == {"python", "ctnet", "torch", "torchvision", "fvcore", "numpy"}
    assert kept["hardware"]["cpu"]
    assert kept["hardware"]["vectors"] == torch.backends.cpu.get_cpu_capability()
    assert "kernels" not in kept["hardware"]
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    other = provenance(["cost"], [], 1.0)
    assert other["hardware"]["kernels"] == {"MKL_CBWR": "COMPATIBLE"}
    assert kind_of_machine(other) != kind_of_machine(kept) != kind_of_machine(kept | {"device": "cuda"})
    assert kind_of_machine(kept) == kind_of_machine(kept | {"device": "cpu", "seconds": 9.0})
    narrow, wide = ({**kept, "hardware": kept["hardware"] | {"vectors": vectors}} for vectors in ("AVX2", "AVX512"))
    untold = {**kept, "hardware": {"cpu": kept["hardware"]["cpu"], "system": kept["hardware"]["system"]}}
    assert len({kind_of_machine(each) for each in (narrow, wide, untold)}) == 3
    assert kept["made"].endswith("+00:00")


def test_what_a_test_does_to_its_results_is_undone(copies):
    own, whole = copies
    before = stamps(own)

    def content(folder):
        return {path.relative_to(folder): path.is_file() and path.read_bytes() for path in folder.rglob("*")}

    assert content(own) == content(whole)
    changed, replaced, gone, linked, *_ = sorted((own / "published").iterdir())
    about = changed.stat()
    changed.write_text(" " * about.st_size)
    os.utime(changed, ns=(about.st_atime_ns, about.st_mtime_ns))
    replaced.unlink()
    replaced.mkdir()
    (replaced / "file").touch()
    gone.unlink()
    linked.unlink()
    linked.symlink_to(whole)
    shutil.rmtree(own / "runs")
    shutil.rmtree(own / "cost")
    (own / "cost").write_text("no folder")
    (own / "full-scale" / "deep").mkdir(parents=True)
    restore(own, whole, before)
    assert content(own) == content(whole)
    now = stamps(own)
    assert now.keys() == before.keys()
    assert now[own / "ledger.json"] == before[own / "ledger.json"]
    shutil.rmtree(own)
    restore(own, whole, now)
    assert content(own) == content(whole)
