"""Stage 1 on files: unlabelled images, phrases from a list, and the teacher's features kept on disk."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import conceptseg as cs
from conceptseg.distil.batch import DistilBatch
from conceptseg.distil.feature_cache import FeatureCache
from conceptseg.distil.images import ImageBatches, find_images, image_batch
from conceptseg.distil.recipe import DistilDataConfig
from conceptseg.distil.run import distil
from conceptseg.distil.teacher import normalised
from conceptseg.errors import ConfigError, DataError
from conceptseg.images import model_input
from tests.distil.tiny import tiny_recipe
from tests.evaluation.scripted import write_coco
from tests.train.tiny import tiny_tokenizer

COUNT = 5


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Five images of different sizes, and phrases.txt beside the folder."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(COUNT):
        pixels = rng.integers(0, 255, (40 + number, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    (tmp_path / "phrases.txt").write_text("red circle\n\ncoin\nred circle\n")
    return folder


def source(pictures: Path, **changes: object) -> dict[str, object]:
    return {"source": str(pictures), "phrases": str(pictures.parent / "phrases.txt"), **changes}


def batches(pictures: Path, steps: int = 10, process: int = 0, processes: int = 1) -> ImageBatches:
    config = DistilDataConfig(images=2, questions=1, **source(pictures))  # type: ignore[arg-type]
    paths, phrases = find_images(config)
    return ImageBatches(
        paths,
        phrases,
        config,
        tiny_tokenizer(),
        steps=steps,
        resolution=32,
        seed=1,
        process=process,
        processes=processes,
    )


def test_every_image_comes_once_before_any_comes_twice(pictures: Path) -> None:
    data = batches(pictures)
    first_round = torch.cat([data[step].pixels for step in range(COUNT)])[:COUNT]
    assert len({image.numpy().tobytes() for image in first_round}) == COUNT


def test_a_step_is_the_same_whenever_it_is_asked_for(pictures: Path) -> None:
    one, other = batches(pictures)[7], batches(pictures)[7]
    assert torch.equal(one.pixels, other.pixels) and one.phrases == other.phrases
    assert set(one.phrases) <= {"red circle", "coin"} and len(one.phrases) == 2


def test_processes_share_the_images_of_a_step(pictures: Path) -> None:
    parts = [batches(pictures, process=process, processes=2)[0].pixels for process in range(2)]
    together = torch.cat([batches(pictures)[step].pixels for step in range(2)])
    assert torch.equal(torch.cat(parts), together)


def test_a_dataset_gives_its_images_and_phrases_and_keeps_its_labels(tmp_path: Path) -> None:
    data = write_coco(
        tmp_path / "data", {"a.png": {"coin": [[0, 0, 9, 9]]}, "b.png": {"star": [[0, 0, 9, 9]]}}
    )
    paths, phrases = find_images(DistilDataConfig(source=str(data)))
    assert ([path.name for path in paths], phrases) == (["a.png", "b.png"], ["coin", "star"])


def test_stage_1_from_a_folder_with_and_without_a_cache_ends_alike(
    pictures: Path, tiny_model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = {}
    for name, more in (("fly", {}), ("disk", {"cache": str(tmp_path / "cache")})):
        recipe = tiny_recipe(
            1, tiny_model_folder, resolution=None, precision="float32", data=source(pictures, **more)
        )
        distil(recipe, tmp_path / name)
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        runs[name] = [json.loads(line)["loss/vision_mse"] for line in lines]
    assert runs["disk"] == pytest.approx(runs["fly"], rel=0.02)  # kept in bfloat16
    assert "the teacher's features take 5 images x 0.05 MB = 0.00 GB" in capsys.readouterr().err
    assert cs.load(tmp_path / "disk" / "model").resolution == 96


def test_a_batch_in_parts_keeps_the_teachers_features_with_their_images() -> None:
    levels = [torch.arange(4.0).view(4, 1, 1, 1)]
    pixels = torch.arange(4, dtype=torch.uint8).view(4, 1, 1, 1).expand(4, 3, 2, 2)
    tokenizer = tiny_tokenizer()
    whole = image_batch(pixels, [f"coin {i}" for i in range(8)], tokenizer, levels)
    parts = whole.split(3)
    for part in parts:
        assert isinstance(part, DistilBatch) and part.teacher_levels is not None
        assert torch.equal(part.teacher_levels[0].flatten(), part.pixels[:, 0, 0, 0].float())
        named = [int(phrase.split()[1]) % 4 for phrase in part.phrases]
        assert part.pixels[part.image_index, 0, 0, 0].tolist() == named
        assert torch.equal(part.token_ids, tokenizer(part.phrases))
    assert [len(part.pixels) for part in parts] == [2, 1, 1]
    nothing_asked = image_batch(pixels, [], tokenizer, levels).split(2)
    assert [part.examples for part in nothing_asked] == [2, 2]


def cache(folder: Path, pictures: Path, teacher: str = "f00", resolution: int = 32) -> FeatureCache:
    return FeatureCache(folder, teacher, sorted(pictures.iterdir()), resolution, images_per_shard=2)


def features(numbers: object) -> list[torch.Tensor]:
    (number,) = numbers  # type: ignore[misc]
    return [torch.full((1, 3, 4, 4), float(number)), torch.full((1, 3, 2, 2), -float(number))]


def test_features_come_back_by_the_number_of_their_image(pictures: Path, tmp_path: Path) -> None:
    kept = cache(tmp_path / "cache", pictures)
    kept.fill(features)
    fine, coarse = kept.read([4, 0])
    assert (fine.shape, coarse.shape, fine.dtype) == ((2, 3, 4, 4), (2, 3, 2, 2), torch.bfloat16)
    assert fine[:, 0, 0, 0].tolist() == [4, 0] and coarse[:, 0, 0, 0].tolist() == [-4, 0]
    shards = sorted(path.name for path in (tmp_path / "cache").glob("*.safetensors"))
    assert shards == [f"features-0000{i}.safetensors" for i in range(3)]
    assert set(load_file(tmp_path / "cache" / shards[2])) == {"4.0", "4.1"}


def test_filling_goes_on_where_it_stopped(pictures: Path, tmp_path: Path) -> None:
    cache(tmp_path / "cache", pictures).fill(features)
    (tmp_path / "cache" / "features-00001.safetensors").unlink()
    asked: list[object] = []

    def noted(numbers: object) -> list[torch.Tensor]:
        asked.append(numbers)
        return features(numbers)

    cache(tmp_path / "cache", pictures).fill(noted)
    assert asked == [[2], [3]]


def test_processes_fill_their_shares_of_the_shards(pictures: Path, tmp_path: Path) -> None:
    for process in (1, 0):
        cache(tmp_path / "cache", pictures).fill(features, process, 2)
        names = sorted(path.name for path in (tmp_path / "cache").glob("*.safetensors"))
        assert len(names) == (1 if process else 3)
    assert cache(tmp_path / "cache", pictures).read([2])[0].mean() == 2


def test_the_features_of_other_images_of_the_same_names_are_refused(pictures: Path, tmp_path: Path) -> None:
    cache(tmp_path / "cache", pictures).fill(features)
    Image.new("RGB", (9, 9)).save(pictures / "0.png")
    with pytest.raises(DataError, match="features of another run: names"):
        cache(tmp_path / "cache", pictures).fill(features)


def test_the_estimate_is_what_is_written(pictures: Path, tmp_path: Path) -> None:
    kept = cache(tmp_path / "cache", pictures)
    size = kept.estimate(features([0]))
    kept.fill(features)
    data = [load_file(path) for path in (tmp_path / "cache").glob("*.safetensors")]
    written = sum(2 * tensor.numel() for tensors in data for tensor in tensors.values())
    assert size.images * size.bytes_per_image == written
    assert str(size) == "5 images x 0.00 MB = 0.00 GB"


def test_the_features_of_another_teacher_are_refused(pictures: Path, tmp_path: Path) -> None:
    cache(tmp_path / "cache", pictures).fill(features)
    with pytest.raises(DataError, match="teacher is 'f00', now 'other'"):
        cache(tmp_path / "cache", pictures, teacher="other").fill(features)
    with pytest.raises(DataError, match="holds no features"):
        cache(pictures, pictures).fill(features)


def test_a_missing_shard_is_said(pictures: Path, tmp_path: Path) -> None:
    kept = cache(tmp_path / "cache", pictures)
    kept.fill(features)
    (tmp_path / "cache" / "features-00000.safetensors").write_bytes(b"damaged")
    with pytest.raises(DataError, match="features-00000"):
        kept.read([1])


def test_a_cache_over_the_limit_is_refused_before_it_is_written(
    pictures: Path, tiny_model_folder: Path, tmp_path: Path
) -> None:
    more = source(pictures, cache=str(tmp_path / "cache"), cache_limit_gb=1e-6)
    with pytest.raises(ConfigError, match="cache_limit_gb = 1e-06"):
        distil(tiny_recipe(1, tiny_model_folder, data=more), tmp_path / "run")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"source": "nowhere"}, "nowhere"),
        ({"phrases": "nowhere.txt"}, "nowhere.txt: no such|no list of phrases"),
    ],
)
def test_missing_files_are_said(pictures: Path, changes: dict[str, str], words: str) -> None:
    with pytest.raises(DataError, match=words):
        find_images(DistilDataConfig(**{**source(pictures), **changes}))  # type: ignore[arg-type]


def test_models_see_images_exactly_as_in_use(picture: np.ndarray) -> None:
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    pixels = torch.from_numpy(picture).permute(2, 0, 1)[None]
    assert torch.equal(normalised(pixels, 32, mean, std)[0], model_input(picture, 32, mean, std))
