"""`conceptseg distill` runs a stage and says where the student is."""

from __future__ import annotations

from pathlib import Path

import pytest

import conceptseg as cs
from tests.cli.finished import Run, assert_one_error

SMALL = (
    "steps=2", "validation_batches=0", "data.images=2", "data.workers=0", "data.render_size=64",
    "architecture.vision={stem_width: 4, widths: [4, 8, 12, 16], blocks: [1, 1, 1, 1], pyramid_width: 32}",
    "architecture.text={width: 16, depth: 1, heads: 2, mlp_width: 16}",
)  # fmt: skip


def test_a_stage_is_run_and_its_student_named(run: Run, tiny_model_folder: Path) -> None:
    arguments = (
        "--teacher",
        tiny_model_folder,
        "--student",
        "nano-student",
        "--stage",
        1,
        "--data",
        "scenes",
    )
    finished = run("distill", *arguments, "--out", "runs/one", *SMALL)
    assert (finished.code, finished.out) == (0, "wrote runs/one/model\n")
    assert cs.load("runs/one/model").config.provenance["recipe"] == "distil, stage 1"
    # A run that is complete has nothing left to do, and the same command says so by ending well.
    assert run("distill", *arguments, "--out", "runs/one", "--resume", *SMALL).code == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"--student": "no-such-model"}, ["no-such-model"]),
        ({"--teacher": "no-such-model"}, ["no-such-model"]),
        ({"--stage": "4"}, ["--stage"]),
        ({"--stage": "2"}, ["'nano-student'", "RUN/model"]),
        ({"--data": "nowhere"}, ["nowhere"]),
        ({"--recipe": "no-such-recipe"}, ["no-such-recipe", "distil-1"]),
        ({"trainable=[vision]": ""}, ["trainable", "vision_encoder"]),
    ],
    ids=str,
)
def test_a_mistake_is_one_line(
    run: Run, tiny_model_folder: Path, changes: dict[str, str], words: list[str]
) -> None:
    options = {"--teacher": str(tiny_model_folder), "--student": "nano-student", "--stage": "1"}
    options |= {"--data": "scenes", "--out": "one", **changes}
    arguments = [part for option in options.items() for part in option if part]
    assert_one_error(run("distill", *arguments), *words)
    assert not Path("one").exists()  # the mended command may use it
