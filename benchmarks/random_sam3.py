"""A `transformers` folder of SAM 3 with random weights: its released size, a quarter of its layers, or tiny.

Every parameter and stored buffer is random, so equal outputs mean something. The trunk's epsilon is the
official 1e-5 and not `transformers`' own 1e-6. Words come from a made-up vocabulary in the format and of the
size of CLIP's.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import torch
from safetensors.torch import save_file

from tests.parity.cases import random_value, tiny_config

SIZES = ("full", "quarter", "tiny")
CLIP_TOKENS, CLIP_CONTEXT = 49408, 32
START, END = "<|startoftext|>", "<|endoftext|>"


def write_random_sam3(folder: Path, size: str, seed: int = 0) -> int:
    """Write config, `model.safetensors`, tokenizer and processor; the tensors are made without a model.

    Returns:
        Number of parameters.
    """
    import transformers

    config = {"full": released_config, "quarter": quarter_config, "tiny": small_config}[size]()
    with torch.device("meta"):
        keys = transformers.Sam3Model(config).state_dict()
    generator = torch.Generator().manual_seed(seed)
    state = {name: random_value(name, value.shape, generator) for name, value in keys.items()}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    config.architectures = ["Sam3Model"]
    config.save_pretrained(folder)
    vocabulary, merges = made_up_vocabulary()
    side = config.vision_config.backbone_config.image_size
    transformers.Sam3Processor(
        transformers.Sam3ImageProcessor(size={"height": side, "width": side}),
        transformers.CLIPTokenizer(vocab=vocabulary, merges=merges),
    ).save_pretrained(folder)
    return sum(value.numel() for value in state.values())


def released_config() -> Any:
    """Sam3Config as released, but for the epsilon of the trunk."""
    from transformers import Sam3Config

    config = Sam3Config()
    config.vision_config.backbone_config.layer_norm_eps = 1e-5
    return config


def quarter_config() -> Any:
    """The released widths, but 8 of the 32 blocks of the trunk and 4 of the 24 of the text encoder."""
    config = released_config()
    config.vision_config.backbone_config.num_hidden_layers = 8
    config.vision_config.backbone_config.global_attn_indexes = [1, 3, 5, 7]
    config.text_config.num_hidden_layers = 4
    return config


def small_config() -> Any:
    """The tiny config of the parity tests, with room for CLIP's tokens."""
    config = tiny_config()
    config.text_config.vocab_size = CLIP_TOKENS
    config.text_config.max_position_embeddings = CLIP_CONTEXT
    config.text_config.bos_token_id, config.text_config.eos_token_id = CLIP_TOKENS - 2, CLIP_TOKENS - 1
    config.text_config.pad_token_id = CLIP_TOKENS - 1
    # The official layout does not say how many heads there are; as in the release they are 64 wide.
    config.text_config.hidden_size, config.text_config.num_attention_heads = 128, 2
    return config


def made_up_vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges laid out as CLIP's: bytes, bytes that end a word, merges, start, end."""
    from tokenizers.pre_tokenizers import ByteLevel

    letters = sorted(ByteLevel.alphabet())
    pairs = ["".join(pair) for pair in product(ascii_lowercase, repeat=2)]
    merges = [(pair[0], pair[1]) for pair in pairs]
    merges += [(pair[0], f"{pair[1]}</w>") for pair in pairs]
    merges += [(pair, f"{last}</w>") for pair in pairs for last in ascii_lowercase]
    merges += [(pair, f"{other}</w>") for pair in pairs for other in pairs]
    pieces = [*letters, *(f"{letter}</w>" for letter in letters)]
    merges = merges[: CLIP_TOKENS - 2 - len(pieces)]
    pieces += [first + second for first, second in merges]
    return {piece: number for number, piece in enumerate([*pieces, START, END])}, merges
