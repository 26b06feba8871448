"""Train the variants of benchmarks/trainings.yaml and judge all alike, for the claims F1 and G5 to G10.

    python benchmarks/trainings.py run --data PHOTOS --processes 2 --minutes 60  # again to go on
    python benchmarks/trainings.py run --data PHOTOS --variants "roi 0,roi 3"    # some of them
    python benchmarks/trainings.py collect                                       # tables of what is done

PHOTOS holds the datasets `contours` and `objects`, as for benchmarks/evidence.py. Tables go to
benchmarks/results/evidence, from which `python benchmarks/evidence.py report` judges the claims.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from conceptseg.errors import ConceptSegError, OptionError
from conceptseg.evidence.trainings import TrainingsRun, run_trainings, write_tables
from conceptseg.evidence.trainings_recipe import read_trainings

ROOT = Path(__file__).resolve().parents[1]
RECIPE = Path(__file__).with_suffix(".yaml")
RESULTS = ROOT / "benchmarks" / "results" / "evidence"


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("task", choices=("run", "collect"))
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    parser.add_argument("--data", type=Path, help="folder of photographs; `run` needs it")
    parser.add_argument("--variants", help="names of some, separated by commas")
    parser.add_argument("--minutes", type=float, help="begin nothing after so long")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "trainings")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the tables")
    given = parser.parse_args(words)
    try:
        recipe = read_trainings(given.recipe)
        if given.task == "collect":
            for path in write_tables(recipe, given.work, given.results):
                print(f"wrote {path}")
            return 0
        if given.data is None:
            raise OptionError("the photographs that judge are missing; give their folder with --data")
        names = tuple(given.variants.split(",") if given.variants else recipe.variants)
        unknown = [name for name in names if name not in recipe.variants]
        if unknown:
            raise OptionError(f"no variant {unknown[0]!r}; choose from {', '.join(recipe.variants)}")
        run = TrainingsRun(recipe, names, given.data, given.work, given.results)
        for name, done in run_trainings(run, minutes=given.minutes, processes=given.processes).items():
            print(f"{name}: {done} of {len(recipe.seeds)} seeds")
    except (ConceptSegError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
