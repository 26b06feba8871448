"""Concepts made of example boxes, kept under an id to be asked of other images."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence

from conceptseg.exemplar import Exemplar
from conceptseg.serving.problems import Problem


class ExemplarStore:
    """Keeps so many; the least recently used is forgotten first."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._kept: OrderedDict[str, Exemplar] = OrderedDict()

    def add(self, exemplar: Exemplar) -> str:
        """Its id, the same for the same examples."""
        key = hashlib.sha256(exemplar.tokens.numpy().tobytes()).hexdigest()
        self._kept[key] = exemplar
        self._kept.move_to_end(key)
        while len(self._kept) > self.most:
            self._kept.popitem(last=False)
        return key

    def pooled(self, keys: Sequence[str]) -> Exemplar | None:
        """One concept of several; None for none.

        Raises:
            Problem: 404, for an id that is not kept.
        """
        found = []
        for key in keys:
            if key not in self._kept:
                raise Problem(404, f"there is no exemplar {key}; make it again with POST /v1/exemplars")
            self._kept.move_to_end(key)
            found.append(self._kept[key])
        return sum(found[1:], found[0]) if found else None
