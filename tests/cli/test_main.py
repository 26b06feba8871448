"""How every command ends: help, version, one-line errors, interruptions."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import conceptseg
from conceptseg.cli import main as cli
from tests.cli.finished import Run, assert_one_error

COMMANDS = [
    [], ["demo"], ["segment"], ["models"], ["models", "info"], ["scenes"], ["scenes", "make"], ["train"],
    ["evaluate"], ["label"], ["review"],
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_of_every_command_ends_in_an_example(run: Run, command: list[str]) -> None:
    finished = run(*command, "--help")
    last = finished.out.strip().splitlines()[-1].strip()
    assert finished.code == 0
    assert last.startswith(" ".join(["conceptseg", *command]))


@pytest.mark.parametrize("arguments", [["--help"], ["segment", "--help"]], ids=" ".join)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        f"import sys; from conceptseg.cli.main import main; assert main({arguments}) == 0\n"
        "heavy = {'torch', 'numpy', 'PIL', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize(("given", "wanted"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_sleep_while_they_wait_unless_the_user_says_otherwise(given: str | None, wanted: str) -> None:
    # Before torch is imported, for it is read only once.
    code = (
        "import os, sys; from conceptseg.cli.main import main; assert main(['--version']) == 0\n"
        f"assert os.environ['OMP_WAIT_POLICY'] == {wanted!r} and 'torch' not in sys.modules"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {} if given is None else {"OMP_WAIT_POLICY": given}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True)


@pytest.mark.parametrize("command", [[], ["scenes"]], ids=" ".join)
def test_a_group_alone_shows_its_help(run: Run, command: list[str]) -> None:
    alone, asked = run(*command), run(*command, "--help")
    assert (alone.code, alone.err) == (0, "")
    assert alone.out.strip() == asked.out.strip()


def test_version_is_that_of_the_package(run: Run) -> None:
    assert run("--version").out == f"conceptseg {conceptseg.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["segmnt"], ["segmnt", "'segment'"]),
        (["segment", "a.png", "--txt", "x"], ["--txt", "--text", "conceptseg segment --help"]),
        (["segment"], ["IMAGE"]),
        (["segment", "a.png", "--text"], ["--text", "argument"]),
        (["segment", "a.png", "--text", "x", "--threshold", "2"], ["--threshold", "1"]),
        (["segment", "a.png", "--text", "x", "--threshold", "half"], ["--threshold"]),
        (["segment", "a.png", "--text", "x", "--presence", "maybe"], ["maybe", "calibrated"]),
        (["scenes", "make", "x"], ["--count"]),
        (["models", "inf"], ["inf", "info"]),
        (["train"], ["RECIPE"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_a_wrong_command_line_is_one_line(run: Run, arguments: list[str], words: list[str]) -> None:
    assert_one_error(run(*arguments), *words)


def test_an_error_of_many_lines_is_printed_as_one(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "app", raising(conceptseg.ConfigError("first\n  second")))
    assert_one_error(run(), "first second")


def test_a_full_disk_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "app", raising(OSError(28, "No space left on device", "out/a.png")))
    assert_one_error(run(), "out/a.png: no space left on device")


def test_a_bug_keeps_its_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "app", raising(ZeroDivisionError("ours to mend")))
    with pytest.raises(ZeroDivisionError):
        run()


def test_ctrl_c_is_one_line_and_130(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conceptseg.hub.available_models", raising(KeyboardInterrupt()))
    finished = run("models")
    assert (finished.code, finished.out, finished.err.strip()) == (130, "", "interrupted")


def test_a_closed_pipe_ends_quietly() -> None:
    code = "import sys; from conceptseg.cli.main import main; sys.exit(main(['--help']))"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout is not None and child.stderr is not None
    child.stdout.close()  # before the child has anything to say
    err = child.stderr.read()
    child.stderr.close()
    assert (child.wait(), err) == (1, b"")


def raising(error: BaseException):
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail
