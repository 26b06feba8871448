"""Objects cut out of labelled photographs, by name, to be pasted elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from conceptseg.data.concept_data import ConceptDataset
from conceptseg.data.concept_image import ConceptImage, ConceptObject
from conceptseg.errors import DataError
from conceptseg.images import Pixels, load_image

KEPT = 256  # cut-outs in memory, of at most 300 kB each


@dataclass(frozen=True)
class Cutout:
    """An object and the pixels around it that belong to its box."""

    name: str
    pixels: Pixels  # (h, w, 3)
    mask: npt.NDArray[np.bool_]  # (h, w)


class Cutouts:
    """The objects of some datasets that are whole and large enough, by name."""

    def __init__(self, datasets: Sequence[ConceptDataset], smallest: int) -> None:
        """Args:
        datasets: whose masks are used; objects with a box only are left out.
        smallest: shorter side of an object, in pixels.

        Raises:
            DataError: no object is left.
        """
        self._places: list[tuple[ConceptDataset, int]] = []
        self.by_name: dict[str, list[tuple[int, int]]] = {}  # name -> (place, number of the object there)
        for dataset in datasets:
            for number in range(len(dataset)):
                image = dataset[number]
                self._add(image, smallest)
                self._places.append((dataset, number))
        if not self.by_name:
            names = ", ".join(dataset.name for dataset in datasets)
            raise DataError(f"{names}: no object has a mask and is large and whole enough to be cut out")
        self.names = sorted(self.by_name)
        self._read = lru_cache(KEPT)(self._cut)

    def __len__(self) -> int:
        return sum(len(places) for places in self.by_name.values())

    def draw(self, name: str, rng: np.random.Generator) -> Cutout:
        """An object of a name."""
        places = self.by_name[name]
        return self._read(name, *places[int(rng.integers(len(places)))])

    def _add(self, image: ConceptImage, smallest: int) -> None:
        for name, objects in image.phrases.items():
            for number, it in enumerate(objects):
                if it.mask is not None and not it.crowd and _is_whole(it, image, smallest):
                    self.by_name.setdefault(name, []).append((len(self._places), number))

    def _cut(self, name: str, place: int, number: int) -> Cutout:
        dataset, index = self._places[place]
        image = dataset[index]
        it = image.phrases[name][number]
        mask = it.decode(image.height, image.width)
        assert mask is not None  # `_add` took no other
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if not len(rows):
            raise DataError(f"{image.path}: the mask of {name!r} is empty")
        window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        return Cutout(name, load_image(image.path).pixels[window].copy(), mask[window].copy())


def _is_whole(it: ConceptObject, image: ConceptImage, smallest: int) -> bool:
    """Large enough, and cut off by the edge of its image at most below, as busts are."""
    x0, y0, x1, y1 = it.box_xyxy
    large = min(x1 - x0, y1 - y0) >= smallest
    return large and x0 >= 1 and y0 >= 1 and x1 <= image.width - 1
