"""`conceptseg demo`: photographs and a drawn scene, by words and by one box, with the embedded model."""

from __future__ import annotations

import shutil
import time
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from conceptseg.cli.console import print_json, print_table, print_written
from conceptseg.cli.help import examples
from conceptseg.cli.model_options import AsJson, ModelName
from conceptseg.cli.output_folder import check_output_folder
from conceptseg.cli.segment import summarise

if TYPE_CHECKING:
    from conceptseg.data.scenes import Scene

COIN_BOX = (189.0, 170.0, 237.0, 217.0)  # fourth in the third row: a whole coin, upright, with a clear rim
COINS = 24  # counted by eye
CUP_BOX = (172.0, 12.0, 414.0, 302.0)
SCENE_SEED = (
    58  # held out, picked among 100 as one that nano answers well: shows what is meant, not how often
)
ARTICLES = {"a", "an", "the"}
PHOTOGRAPHS = ("coins.png", "astronaut.jpg", "coffee.jpg")


def register(app: typer.Typer) -> None:
    app.command(epilog=examples("conceptseg demo", "conceptseg demo --out look --json"))(demo)


def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where pictures and results.json go.")] = Path(
        "demo-output"
    ),
    model: ModelName = "nano",
    as_json: AsJson = False,
) -> None:
    """Segment three photographs and a drawn scene.

    Coins are asked for by one example box, a person by a word, a cup by either, drawn objects by a phrase.
    """
    check_output_folder(out)

    from PIL import Image

    from conceptseg.checkpoints.atomic_write import replacing
    from conceptseg.cli.results_folder import ResultsFolder
    from conceptseg.data.scenes import render_scene
    from conceptseg.loading import load

    segmenter = load(model)
    scene = render_scene(SCENE_SEED, size=384, split="held_out")
    phrase = choose_phrase(scene)
    for name in PHOTOGRAPHS:
        with replacing(out / name) as draft:
            shutil.copyfile(str(files("conceptseg") / "assets" / name), draft)
    with replacing(out / "scene.png") as draft:
        Image.fromarray(scene.image).save(draft, format="PNG")

    questions: list[tuple[str, str, int, dict[str, Any]]] = [
        ("coins.png", "one example box", COINS, {"boxes": [COIN_BOX]}),
        ("astronaut.jpg", "the word 'person'", 1, {"text": "person"}),
        ("coffee.jpg", "the word 'cup'", 1, {"text": "cup"}),
        ("coffee.jpg", "one example box", 1, {"boxes": [CUP_BOX]}),
        ("scene.png", f"the phrase '{phrase}'", len(scene.phrases[phrase]), {"text": phrase}),
    ]
    folder = ResultsFolder(out)
    rows: list[dict[str, Any]] = []
    for name, asked, there, prompt in questions:
        path, how = out / name, "box" if "boxes" in prompt else "words"
        started = time.perf_counter()
        result = segmenter.segment(path, **prompt)
        seconds = time.perf_counter() - started
        drawn = folder.add([result], name, f"{path.stem}.{how}.overlay.png")
        rows.append({
            "image": str(path), "overlay": str(drawn), "asked": asked, "there": there,
            **summarise(result), "seconds": round(seconds, 3),
        })  # fmt: skip
    folder.save()
    if as_json:
        print_json({"model": model, "results": str(folder.path), "images": rows})
    else:
        _print(rows)
    overlays = ", ".join(Path(row["overlay"]).name for row in rows)
    print_written(f"wrote {out}/: {overlays}, results.json", as_json=as_json)


def choose_phrase(scene: Scene) -> str:
    """A phrase that names several objects of the scene but not all, the more exactly the better.

    Exact means many words; then many objects; then the alphabet decides, so that it is always the same one.
    """
    bare = {phrase: named for phrase, named in scene.phrases.items() if phrase.split()[0] not in ARTICLES}
    some = {phrase: named for phrase, named in bare.items() if len(named) < len(scene.objects)}
    several = {phrase: named for phrase, named in some.items() if len(named) > 1}
    choices = several or some or bare or scene.phrases
    return min(choices, key=lambda phrase: (-len(phrase.split()), -len(choices[phrase]), phrase))


def _print(rows: list[dict[str, Any]]) -> None:
    print_table(
        ["picture", "asked by", "there", "found", "best score", "presence", "seconds"],
        [
            (
                Path(row["image"]).name,
                row["asked"],
                str(row["there"]),
                str(row["count"]),
                "-" if row["best_score"] is None else f"{row['best_score']:.2f}",
                f"{row['presence']:.2f}",
                f"{row['seconds']:.2f}",
            )
            for row in rows
        ],
        numbers=["there", "found", "best score", "presence", "seconds"],
    )
