"""Short trainings of variants: the run on a tiny model, and what claims make of tables written by hand."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from benchmarks import trainings
from conceptseg.errors import ConfigError
from conceptseg.evaluation.cgf1 import ConceptEvaluator, ConceptPair
from conceptseg.evidence.claims import SETTLED, TRAININGS
from conceptseg.evidence.measurement import Line
from conceptseg.evidence.training_grid import TrainingGrid, cgf1
from conceptseg.evidence.training_judge import ANSWER
from conceptseg.evidence.trainings import load_start
from conceptseg.evidence.trainings_recipe import Variant, read_trainings
from conceptseg.models.config import BridgeConfig
from conceptseg.study.table import Table
from tests.conftest import TINY

SIZES = {"layers": 1, "heads": 2, "mlp_width": 32, "dropout": 0.0}
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def recipe(tmp_path: Path, tiny_model_folder: Path) -> Path:
    values = {
        "model": str(tiny_model_folder),
        "seeds": [0, 1],
        "scenes": 3,
        "photographs": 4,
        "recipe": [
            "train_steps=2", "pool.scenes=4", "pool.pairs=1", "pool.mask_size=16", "validate_every=1",
            "validation_batches=1", "optimiser.warmup_steps=1",
            "phases=[{until: 1.0, weight: 0.0, rate: 1.0}]",
        ],
        "variants": {
            "roi 0": {"group": "exemplar", "fresh": ["exemplar_encoder"]},
            "bridge 0": {
                "group": "exemplar",
                "fresh": ["exemplar_encoder"],
                "architecture": {"exemplar": {"kind": "bridge", **SIZES}},
            },
            "vision roi 0": {
                "group": "exemplar",
                "gradients": 2,
                "recipe": ["keep_features=false", "trainable=[vision_encoder]"],
            },
            "student": {"group": "student", "model": str(tiny_model_folder.parent / "{seed}" / "tiny")},
            "pool mean": {
                "group": "fusion",
                "asks": "phrases",
                "fresh": ["fusion_encoder"],
                "architecture": {"fusion": {"pool_prompt": "mean"}},
                "recipe": ["trainable=[fusion_encoder]"],
            },
        },
    }  # fmt: skip
    path = tmp_path / "trainings.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return path


@pytest.mark.slow
def test_variants_train_are_judged_alike_and_a_stopped_run_goes_on(
    recipe: Path,
    tiles: Path,
    tmp_path: Path,
    tiny_model_folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    results = tmp_path / "results"
    for seed in ("0", "1"):
        if not (tiny_model_folder.parent / seed).exists():
            shutil.copytree(tiny_model_folder, tiny_model_folder.parent / seed / "tiny")
    run = ["run", "--recipe", str(recipe), "--data", str(tiles), "--work", str(tmp_path / "work")]
    run += ["--results", str(results)]
    assert trainings.main(["collect", *run[1:]]) == 2
    assert "holds no trainings yet" in capsys.readouterr().err
    assert trainings.main([*run, "--minutes", "0"]) == 0
    assert "roi 0: 0 of 2 seeds" in capsys.readouterr().out and not results.exists()
    assert trainings.main([*run, "--variants", "roi 0,bridge 0"]) == 0
    first = (tmp_path / "work" / "roi 0" / "0001.json").read_bytes()
    assert trainings.main(run) == 0
    assert "pool mean: 2 of 2 seeds" in capsys.readouterr().out
    assert (tmp_path / "work" / "roi 0" / "0001.json").read_bytes() == first
    assert {it.name for it in results.iterdir()} == {
        f"{group}-trainings-{source}.json"
        for group in ("exemplar", "fusion", "student")
        for source in ("scenes", "photographs")
    }
    table = Table.load(results / "exemplar-trainings-scenes.json")
    grid = TrainingGrid(table)
    assert grid.names == ("roi 0", "bridge 0", "vision roi 0") and len(grid.keys) == 2 * 3
    assert all(row["targets"] >= 1 for row in table.rows)
    runs = grid.runs
    assert len(runs["roi 0"][1]["losses"]) == 2 and len(runs["roi 0"][1]["box_f1"]) == 2
    assert len(runs["bridge 0"][0]["before"]["level_weights"]) == 3
    assert len(runs["bridge 0"][0]["after"]["gate"]) == TINY.width
    assert len(runs["vision roi 0"][0]["after"]["conflict"]) == 2
    # Fresh encoders differ from seed to seed, and the one that was kept does not.
    own = {
        name: [[row["own"] for row in table.where(variant=name, seed=seed).rows] for seed in (0, 1)]
        for name in grid.names
    }
    assert own["roi 0"][0] != own["roi 0"][1]
    # Nothing is said of claims while what they need is not there.
    for claim in TRAININGS:
        assert not claim.lines(Table.load(results / f"{claim.table}-photographs.json"))


def test_bad_recipes_are_refused(recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = ["run", "--recipe", str(recipe), "--data", str(tmp_path), "--work", str(tmp_path / "work")]
    assert trainings.main(run[:3]) == 2
    assert "give their folder with --data" in capsys.readouterr().err
    missing = tmp_path / "missing.yaml"
    missing.write_text(recipe.read_text().replace("{seed}/tiny", "nowhere-{seed}"))
    lost = ["run", "--recipe", str(missing), *run[3:]]
    assert trainings.main(lost) == 2  # before anything is trained
    assert "nowhere-0" in capsys.readouterr().err and not (tmp_path / "work").exists()
    assert trainings.main([*run, "--variants", "roi 9"]) == 2
    assert "no variant 'roi 9'; choose from roi 0, bridge 0" in capsys.readouterr().err
    for old, new, message in (
        ("asks: phrases", "asks: points", "choose 'boxes', 'phrases'"),
        ("train_steps=2", "train_steps=0", "variant roi 0: train_steps is 0"),
        ("photographs: 4", "photographs: 1", "two or more"),
        ("variants:", "variations:", "`variants` among them"),
        ("seeds:", "seed:", "unknown key 'seed'"),
    ):
        changed = tmp_path / "changed.yaml"
        changed.write_text(recipe.read_text().replace(old, new))
        with pytest.raises(ConfigError, match=message):
            read_trainings(changed)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_trainings(tmp_path / "none.yaml")


def test_what_is_added_at_nothing_leaves_a_finished_model_as_it_is(tiny_model_folder: Path) -> None:
    """A random projection would disturb the model, and be behind before it learns anything."""
    mean: dict[str, Any] = {"fusion": {"pool_prompt": "mean"}}
    image, phrase = torch.rand(1, 3, 64, 64), torch.tensor([[1, 5, 2, 0]])
    answers = {}
    for name, variant in (
        ("own", Variant()),
        ("zero", Variant(architecture=mean, zero=("fusion_encoder.pooling_projection",))),
        ("random", Variant(architecture=mean)),
    ):
        torch.manual_seed(3)
        detector, _, _ = load_start(str(tiny_model_folder), variant)
        with torch.inference_mode():
            answers[name] = detector.eval()(image, phrase).fusion.memory
    assert torch.equal(answers["own"], answers["zero"])
    assert not torch.allclose(answers["own"], answers["random"])
    with pytest.raises(ConfigError, match="zero names 'fusion_encoder.pooling', which this model does not"):
        load_start(str(tiny_model_folder), Variant(architecture=mean, zero=("fusion_encoder.pooling",)))


def test_the_committed_recipe_pairs_every_variant_with_its_control() -> None:
    recipe = read_trainings(ROOT / "benchmarks" / "trainings.yaml")
    for name, variant in recipe.variants.items():
        align = recipe.of(name, 1)
        assert align.seed == 1 and align.pool == recipe.of("roi 0", 1).pool or variant.asks == "phrases"
        alignment = align.alignment
        assert (alignment.against == "examples") == ("apart" in name)
        assert alignment.projected == (name == "roi apart projected 3" or not re.search("apart|raw", name))
        assert alignment.distillation == (not re.search("apart|raw", name))
        if name.startswith("vision"):
            assert not align.keep_features and variant.gradients >= 64
    for encoder in ("roi", "unified", "bridge", "adaptive", "roi_transformer"):
        weights = [recipe.of(f"{encoder} {it}", 0).phases[0].weight for it in ("0", "3", "100")]
        assert weights == [0.0, 3.0, 100.0]
    progressive, joint = recipe.of("roi progressive", 0), recipe.of("roi joint", 0)
    assert [phase.rate for phase in progressive.phases] == [0.1, 0.5, 1.0]
    assert progressive.optimiser == joint.optimiser and joint.optimiser.final_lr == 1.0  # no cosine over them
    parts = BridgeConfig(**SIZES, joints=("late",))
    assert parts.joints == ("late",) and "bridge late" in recipe.variants


# Claims, from tables written by hand

SEEDS, PICTURES = (0, 1, 2), 70


def answers(share: float, seed: int, apart: float = 0.0) -> list[dict[str, Any]]:
    """Every picture shows two things; in so many both are found, in the others something wrong is said."""
    rows = []
    for picture in range(PICTURES):
        good = picture < share * PICTURES
        rows.append(
            {
                "seed": seed,
                "picture": picture,
                **dict(zip(ANSWER, (2.0, 2, 2, 0) if good else (0.0, 0, 2, 1), strict=True)),
                "own": apart,
                "apart": apart + 0.001 * picture,
                "first": float(good),
                "projected_own": apart,
                "projected_apart": 2 * apart,
            }
        )
    return rows


def run_of(name: str, seed: int, better: float = 0.0) -> dict[str, Any]:
    noise = np.random.default_rng(seed).normal(0, 1 - better, 60)
    look = {
        "level_weights": [0.2, 0.3, 0.5],
        "gate": [0.4, 0.6],
        "kernels": [[side, 0.5 - side, 0.3, 0.2 + side] for side in (0.1, 0.2, 0.3)],
        "conflict": [-0.2, -0.1],
    }
    return {
        "variant": name,
        "seed": seed,
        "losses": (10 + noise).tolist(),
        "box_f1": [[10, 0.5 + better / 4], [20, 0.7 + better / 4]],
        "alignment": {"exemplar_contrastive": [2.0, 2 - better], "exemplar_distillation": [1.0, 0.5]},
        "before": look,
        "after": look,
    }


def table_of(shares: dict[str, float], apart: dict[str, float] | None = None) -> Table:
    rows, runs = [], []
    for name, share in shares.items():
        for seed in SEEDS:
            rows += [{"variant": name, **row} for row in answers(share, seed, (apart or {}).get(name, 0.0))]
            runs.append(run_of(name, seed, share))
    return Table({"runs": runs}, rows)


def needs_of(claim: str) -> tuple[str, ...]:
    return next(it.needs for it in TRAININGS if it.claim == claim)


def verdict_of(claim: str, table: Table) -> tuple[str, str, dict[str, Line]]:
    lines = {line.name: line for line in SETTLED[claim].lines(table)}
    found = SETTLED[claim].verdict(lines)
    assert set(found.effect) <= set(lines)
    return found.word, found.why, lines


def test_cgf1_of_the_rows_is_that_of_the_evaluation() -> None:
    rng = np.random.default_rng(3)
    evaluator, rows = ConceptEvaluator("boxes"), []
    for _ in range(40):
        wanted = np.array([[0.0, 0, 10, 10], [20, 0, 30, 10]])
        said = np.concatenate((wanted + rng.uniform(-3, 3, 4), [[50.0, 50, 60, 60]]))[rng.random(3) < 0.7]
        false = wanted[: rng.integers(0, 2)]
        one = ConceptEvaluator("boxes")
        for count in (one, evaluator):
            count.add(ConceptPair(np.ones(len(said)), predicted_boxes=said, target_boxes=wanted))
            count.add(ConceptPair(np.ones(len(false)), predicted_boxes=false, target_boxes=wanted[:0]))
        rows.append([float(one.true_positives.mean()), len(said), 2, len(false)])
    found = cgf1(np.array(rows))(np.ones((1, len(rows))))[0]
    assert found == pytest.approx(evaluator.compute().cgf1, rel=1e-3)  # but for what keeps it from 0 / 0


@pytest.mark.parametrize(
    ("claim", "shares", "word", "said"),
    [
        ("F1", {"pool none": 0.8, "pool mean": 1.0, "pool masked mean": 1.0}, "confirmed", "more is found"),
        ("F1", {"pool none": 0.8, "pool mean": 1.0, "pool masked mean": 0.8}, "depends", "which mean"),
        ("F1", {"pool none": 0.8, "pool mean": 0.8, "pool masked mean": 0.7}, "refuted", "nowhere is surely"),
        # Of a fresh one that learned too little nothing is said, whatever the other does.
        ("F1", {"pool none": 0.8, "pool mean": 1.0, "fresh pool none": 0.1, "fresh pool mean": 0.1},
         "confirmed", "more is found"),
        ("F1", {"pool none": 0.8, "pool mean": 0.8, "fresh pool none": 0.8, "fresh pool mean": 1.0},
         "depends", "to which model"),
        ("F1", {"pool none": 0.1, "pool mean": 0.5}, "cannot be tested here", "too little was learned"),
        ("G6", {"roi 0": 0.5, "unified 0": 0.6, "vision roi 0": 0.5, "vision unified 0": 0.8},
         "confirmed", "more where the vision encoder trains"),
        ("G6", {"roi 0": 0.5, "unified 0": 0.8, "vision roi 0": 0.5, "vision unified 0": 0.6},
         "depends", "frozen and training, not most"),
        ("G6", {"roi 0": 0.8, "unified 0": 0.5, "vision roi 0": 0.8, "vision unified 0": 0.5},
         "refuted", "finds less"),
        ("G7", {"bridge 0": 0.8, "bridge early": 0.6, "bridge middle": 0.5, "bridge late": 0.4},
         "confirmed", "than each alone"),
        ("G7", {"bridge 0": 0.6, "bridge early": 0.6, "bridge middle": 0.5, "bridge late": 0.8},
         "depends", "on the level"),
        ("G7", {"bridge 0": 0.5, "bridge early": 0.6, "bridge middle": 0.6, "bridge late": 0.5},
         "refuted", "no level alone"),
        ("G8", {"adaptive 0": 0.8, "adaptive no kernels": 0.5, "adaptive no selector": 0.8,
                "adaptive no modulator": 0.8, "roi 0": 0.4},
         "depends", "surely needed: kernels$"),
        ("G8", {"adaptive 0": 0.8, "adaptive no kernels": 0.5, "adaptive no selector": 0.6,
                "adaptive no modulator": 0.5, "roi 0": 0.4},
         "confirmed", "each of its parts"),
        ("G8", {"adaptive 0": 0.8, "adaptive no kernels": 0.5, "adaptive no selector": 0.6,
                "adaptive no modulator": 0.5, "roi 0": 0.9},
         "refuted", "not surely find more than roi"),
        ("G9", {"roi progressive": 0.8, "roi joint": 0.5}, "confirmed", "more"),
        ("G9", {"roi progressive": 0.5, "roi joint": 0.5}, "refuted", "neither"),
        ("G9", {"roi progressive": 0.5, "roi joint": 0.8}, "refuted", "joint objective surely finds more"),
        ("G10", {"roi 0": 0.4, "roi 3": 0.8}, "confirmed", "every remedy"),
        ("G10", {"roi 0": 0.8, "roi 3": 0.4, "adaptive 0": 0.4}, "refuted", "no remedy"),
        ("G10", {"roi 0": 0.4, "roi 3": 0.8, "adaptive 0": 0.4}, "depends", "alignment at 3 .gain in cgF1"),
    ],
)  # fmt: skip
def test_the_verdict_follows_from_the_differences(
    claim: str, shares: dict[str, float], word: str, said: str
) -> None:
    found, why, _ = verdict_of(claim, table_of(shares))
    assert found == word
    assert re.search(said, why), why


@pytest.mark.parametrize(
    ("more", "nearer", "word", "said"),
    [
        (0.3, 0.2, "confirmed", "the gap closes and more is found"),
        (0.3, 0.0, "depends", "not because the gap closes"),
        (0.0, 0.2, "refuted", "close the gap, but"),
        (-0.2, 0.0, "refuted", "at no weight does the gap surely close or"),
        (-0.2, -0.2, "refuted", "surely close (it widens)"),
    ],
)
def test_alignment_is_judged_by_the_gap_and_by_what_is_found(
    more: float, nearer: float, word: str, said: str
) -> None:
    shares = {"roi 0": 0.5, "unified 0": 0.5, "roi 3": 0.5 + more, "unified 3": 0.5 + more}
    found, why, lines = verdict_of("G5", table_of(shares, {"roi 3": nearer, "unified 3": nearer}))
    assert (found, said in why) == (word, True), why
    raw = lines["2 encoders at 3: nearer to its own feature, raw"].estimate
    assert raw.value == pytest.approx(nearer) and raw.seeds == 3
    fell = lines["roi at 3: contrastive loss in the last ten steps"].estimate
    assert fell.value == pytest.approx(-more) and fell.seeds == 3
    projected = lines["roi at 3: nearer, in the space of the losses"].estimate
    assert projected.value == pytest.approx(2 * nearer)


@pytest.mark.parametrize(
    ("more", "nearer", "word", "said"),
    [
        (0.3, 0.2, "depends", "from what other examples show, the gap closes and more is found (at 3)"),
        (0.3, 0.0, "refuted", "at no weight"),
        (0.0, 0.2, "refuted", "at no weight"),
    ],
)
def test_a_loss_that_tells_examples_apart_is_judged_beside_the_others(
    more: float, nearer: float, word: str, said: str
) -> None:
    shares = dict.fromkeys(("roi 0", "unified 0", "roi 3", "unified 3"), 0.5)
    shares |= dict.fromkeys(("roi apart 3", "unified apart 3"), 0.5 + more)
    table = table_of(shares, {"roi apart 3": nearer, "unified apart 3": nearer})
    for row in table.rows:
        if "apart" in row["variant"]:  # the loss has no space of its own
            row.update(projected_own=None, projected_apart=None)
    found, why, lines = verdict_of("G5", table)
    assert (found, said in why) == (word, True), why
    assert lines["2 encoders told apart at 3: gain in cgF1"].estimate.seeds == 3
    heavier = table_of({"roi 0": 0.2, "roi 3": 0.2, "roi apart 3": 0.4, "roi apart 30": 0.8})
    *_, at_30 = verdict_of("G5", heavier)
    less = at_30["1 encoder, told apart: at 30 less at 3, cgF1"].estimate
    assert less.value > 10 and less.above()
    assert "roi told apart at 3: nearer, in the space of the losses" not in lines
    assert "roi told apart at 3: contrastive loss in the last ten steps" not in lines  # another loss
    if found == "depends":
        assert "have trained" not in why
        same = {"own 0": 0.5, "own apart 3": 0.5}
        _, why, _ = verdict_of("G5", table_of(shares | same, {"roi apart 3": 0.2, "unified apart 3": 0.2}))
        assert why.endswith("by encoders that start afresh; those that have trained find no more")
        helped = {"own 0": 0.5, "own apart 3": 0.9}
        _, why, _ = verdict_of("G5", table_of(shares | helped, {"roi apart 3": 0.2, "unified apart 3": 0.2}))
        assert "have trained" not in why
    *_, remedies = verdict_of("G10", table)
    assert "told apart at 3: gain in cgF1" in remedies


def test_fusion_encoders_are_compared_by_their_boxes_too() -> None:
    *_, lines = verdict_of("F1", table_of({"pool none": 0.4, "pool mean": 0.8}))
    boxes = lines["pool mean less pool none: box F1 of the last look"].estimate
    assert boxes.value == pytest.approx((0.8 - 0.4) / 4) and boxes.seeds == 3


def test_a_student_is_compared_with_itself_without_the_losses() -> None:
    shares = dict.fromkeys(("roi 0", "roi 3", "student roi 0"), 0.5)
    shares |= dict.fromkeys(("student roi 3", "student roi taught 3"), 0.8)
    *_, lines = verdict_of("G5", table_of(shares, {"student roi taught 3": 0.3}))
    own, taught = "a student at 3", "a student at 3, ROI features of its teacher"
    assert all(lines[f"{it}: gain in cgF1"].estimate.value > 0 for it in (own, taught))
    assert lines[f"{taught}: nearer to its own feature, raw"].estimate.value == pytest.approx(0.3)
    assert f"{own}: distillation loss in the last ten steps" in lines
    assert not any(name.startswith(taught) and " loss in " in name for name in lines)


def test_shares_gates_and_conflict_are_told_before_and_after() -> None:
    *_, bridge = verdict_of("G7", table_of(dict.fromkeys(needs_of("G7"), 0.5)))
    assert bridge["share of the late level, after"].estimate.value == 0.5
    assert bridge["gate: share of the exemplar's side, before"].estimate.value == pytest.approx(0.5)
    *_, adaptive = verdict_of("G8", table_of(dict.fromkeys((*needs_of("G8"), "adaptive none"), 0.5)))
    both = dict.fromkeys(needs_of("G8"), 0.5) | {"adaptive apart 30": 0.8, "roi apart 30": 0.8}
    *_, told = verdict_of("G8", table_of(both))
    assert told["whole less roi, both told apart at 30"].estimate.value == 0
    follows = adaptive["share of the 7 x 7 kernel with the box's side, rank correlation, after"]
    assert (
        follows.estimate.value == pytest.approx(1.0) and adaptive["whole less one without any part"].control
    )
    *_, unified = verdict_of("G6", table_of(dict.fromkeys(needs_of("G6"), 0.5)))
    shares = dict.fromkeys((*needs_of("G6"), "vision roi apart 3"), 0.5)
    *_, told = verdict_of("G6", table_of(shares, {"vision roi apart 3": 0.2}))
    nearer = told["vision trains, roi told apart at 3: nearer to its own feature, raw"]
    assert nearer.estimate.value == pytest.approx(0.2)
    assert "vision roi apart 3: cosine of the two gradients, after" in told
    assert unified["vision roi 0: cosine of the two gradients, after"].estimate.value == pytest.approx(-0.15)


def test_gates_and_kernels_are_drawn(tmp_path: Path) -> None:
    for number in ("G7", "G8"):
        drawn = tmp_path / f"{number}.png"
        table = table_of(dict.fromkeys(needs_of(number), 0.5))
        assert SETTLED[number].draw_parts(table, drawn) and drawn.stat().st_size > 5000
        assert not SETTLED[number].draw_parts(Table({}, table.rows), tmp_path / "none.png")
    gap = tmp_path / "G5.png"
    assert not SETTLED["G5"].draw_parts(table_of({"roi 0": 0.5}), gap)
    shares = dict.fromkeys(("roi 0", "roi 3", "roi apart 3", "own 0", "own apart 3"), 0.5)
    assert SETTLED["G5"].draw_parts(table_of(shares), gap) and gap.stat().st_size > 5000
    assert not SETTLED["G9"].draw_parts(table, tmp_path / "none.png") and not (tmp_path / "none.png").exists()


def test_only_pictures_that_all_variants_answered_are_compared() -> None:
    table = table_of({"roi 0": 0.5, "roi 3": 0.5})
    table.rows.pop()
    grid = TrainingGrid(table)
    assert len(grid.keys) == len(SEEDS) * PICTURES - 1
    value: Callable[[dict[str, Any]], float] = lambda run: run["seed"]  # noqa: E731
    assert grid.of_runs(value, "roi 3", "roi 0").value == 0 and grid.of_runs(value, "no", "no").examples == 0
