import subprocess
import sys
from pathlib import Path

import pytest

import conceptseg as cs


def test_public_names_are_sorted_unique_and_there():
    assert cs.__all__ == sorted(set(cs.__all__))
    for name in cs.__all__:
        assert getattr(cs, name).__name__ == name
    assert dir(cs) == sorted([*cs.__all__, "__version__"])


def test_every_error_is_public_and_one_family():
    from conceptseg import errors

    family = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, cs.ConceptSegError)
    }
    assert family <= set(cs.__all__)


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="module 'conceptseg' has no attribute 'segment'"):
        cs.segment  # noqa: B018  the access is what is tested


def test_importing_is_instant_and_brings_in_nothing_heavy():
    code = """
import sys
import conceptseg
heavy = {"torch", "numpy", "PIL", "torchvision", "tokenizers", "huggingface_hub", "safetensors", "typer"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
conceptseg.ConceptSegError
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_the_package_says_that_it_is_typed():
    assert (Path(cs.__file__).parent / "py.typed").is_file()
