"""`conceptseg conformance`: make a kit, check a port against it."""

from __future__ import annotations

import json

import numpy as np
from safetensors.numpy import load_file, save_file

from tests.cli.finished import Run, assert_one_error


def test_a_port_that_is_right_passes_and_one_that_is_wrong_is_told_where(run: Run) -> None:
    made = run("conformance", "make", "kit")
    assert made.code == 0
    assert made.out.splitlines()[-1] == "wrote kit, and kit/README.md on how to use it"
    right = run("conformance", "check", "kit", "kit/stages.safetensors")
    assert right.code == 0
    assert right.out.splitlines()[-1].startswith("no stage departs; ")

    given = load_file("kit/stages.safetensors")
    given["memory"] = given["memory"] + np.float32(0.01)
    given["fusion.layers.7"] = given["memory"]
    save_file(given, "port.safetensors")
    wrong = run("conformance", "check", "kit", "port.safetensors")
    assert wrong.code == 1
    assert wrong.err == "note: no stage is called fusion.layers.7\n"
    assert wrong.out.splitlines()[-1].startswith("first departure: memory (image tokens that have read")
    assert run("conformance", "check", "kit", "port.safetensors", "--tolerance", "0.1").code == 0

    found = run("conformance", "check", "kit", "port.safetensors", "--json")
    values = json.loads(found.out)
    assert (found.code, values["first"], values["causes"]) == (1, "memory", ["memory"])
    assert values["stages"]["memory"]["distance"] > 0.01
    assert "first departure: memory" in found.err


def test_what_is_no_kit_and_what_is_no_output_ends_in_one_line(run: Run) -> None:
    assert_one_error(run("conformance", "check", "nothing", "nothing.npz"), "nothing/kit.json")
    assert run("conformance", "make", "kit").code == 0
    assert_one_error(run("conformance", "check", "kit", "nothing.npz"), "cannot read nothing.npz")
    assert_one_error(run("conformance", "check", "kit", "kit/inputs.safetensors"), "name of a stage")
