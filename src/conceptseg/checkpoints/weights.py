"""Named tensors that lie in files and are read when they are used."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from torch import Tensor

from conceptseg.errors import CheckpointError


class Weights(Mapping[str, Tensor]):
    """The tensors of one or more files.

    Memory-mapped where the format allows, so that opening is instant and a tensor takes memory only once its
    values are touched. Whoever has made a copy of a tensor says so by `release`, and the memory of the
    original is free again: that is how a model in another layout or number type than ours loads without ever
    lying in memory twice.
    """

    def __init__(self, tensors: dict[str, Tensor], release: Callable[[str], None] | None = None) -> None:
        """Args:
        tensors: taken over.
        release: gives back the memory of a mapped tensor; None: the tensors are not mapped.
        """
        self._tensors = tensors
        self._release = dict.fromkeys(tensors, release)

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def release(self, name: str) -> None:
        """The values of this tensor were copied, and will not be read again."""
        del self._tensors[name]
        give_back = self._release.pop(name)
        if give_back is not None:
            give_back(name)

    def add(self, other: Weights, source: str) -> None:
        """Join another file's tensors.

        Raises:
            CheckpointError: both have a tensor of one name.
        """
        both = sorted(set(self._tensors) & set(other._tensors))
        if both:
            raise CheckpointError(f"{source}: {both[0]} lies in more than one file")
        self._tensors |= other._tensors
        self._release |= other._release
