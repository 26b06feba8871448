"""`conceptseg segment`: phrases and example boxes on image files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from conceptseg.choices import DedupeMode
from conceptseg.cli.box_options import parse_box
from conceptseg.cli.concepts import parse_concepts, pool_concepts
from conceptseg.cli.console import print_json, print_note, print_table, print_written, progress_bar
from conceptseg.cli.help import examples
from conceptseg.cli.image_paths import find_images, image_names, overlay_names
from conceptseg.cli.model_options import (
    AsJson,
    Device,
    Dtype,
    Exemplars,
    GeometryFrom,
    ModelName,
    NegativeExemplars,
    Presence,
    RuntimeOption,
    TextContext,
)
from conceptseg.cli.output_folder import check_output_folder
from conceptseg.errors import PromptError
from conceptseg.extras import require

if TYPE_CHECKING:
    from conceptseg.cli.results_folder import ResultsFolder
    from conceptseg.result import Result
    from conceptseg.segmenter import Segmenter


def register(app: typer.Typer) -> None:
    app.command(
        epilog=examples(
            "conceptseg segment street.jpg --text 'yellow bus' --text car --out found",
            "conceptseg segment coins.png --box 189,170,237,217",
            "conceptseg segment photos/ --exemplar coins.png:189,170,237,217",
        )
    )(segment)


def segment(
    images: Annotated[
        list[Path],
        typer.Argument(metavar="IMAGE", help="Image files; a folder stands for the images in it."),
    ],
    text: Annotated[
        list[str] | None,
        typer.Option(metavar="PHRASE", help="What to find, such as 'red circle'; may be repeated."),
    ] = None,
    box: Annotated[
        list[str] | None,
        typer.Option(
            metavar="X0,Y0,X1,Y1", help="Example on the image, in pixels: like this; may be repeated."
        ),
    ] = None,
    negative_box: Annotated[
        list[str] | None,
        typer.Option(metavar="X0,Y0,X1,Y1", help="Example on the image: not like this; may be repeated."),
    ] = None,
    exemplar: Exemplars = None,
    negative_exemplar: NegativeExemplars = None,
    model: ModelName = "nano",
    threshold: Annotated[float, typer.Option(min=0, max=1, help="Keep scores above this.")] = 0.5,
    presence: Presence = None,
    dedupe: Annotated[
        DedupeMode | None,
        typer.Option(
            help="Drop masks that overlap a better one by more than half (nms) or lie inside a better one "
            "(containment); if not given, as the model's config says."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where overlays and results.json go.")] = Path(
        "segmented"
    ),
    device: Device = "auto",
    dtype: Dtype = "auto",
    geometry_from: GeometryFrom = None,
    text_context: TextContext = None,
    runtime: RuntimeOption = "auto",
    explain: Annotated[
        bool, typer.Option("--explain", help="Also draw what each example says to the network.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Find every object that the phrases or example boxes mean.

    Writes one overlay (PNG) per image, and results.json: COCO with the phrases as categories, scores and
    run-length masks.
    """
    if not (text or box or negative_box or exemplar or negative_exemplar):
        raise PromptError(
            "nothing was asked; give --text PHRASE, --box X0,Y0,X1,Y1 or --exemplar IMAGE:X0,Y0,X1,Y1"
        )
    boxes = [parse_box(value, "--box") for value in box or []]
    negatives = [parse_box(value, "--negative-box") for value in negative_box or []]
    concepts = parse_concepts(exemplar, negative_exemplar)
    if explain and not (boxes or negatives or concepts):
        raise PromptError("--explain is about examples; give --box or --exemplar")
    if explain:
        require("train", "--explain", ("matplotlib",))
    paths = find_images(images)
    check_output_folder(out)
    if len(paths) > 1 and (boxes or negatives):
        print_note(
            f"note: the boxes are read on each of the {len(paths)} images, as for a fixed camera; "
            "--exemplar carries an example from one image to others"
        )

    from conceptseg.cli.results_folder import ResultsFolder
    from conceptseg.loading import load

    segmenter = load(
        model,
        device=device,
        dtype=dtype,
        geometry_from=geometry_from,
        text_context=text_context,
        runtime=runtime,
    )
    folder = ResultsFolder(out)
    examples: dict[str, Any] = {
        "boxes": boxes + negatives or None,
        "labels": [1] * len(boxes) + [0] * len(negatives) or None,
        "exemplar": pool_concepts(segmenter, concepts),
    }
    rows = _answer_all(
        segmenter,
        paths,
        folder,
        text=text or None,
        **examples,
        threshold=threshold,
        presence=presence,
        dedupe=dedupe,
    )
    if explain:
        _explain_all(segmenter, rows, examples)
    if as_json:
        print_json({"model": model, "results": str(folder.path), "images": rows})
    else:
        print_table(
            ["image", "phrase", "presence", "found", "best score"],
            [
                (
                    row["image"],
                    concept["phrase"],
                    f"{concept['presence']:.2f}",
                    str(concept["count"]),
                    _best(concept),
                )
                for row in rows
                for concept in row["concepts"]
            ],
            numbers=["presence", "found", "best score"],
        )
    overlays = f"{len(rows)} overlay{'s' * (len(rows) != 1)}"
    print_written(f"wrote {folder.path} and {overlays}", as_json=as_json)


def summarise(result: Result) -> dict[str, Any]:
    """What a person wants to know of a result at once; masks are in results.json."""
    scores = [round(score, 4) for score in result.scores.tolist()]
    return {
        "phrase": result.phrase,
        "presence": round(result.presence, 4),
        "count": len(result),
        "best_score": scores[0] if scores else None,
        "boxes": [[round(side, 2) for side in box] for box in result.boxes.tolist()],
        "scores": scores,
    }


def _answer_all(
    segmenter: Segmenter, paths: Sequence[Path], folder: ResultsFolder, **prompt: Any
) -> list[dict[str, Any]]:
    """Ask, draw and collect image by image; whatever stops the work, what was finished is kept."""
    rows: list[dict[str, Any]] = []
    try:
        # One image at a time: one that cannot be read then takes none of its neighbours with it.
        answers = segmenter.segment_many(paths, batch_size=1, **prompt)
        names, overlays = image_names(paths), overlay_names(paths)
        with progress_bar("segmenting") as advance:
            for path, name, overlay, answer in zip(paths, names, overlays, answers, strict=True):
                results = cast("list[Result]", answer if isinstance(answer, list) else [answer])
                drawn = folder.add(results, name, overlay)
                concepts = [summarise(result) for result in results]
                rows.append({"image": str(path), "overlay": str(drawn), "concepts": concepts})
                advance(len(rows), len(paths))
    except BaseException:
        if len(folder):
            folder.save()
            print_note(f"kept {len(folder)} of {len(paths)} images in {folder.path}")
        raise
    folder.save()
    return rows


def _explain_all(segmenter: Segmenter, rows: Sequence[dict[str, Any]], examples: dict[str, Any]) -> None:
    """One figure beside each overlay."""
    from conceptseg.exemplars.explanation import explain

    for row in rows:
        figure = Path(row["overlay"]).with_suffix(".explained.png")
        row["explained"] = str(explain(segmenter, row["image"], **examples).save(figure))
        print_note(f"drew {figure}")


def _best(concept: dict[str, Any]) -> str:
    return "-" if concept["best_score"] is None else f"{concept['best_score']:.2f}"
