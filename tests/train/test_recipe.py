"""Recipes: what is read is what is written, and every slip is named."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from conceptseg.errors import ConfigError
from conceptseg.models.config import ConvNetConfig, ViTConfig
from conceptseg.models.presets import PRESETS
from conceptseg.train.recipe import ModelChoice, Recipe, load_recipe
from conceptseg.train.recipe_file import differences, dump_recipe, read_recipe, recipe_names, recipe_task
from tests.train.tiny import write_recipe


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write_recipe(tmp_path / "tiny.yaml")


@pytest.mark.parametrize("name", [name for name in recipe_names() if recipe_task(name) == "scenes"])
def test_every_packaged_recipe_of_scenes_loads(name: str) -> None:
    assert load_recipe(name).name == name


def test_nano_is_packaged() -> None:
    assert "nano" in recipe_names()


def test_a_recipe_survives_being_written_and_read(tiny: Path, tmp_path: Path) -> None:
    recipe = load_recipe(tiny)
    path = tmp_path / "again.yaml"
    path.write_text(dump_recipe(recipe))
    assert load_recipe(path) == recipe
    assert dump_recipe(load_recipe(path)) == dump_recipe(recipe)


def test_a_written_recipe_holds_every_default() -> None:
    written = yaml.safe_load(dump_recipe(Recipe()))
    assert written["optimiser"]["betas"] == [0.9, 0.98]
    fresh = {"start": None, "start_partly": False, "start_without": [], "new_tokenizer": False}
    trunk = {"trunk_weights": None}
    assert written["model"] == {"preset": "nano", "architecture": {}, **fresh, **trunk}
    assert written["data"]["stages"][0]["one_to_many"] is True


def test_entries_are_replaced_by_values_as_python_has_them(tiny: Path) -> None:
    values = {"seed": 9, "optimiser.betas": (0.8, 0.9), "data.stages.0.steps": 11, "frozen": ("neck",)}
    recipe = read_recipe(Recipe, tiny, ["seed=10"], values)
    assert (recipe.seed, recipe.optimiser.betas, recipe.frozen) == (10, (0.8, 0.9), ("neck",))
    assert recipe.data.stages[0].steps == 11
    with pytest.raises(ConfigError, match="seed.of: seed is a value, not a section"):
        read_recipe(Recipe, tiny, values={"seed.of": 1})


def test_steps_are_those_of_all_stages(tiny: Path) -> None:
    assert load_recipe(tiny).steps == 4 + 3


def test_overrides_reach_sections_list_items_and_what_the_file_left_out(tiny: Path) -> None:
    recipe = load_recipe(
        tiny,
        [
            "seed=7",
            "optimiser.lr=2e-4",
            "data.stages.1.steps=50",
            "data.stages.0.difficulty=[0, 1]",
            "weights.presence=3",
            "model.architecture.decoder.queries=20",
            "optimiser.vision_lr=null",
            "loss.matching.l1=4",
        ],
    )
    assert recipe.seed == 7
    assert recipe.optimiser.lr == 2e-4
    assert [stage.steps for stage in recipe.data.stages] == [4, 50]
    assert recipe.data.stages[0].difficulty == (0.0, 1.0)
    assert recipe.weights.presence == 3.0
    assert recipe.model.detector_config().decoder.queries == 20
    assert recipe.optimiser.vision_lr is None
    assert recipe.loss.matching.l1 == 4.0


@pytest.mark.parametrize("number", ["1e-4", "1E-4", "1.0e-4", "0.0001"])
def test_a_number_may_be_written_as_python_writes_it(tiny: Path, number: str) -> None:
    """Plain YAML takes 1e-4 for a word."""
    assert load_recipe(tiny, [f"optimiser.lr={number}"]).optimiser.lr == 1e-4


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("seed", "override 'seed' is not of the form key=value"),
        ("=1", "not of the form key=value"),
        ("sede=1", "recipe has unknown key 'sede'; known keys are accumulate, checkpoint"),
        ("optimiser.rate=1", "recipe.optimiser has unknown key 'rate'"),
        ("seed=one", "recipe.seed must be int, got 'one'"),
        ("seed=true", "recipe.seed must be int, got True"),
        ("optimiser.lr=fast", "recipe.optimiser.lr must be float, got 'fast'"),
        ("optimiser=1", "recipe.optimiser must be a mapping"),
        ("seed.of=1", "override seed.of: seed is a value, not a section"),
        ("data.stages.2.steps=5", "override data.stages.2.steps: 2 is no number from 0 to 1"),
        ("data.stages.x.steps=5", "x is no number from 0 to 1"),
        ("data.stages.0.stepz=5", "recipe.data.stages[0] has unknown key 'stepz'"),
        ("data.stages=[]", "data.stages is empty"),
        ("data.stages=3", "recipe.data.stages must be a list"),
        ("data={a", "override 'data={a' is no valid YAML"),
        ("precision=fp8", "recipe.precision is 'fp8'; choose 'bf16', 'float32'"),
        (
            "model.preset=huge",
            "model.preset is 'huge'; choose sam3, sam3-repvit, sam3-tinyvit, sam3-efficientvit, sam3-half, "
            "sam3-vit-b, nano, nano-teacher, nano-student",
        ),
        ("model.architecture.widht=8", "model.architecture has unknown key 'widht'"),
        ("model.architecture.decoder.layers=two", "model.architecture.decoder.layers must be int, got 'two'"),
        ("model.architecture=8", "recipe.model.architecture must be dict, got 8"),
        ("model.architecture.width=33", "width = 33 is not a multiple of exemplar.heads"),
    ],
)
def test_a_wrong_override_is_named(tiny: Path, override: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_recipe(tiny, [override])
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("optimiser.lr=0", "optimiser.lr is 0.0; it must be above 0"),
        ("optimiser.lr=.nan", "optimiser.lr is nan"),
        ("optimiser.vision_lr=-1", "optimiser.vision_lr"),
        ("optimiser.betas=[0.9]", "optimiser.betas is [0.9]; it must be two numbers"),
        ("optimiser.eps=0", "optimiser.eps is 0.0; it must be above 0"),
        ("optimiser.warmup_steps=-1", "optimiser.warmup_steps"),
        ("optimiser.final_lr=2", "optimiser.final_lr"),
        ("optimiser.clip_norm=0", "optimiser.clip_norm"),
        ("optimiser.weight_decay=-0.1", "optimiser.weight_decay"),
        ("seed=-1", "seed is -1; it must be 0 or more"),
        ("mask_margin=-0.1", "mask_margin is -0.1; it must be none, or 0 or more"),
        ("ema_decay=1", "ema_decay is 1.0; it must be from 0 to below 1"),
        ("save_every=0", "save_every is 0; it must be 1 or more"),
        ("log_every=0", "log_every"),
        ("validate_every=0", "validate_every"),
        ("validation_batches=-1", "validation_batches"),
        ("name=../else", "name is '../else'; it must be fit to be the name of a folder"),
        ("data.workers=-1", "data.workers is -1"),
        ("data.stages.0.steps=0", "steps >= 1"),
        ("data.stages.0.images=3", "an even number of images"),
        ("data.stages.0.render_size=32", "render_size >= 64"),
        ("data.stages.0.difficulty=[0.5]", "difficulty is [0.5]; give two numbers from 0 to 1"),
        ("data.stages.0.difficulty=[0, 2]", "two numbers from 0 to 1"),
        (
            "data.stages.1.resolution=100",
            "data.stages.1.resolution is 100; it must be a multiple of 32 for this model",
        ),
        ("preprocessing.resolution=0", "preprocessing.resolution is 0"),
        ("data.questions.phrase=-1", "shares of the question kinds"),
    ],
)
def test_a_value_no_run_could_use_is_refused_before_the_run(tiny: Path, override: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_recipe(tiny, [override])
    assert words in str(caught.value)


def test_an_unknown_recipe_lists_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"no recipe 'naon'; give a .yaml file or one of .*nano"):
        load_recipe("naon")


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ConfigError, match="no recipe file nowhere.yaml"):
        load_recipe("nowhere.yaml")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "must hold a mapping"),
        (b"- 1\n", "must hold a mapping"),
        (b"seed: [1\n", "no valid YAML"),
        (b"seed: !!python/object:os.system x\n", "no valid YAML"),
        (b"name: \xff\n", "not a text file in UTF-8"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=words):
        load_recipe(path)


def test_without_an_architecture_the_preset_stands() -> None:
    for name, preset in PRESETS.items():
        assert ModelChoice(preset=name).detector_config() == preset


def test_an_architecture_is_laid_over_the_preset_section_by_section() -> None:
    nano = PRESETS["nano"]
    changed = ModelChoice(architecture={"width": 64, "decoder": {"layers": 2}}).detector_config()
    assert (changed.width, changed.decoder.layers) == (64, 2)
    assert changed.decoder.queries == nano.decoder.queries
    assert changed.fusion == nano.fusion


def test_a_part_of_another_kind_replaces_the_presets_part() -> None:
    assert isinstance(PRESETS["nano"].vision, ConvNetConfig)
    vision = {"kind": "vit", "width": 64, "depth": 2, "heads": 2, "global_blocks": [1]}
    neck = {"scales": [4.0, 2.0, 1.0], "per_level": False}
    changed = ModelChoice(architecture={"vision": vision, "neck": neck}).detector_config()
    assert changed.vision == ViTConfig(width=64, depth=2, heads=2, global_blocks=(1,))


def test_two_recipes_differ_where_it_is_said(tiny: Path) -> None:
    one = load_recipe(tiny)
    assert differences(one, load_recipe(tiny)) == []
    other = load_recipe(tiny, ["optimiser.lr=0.5", "model.architecture.width=64"])
    assert differences(one, other) == [
        "optimiser.lr is 0.001 and 0.5",
        "model.architecture.width is 32 and 64",
    ]
