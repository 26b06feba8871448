"""Kill a labelling at random moments, again and again, and compare what it ends in with one left alone.

    python benchmarks/labelling_kills.py
    python benchmarks/labelling_kills.py --kills 10 --images 40

A labelling of drawn scenes in all four formats is started in a process of its own, killed (SIGKILL) after a
random time, started again on the same folder, and so on; when it ends before it is killed, it begins anew in
another folder. After the last kill it is left to end. Every folder must then hold the same files as that of
the labelling that nobody killed. Writes `benchmarks/results/labelling_kills.md`.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from conceptseg.benchmark.report import processor_name
from conceptseg.choices import LabelFormat
from conceptseg.data.scenes import make_scenes
from conceptseg.labelling import Concept, LabelSettings, ModelChoice, label
from conceptseg.labelling.writing import DRAFT
from conceptseg.segmenter import Segmenter

RESULTS = Path(__file__).resolve().parent / "results"
FORMATS: tuple[LabelFormat, ...] = ("coco", "yolo", "labelme", "label-studio")
PHRASES = ("circle", "star")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--images", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    settings = LabelSettings(
        tuple(Concept(phrase, phrase, 0.4) for phrase in PHRASES), ModelChoice(given.model, resolution=64)
    )
    segmenter = settings.model.load()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photos = make_scenes(folder / "scenes", given.images, 0, size=128, workers=1).parent
        start = time.monotonic()
        run(photos, settings, folder / "whole", segmenter)
        whole = time.monotonic() - start
        kept, folders = kill(photos, settings, folder, segmenter, given.kills, whole, given.seed)
        wanted = files_of(folder / "whole")
        same = sum(files_of(one) == wanted for one in folders)
    lines = [
        "# Labelling, killed",
        "",
        "Written by `python benchmarks/labelling_kills.py`.",
        "",
        f"{processor_name()}, load before {load:.1f}. {given.images} scenes seen at 64 px, {len(PHRASES)} "
        f"phrases, batches of 2, shards of 5, {len(FORMATS)} formats, {len(wanted)} files; left alone "
        f"{whole:.1f} s.",
        "",
        "| kills | labellings | ended in the same files | images in the ledger when killed |",
        "| ---: | ---: | ---: | --- |",
        f"| {given.kills} | {len(folders)} | {same} | {', '.join(map(str, kept))} |",
        "",
    ]
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "labelling_kills.md").write_text("\n".join(lines), encoding="utf-8")
    print(lines[-2])
    if same != len(folders):
        raise SystemExit("a killed labelling ended in other files")


def kill(
    photos: Path,
    settings: LabelSettings,
    folder: Path,
    segmenter: Segmenter,
    kills: int,
    whole: float,
    seed: int,
) -> tuple[list[int], list[Path]]:
    """How many images were kept at each kill, and the folders of all labellings, all ended by now."""
    from conceptseg.labelling.ledger import LEDGER

    moments = random.Random(seed)
    kept: list[int] = []
    folders = [folder / "killed-0"]
    while len(kept) < kills:
        child = start_run(photos, settings, folders[-1], segmenter)
        time.sleep(moments.uniform(0, whole))
        os.kill(child, signal.SIGKILL)
        if os.WIFSIGNALED(os.waitpid(child, 0)[1]):
            kept.append(count_done(folders[-1] / LEDGER))
        else:
            folders.append(folder / f"killed-{len(folders)}")
    for one in folders:
        os.waitpid(start_run(photos, settings, one, segmenter), 0)
    return kept, folders


def start_run(photos: Path, settings: LabelSettings, out: Path, segmenter: Segmenter) -> int:
    """Forked, so that fifty starts do not load torch fifty times."""
    child = os.fork()
    if child == 0:
        try:
            run(photos, settings, out, segmenter)
        finally:
            os._exit(0)
    return child


def run(photos: Path, settings: LabelSettings, out: Path, segmenter: Segmenter) -> None:
    label([photos], settings, out, formats=FORMATS, batch_size=2, shard_size=5, segmenter=segmenter)


def count_done(ledger: Path) -> int:
    import sqlite3
    from contextlib import closing

    if not ledger.is_file():
        return 0
    with closing(sqlite3.connect(ledger)) as database:
        if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'images'").fetchone():
            return 0
        return int(database.execute("SELECT COUNT(*) FROM images WHERE state = 'done'").fetchone()[0])


def files_of(folder: Path) -> dict[str, bytes]:
    """Content of files, and where links lead; without the ledger."""
    return {
        path.relative_to(folder).as_posix(): os.readlink(path).encode()
        if path.is_symlink()
        else path.read_bytes()
        for path in folder.rglob("*")
        if not path.is_dir() and (path.name == DRAFT or not path.name.startswith("ledger."))
    }


if __name__ == "__main__":
    main()
