"""The benchmark, asked of a segmenter that knows every answer."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import conceptseg as cs
from conceptseg.data.scenes import Scene, render_scene

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "nano_scenes.py"
COUNT = 4


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("nano_scenes_benchmark", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


class Oracle:
    """Answers from the scene itself; `lie` makes it answer every prompt with every object."""

    def __init__(self, split: str, lie: bool = False) -> None:
        self.scenes = [render_scene(number, theme=number // 2, split=split) for number in range(COUNT)]
        self.lie = lie

    def encode(self, image: np.ndarray) -> Scene:
        return next(scene for scene in self.scenes if np.array_equal(scene.image, image))

    def exemplar(self, scene: Scene, boxes: list[list[float]], labels: list[int]) -> str:
        return next(item.family for item in scene.objects if list(item.box_xyxy) == boxes[0])

    def segment(
        self, scene: Scene, text: list[str] | None = None, boxes: Any = None, labels: Any = None,
        exemplar: str | None = None, threshold: float = 0.5,
    ) -> Any:  # fmt: skip
        if text is not None:
            return [self._result(scene, scene.phrases.get(phrase, [])) for phrase in text]
        family = exemplar or self.exemplar(scene, boxes, labels)
        return self._result(scene, scene.families.get(family, []))

    def _result(self, scene: Scene, members: list[int]) -> cs.Result:
        chosen = list(range(len(scene.objects))) if self.lie else members
        presence = 1.0 if chosen else 0.0
        return cs.Result(
            phrase="",
            image_size=scene.image.shape[:2],
            masks=np.stack([scene.objects[i].mask for i in chosen])
            if chosen
            else np.zeros((0, 256, 256), bool),
            boxes=np.array([scene.objects[i].box_xyxy for i in chosen], np.float32).reshape(-1, 4),
            scores=np.ones(len(chosen), np.float32),
            class_scores=np.ones(len(chosen), np.float32),
            presence=presence,
            presence_logit=0.0,
        )


@pytest.mark.parametrize("split", ["held_out", "unseen"])
def test_a_model_that_knows_every_answer_gets_full_marks(benchmark: ModuleType, split: str) -> None:
    tallies = benchmark.evaluate_scenes(Oracle(split), range(COUNT), COUNT, split, 256, 1.0)
    for prompt in ("text", "exemplar"):
        metrics = tallies[prompt].compute()
        assert metrics["masks"]["cgf1"] == pytest.approx(1, abs=1e-2), prompt
        assert metrics["boxes"]["cgf1"] == pytest.approx(1, abs=1e-2), prompt
        assert metrics["presence"] == {"auroc": 1, "ece": 0}
        # as many absent prompts as present ones, or a few less where all scenes look alike
        pairs, positive = metrics["masks"]["pairs"], metrics["masks"]["positive_pairs"]
        assert pairs == 2 * positive > 0 if prompt == "text" else positive < pairs <= 2 * positive


def test_a_model_that_answers_everything_gets_none(benchmark: ModuleType) -> None:
    tallies = benchmark.evaluate_scenes(
        Oracle("held_out", lie=True), range(COUNT), COUNT, "held_out", 256, 1.0
    )
    assert tallies["text"].compute()["masks"]["il_mcc"] == 0
    assert tallies["text"].compute()["masks"]["cgf1"] == 0


def test_the_results_name_the_command_and_show_percent(
    benchmark: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(benchmark.cs, "load", lambda model, device, dtype: Oracle("held_out"))
    monkeypatch.setattr(benchmark.torch, "set_num_threads", lambda threads: None)
    words = ["--count", "4", "--splits", "held_out", "--workers", "1", "--out", str(tmp_path)]
    assert benchmark.main(words) == 0
    report = json.loads((tmp_path / "nano_scenes.json").read_text())
    assert report["command"] == "python benchmarks/nano_scenes.py --model nano --count 4 --splits held_out"
    table = (tmp_path / "nano_scenes.md").read_text()
    assert "| held-out | phrase | 100.0 |" in table.replace("99.9", "100.0")
    assert capsys.readouterr().out.splitlines()[-1].startswith("wrote ")


def test_an_odd_number_of_scenes_is_refused(
    benchmark: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        benchmark.main(["--count", "5"])
    assert "--count 5 must be even and at least 4" in capsys.readouterr().err
