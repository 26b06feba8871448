"""What a kit holds, and how outputs of a port are read and compared."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

import conceptseg as cs
from conceptseg.conformance.kit import AGREES, DEPARTS, NOT_GIVEN, Kit, KitError, check, read_outputs, summary
from conceptseg.conformance.make import make_kit
from conceptseg.errors import OptionError
from tests.conformance.port import answers, asked, open_port


def right_answers(kit: Kit) -> dict[str, Any]:
    return {name: kit.expected(name).copy() for name in kit.stages}


@pytest.mark.parametrize("which", ["clip_kit", "mobileclip_kit"])
def test_the_network_that_made_a_kit_agrees_in_every_stage(
    which: str, request: pytest.FixtureRequest
) -> None:
    kit = Kit(request.getfixturevalue(which))
    found = check(kit, answers(open_port(kit), kit))
    assert {finding.status for finding in found.findings} == {AGREES}
    assert summary(found) == f"no stage departs; {len(kit.stages)} of {len(kit.stages)} were compared"


def test_the_random_weights_leave_nothing_untested(kit: Kit) -> None:
    presence, logits = kit.expected("presence"), kit.expected("class")
    assert np.abs(presence).max() > 10 > np.abs(presence).min()  # on both sides of the clamp
    assert (np.abs(logits) == 12).any() and (np.abs(logits) < 12).mean() > 0.5
    assert logits.std(axis=0).max() > 1 and logits.std(axis=1).min() > 1  # queries and prompts differ
    # What layer norms read is small, or their epsilon would not show.
    for name in ("trunk.embedding", "trunk.blocks.2", "text.blocks.0", "fusion.layers.0"):
        assert kit.expected(name).std() < 0.2
    masks = [kit.expected(f"result.{pair}.masks") for pair in range(4)]
    assert any(0 < mask.mean() < 1 for mask in masks if mask.size)
    assert {len(mask) for mask in masks} > {0}
    for name, tensor in kit.weights().items():
        assert tensor.size == 1 or tensor.std() > 0 or name.endswith("text_projection")  # which nothing reads


def test_two_kits_of_one_seed_are_the_same(kit: Kit, tmp_path: Path) -> None:
    again = Kit(make_kit(tmp_path / "again"))
    assert again.about == kit.about
    assert all(np.array_equal(again.expected(name), kit.expected(name)) for name in kit.stages)
    other = Kit(make_kit(tmp_path / "other", seed=1))
    assert not np.array_equal(other.expected("trunk"), kit.expected("trunk"))


def test_the_weights_are_those_of_the_official_file(kit: Kit) -> None:
    official = torch.load(kit.folder / kit.about["weights"], weights_only=True)
    ours = kit.weights()
    assert set(official) - set(ours) == {name for name in official if name.endswith("freqs_cis")}
    assert all(np.array_equal(official[name].numpy(), value) for name, value in ours.items())
    segmenter = cs.load(kit.folder / "official")
    assert torch.equal(segmenter.tokenizer(kit.about["phrases"]), asked(kit).token_ids)


def test_the_readme_and_the_index_name_every_tensor(kit: Kit) -> None:
    readme = (kit.folder / "README.md").read_text()
    for name, stage in kit.stages.items():
        assert f"| `{name}` | {stage.layout} |" in readme
        assert kit.expected(name).shape == stage.shape
        assert set(stage.reads) < set(kit.stages)
    assert set(kit.inputs) == set(kit.about["inputs"])


def test_padding_may_stand_anywhere(kit: Kit) -> None:
    given = right_answers(kit)
    padding = kit.expected("exemplar.padding")
    order = np.argsort(padding, axis=1, kind="stable")  # the official code moves padding to the end
    for name in ("exemplar.input", "exemplar.layers.0", "exemplar.layers.1", "exemplar"):
        turned = np.swapaxes(given[name], 0, 1)
        given[name] = np.swapaxes(np.take_along_axis(turned, order[..., None], 1), 0, 1)
    assert check(kit, given).first is not None
    given["exemplar.padding"] = np.take_along_axis(padding, order, 1)
    assert check(kit, given).first is None


def test_values_of_padding_do_not_count(kit: Kit) -> None:
    given = right_answers(kit)
    given["text"][np.swapaxes(kit.expected("text.padding"), 0, 1)] = 1e6
    assert check(kit, given).first is None


def test_stages_that_a_port_cannot_reach_are_left_out(kit: Kit) -> None:
    given = {name: value for name, value in right_answers(kit).items() if name in ("memory", "masks")}
    given["memory"] += 1
    found = check(kit, given)
    assert [f.stage.name for f in found.findings if f.status != NOT_GIVEN] == ["memory", "masks"]
    assert found.first is not None and found.first.stage.name == "memory"


def test_each_cause_of_its_own_is_named(kit: Kit) -> None:
    given = right_answers(kit)
    for name in ("text.blocks.1", "text", "memory", "semantic"):
        given[name] += 1
    del given["text.blocks.0"]
    found = check(kit, given)
    assert [finding.stage.name for finding in found.sources] == ["text.blocks.1", "semantic"]
    assert "departs by itself, too: semantic" in summary(found)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda memory: memory[..., :16], "shape (100, 4, 16), not (100, 4, 32), which is (HW, B, D)"),
        (lambda memory: np.where(memory > 0, np.nan, memory), "values are not finite"),
    ],
)
def test_another_shape_and_values_that_are_no_numbers_depart(kit: Kit, wrong: Any, words: str) -> None:
    given = right_answers(kit)
    given["memory"] = wrong(given["memory"])
    first = check(kit, given).first
    assert first is not None and first.status == DEPARTS and words in first.where


def test_a_larger_tolerance_lets_half_precision_pass(kit: Kit) -> None:
    rounded = {
        name: value.astype(np.float16) if value.dtype == np.float32 else value
        for name, value in right_answers(kit).items()
    }
    assert check(kit, rounded).first is not None
    assert check(kit, rounded, tolerance=0.01).first is None


@pytest.mark.parametrize("form", ["safetensors", "npz", "folder"])
def test_outputs_come_in_three_forms(kit: Kit, tmp_path: Path, form: str) -> None:
    given = right_answers(kit)
    path = tmp_path / f"outputs.{form}"
    if form == "safetensors":
        save_file(given, path)
    elif form == "npz":
        np.savez(path, **given)
    else:
        path.mkdir()
        for name, value in given.items():
            np.save(path / f"{name}.npy", value)
    assert set(read_outputs(path)) == set(given)
    assert check(kit, path).first is None


def test_what_cannot_be_read_is_refused_in_words(kit: Kit, tmp_path: Path) -> None:
    with pytest.raises(KitError, match=r"kit\.json"):
        Kit(tmp_path)
    (tmp_path / "kit.json").write_text(json.dumps({**kit.about, "version": 9}))
    with pytest.raises(KitError, match="version 9; this reads version 1"):
        Kit(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(KitError, match="holds no"):
        read_outputs(tmp_path / "empty")
    (tmp_path / "bad.safetensors").write_bytes(b"x")
    with pytest.raises(KitError, match=r"cannot read .*bad\.safetensors"):
        read_outputs(tmp_path / "bad.safetensors")
    with pytest.raises(KitError, match="no output has the name of a stage; got mask"):
        check(kit, {"mask": np.zeros(3)})
    with pytest.raises(OptionError, match="unknown text encoder 'bert'; choose clip, mobileclip"):
        make_kit(tmp_path / "kit", "bert")  # type: ignore[arg-type]


def test_the_reader_in_the_kit_needs_neither_torch_nor_this_package(kit: Kit, tmp_path: Path) -> None:
    given = right_answers(kit)
    given["trunk.blocks.1"] *= 1.001
    save_file(given, tmp_path / "port.safetensors")
    code = (
        f"import sys; sys.path.insert(0, {str(kit.folder)!r}); import conformance_kit as ck\n"
        f"code = ck.main([{str(tmp_path / 'port.safetensors')!r}])\n"
        "assert not {'torch', 'conceptseg'} & set(sys.modules)\n"
        "sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "first departure: trunk.blocks.1" in done.stdout
