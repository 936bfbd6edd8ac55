"""Chapters show commands as a reader sees them, and stop when one ends otherwise than expected."""

import sys

import pytest

from study.chapters.shell import WIDTH, shell


def test_commands_print_themselves_and_what_they_say(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    shell("ctnet models \\\n  --help", tmp_path)
    out = capsys.readouterr().out
    assert out.startswith("$ ctnet models \\\n  --help\n")
    assert "--json" in out
    assert "\x1b" not in out
    shell("ctnet models --help", tmp_path, mark="rehearsal | ")
    command, *said = capsys.readouterr().out.splitlines()
    assert command == "$ ctnet models --help"
    assert said
    assert all(line.startswith("rehearsal | ") and len(line) <= WIDTH for line in said)


def test_commands_of_the_reproduction_run_in_any_folder(tmp_path, capsys):
    shell("python -m study record", tmp_path, status=2)
    assert "Missing argument" in capsys.readouterr().out


def test_commands_that_end_otherwise_than_expected_stop_a_chapter(tmp_path, capsys):
    shell("ctnet models --jason", tmp_path, status=2)
    assert "ctnet: No such option: --jason" in capsys.readouterr().out
    with pytest.raises(RuntimeError, match="status 2.*--jason"):
        shell("ctnet models --jason", tmp_path)
    with pytest.raises(ValueError, match="no command"):
        shell(f"{sys.executable} -c 1", tmp_path)
