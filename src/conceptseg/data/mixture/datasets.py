"""The labelled datasets of a mixture, and the words that they and the table of names use."""

from __future__ import annotations

from pathlib import Path

from conceptseg.data.concept_data import ConceptDataset, open_dataset
from conceptseg.data.mixture.config import CompositeSource, MixtureConfig, PhotographSource
from conceptseg.data.names import Names


class Opened:
    """The datasets of a mixture, each opened once."""

    def __init__(self, config: MixtureConfig, held_out: bool) -> None:
        self.held_out = held_out
        self.datasets: dict[Path, ConceptDataset] = {}
        self._config = config
        for source in config.sources:
            if isinstance(source, PhotographSource):
                self.get(source.path, source.split)
            elif isinstance(source, CompositeSource):
                for path in (*source.cutouts, *source.grounds):
                    self.get(path, source.split)

    def get(self, path: str, split: str) -> ConceptDataset:
        """A dataset below the root; its held-out split where that is wanted."""
        folder = self._config.folder(path)
        if folder not in self.datasets:
            self.datasets[folder] = open_dataset(folder, None if self.held_out else split, absent=0)
        return self.datasets[folder]


def read_names(config: MixtureConfig) -> Names:
    """The mixture's table of names."""
    return Names.read() if config.names is None else Names.read(config.names)


def mixture_vocabulary(config: MixtureConfig, names: Names, opened: Opened | None = None) -> list[str]:
    """Every name that the labelled sources use, and what else these may be called."""
    opened = opened or Opened(config, held_out=False)
    own = {phrase for dataset in opened.datasets.values() for phrase in dataset.phrases}
    if not own:
        return []
    said = {other for name in own for other in names.true_of(name)}
    told = {
        word
        for dataset in opened.datasets.values()
        for number in range(len(dataset))
        for word in dataset[number].absent_phrases
    }
    return sorted({*said, *told, *(names.plural(name) for name in said)})
