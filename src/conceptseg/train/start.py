"""What training starts from: fresh weights, those of another model as far as they fit, a trunk's own."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from conceptseg.checkpoints.folder import load_model_folder
from conceptseg.errors import ConfigError
from conceptseg.hub import find_model
from conceptseg.models.build import build_detector
from conceptseg.models.detector import Detector
from conceptseg.models.text.clip import TextEncoder
from conceptseg.models.text.tokenizer import Tokenizer
from conceptseg.train.recipe import ModelChoice
from conceptseg.train.trunk_weights import start_trunk


def start_detector(choice: ModelChoice, tokenizer: Tokenizer) -> Detector:
    """The detector that training starts from.

    Args:
        choice: what is trained.
        tokenizer: of the new model; the starting model's may be another one.

    Raises:
        ConfigError: the starting model has another architecture, and the recipe asks for all of it.
        MissingDependencyError, ModelNotFoundError: the starting model or the trunk's weights cannot be had.
    """
    architecture = choice.detector_config()
    detector = build_detector(architecture)
    if choice.start is not None:
        started, old_tokenizer, loaded = load_model_folder(find_model(choice.start))
        if loaded.architecture != architecture and not choice.start_partly:
            raise ConfigError(
                f"model.start {choice.start} has another architecture than model.preset "
                f"{choice.preset!r} with model.architecture laid over it; "
                "model.start_partly=true takes the weights that fit"
            )
        take_weights(detector, started.state_dict(), choice.start_without)
        if "text_encoder" not in choice.start_without:
            take_words(detector, tokenizer, started, old_tokenizer)
    if choice.trunk_weights is not None:
        start_trunk(detector.vision_encoder, architecture.vision, choice.trunk_weights)
    return detector


def take_weights(
    detector: Detector, weights: Mapping[str, Tensor], without: tuple[str, ...] = ()
) -> list[str]:
    """Copy every tensor that has the same name and shape in both, except those of the parts in `without`.

    Returns:
        The names that stay as they are.
    """
    ours = detector.state_dict()
    taken = {
        name: weights[name]
        for name, value in ours.items()
        if _same_shape(weights.get(name), value) and name.split(".")[0] not in without
    }
    detector.load_state_dict({**ours, **taken})
    return sorted(set(ours) - set(taken))


@torch.no_grad()
def take_words(detector: Detector, tokenizer: Tokenizer, other: Detector, others: Tokenizer) -> int:
    """Copy the embeddings of the pieces that both tokenizers have, wherever these stand in their tables.

    Returns:
        How many there are; 0 where the text encoders are of another kind or width.
    """
    ours, theirs = detector.text_encoder, other.text_encoder
    if not isinstance(ours, TextEncoder) or not isinstance(theirs, TextEncoder):
        return 0
    table, source = ours.token_embedding.weight, theirs.token_embedding.weight
    if table.shape[1] != source.shape[1]:
        return 0
    pieces = {piece: row for piece, row in tokenizer.pieces().items() if row < len(table)}
    old = {piece: row for piece, row in others.pieces().items() if row < len(source)}
    shared = sorted(pieces.keys() & old.keys())
    table[[pieces[piece] for piece in shared]] = source[[old[piece] for piece in shared]].to(table.dtype)
    return len(shared)


def start_tokenizer(choice: ModelChoice) -> Tokenizer | None:
    """The tokenizer of the starting model, where its vocabulary is as large as the new one's; else None."""
    text = choice.detector_config().text
    if choice.start is None:
        return None
    tokenizer = Tokenizer.load(find_model(choice.start) / "tokenizer.json", text.context_length)
    return tokenizer if tokenizer.vocab_size <= text.vocab_size and not choice.new_tokenizer else None


def _same_shape(one: torch.Tensor | None, other: torch.Tensor) -> bool:
    return one is not None and one.shape == other.shape
