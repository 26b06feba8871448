"""Imports point one way; read from the source, so that no module has to be imported."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import conceptseg

PACKAGE = Path(conceptseg.__file__).parent

# From the bottom up. A module may import from its own layer and those below; a new one is given its place.
LAYERS = (
    "choices errors extras unstable",
    "models",
    "checkpoints compact_masks data dedupe device exemplar formats hub hub_download hub_files hub_upload "
    "images labelling_formats loading losses mask_resize official_api plots polygons postprocess "
    "presence_reading prompts report result runtime same_image segment_options segmenter",
    "evaluation study",
    "train",
    "distil finetune exemplars export benchmark conformance labelling",
    "evidence presence",  # evidence measures what the slices say; presence repairs by distillation
    "cli review serving",
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names.split()}

# Each stands for itself: what two of them need has its home below.
SLICES = ("distil", "finetune", "exemplars", "export", "benchmark", "labelling")

# What a model file may need beside Python itself and the package.
MODEL_DEPENDENCIES = {"torch", "torchvision", "timm", "tokenizers", "ftfy"}


def source_files() -> Iterator[tuple[str, Path]]:
    """(top-level name in the package, file), without the package's own `__init__`."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if name not in ("__init__", "__main__"):
            yield name, path


def imported_modules(path: Path) -> Iterator[str]:
    """Dotted names of everything a file imports, wherever in the file that happens."""
    package = ("conceptseg", *path.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            if module == "conceptseg":  # `from conceptseg import errors` names its module last
                yield from (f"conceptseg.{alias.name}" for alias in node.names)
            else:
                yield module


def test_every_module_has_its_place_in_the_layers() -> None:
    assert {name for name, _ in source_files()} - set(LEVEL) == set()


def test_imports_never_point_upwards() -> None:
    upwards = []
    for name, path in source_files():
        for module in imported_modules(path):
            root, *rest = module.split(".")
            if root == "conceptseg" and rest and LEVEL.get(rest[0], 0) > LEVEL[name]:
                upwards.append(f"{path.relative_to(PACKAGE)} imports {module}")
    assert upwards == []


def test_slices_do_not_import_each_other() -> None:
    across = [
        f"{path.relative_to(PACKAGE)} imports {module}"
        for name, path in source_files()
        if name in SLICES
        for module in imported_modules(path)
        if module.split(".")[1:2] and module.split(".")[1] in set(SLICES) - {name}
    ]
    assert across == []


def test_models_know_only_torch_and_themselves() -> None:
    allowed = MODEL_DEPENDENCIES | sys.stdlib_module_names | {"conceptseg"}
    foreign = [
        f"{path.relative_to(PACKAGE)} imports {module}"
        for name, path in source_files()
        if name == "models"
        for module in imported_modules(path)
        if module.split(".")[0] not in allowed
    ]
    assert foreign == []


def test_only_models_cpu_asks_for_the_processor_or_a_gradient() -> None:
    """The figure is read without it: no plain module imports from that folder, or does what it does."""
    found = [
        f"{path.relative_to(PACKAGE)} has {word}"
        for name, path in source_files()
        if name == "models" and path.parent.name != "cpu"
        for word in ("models.cpu", "device.type ==", "is_grad_enabled", "backends", ".is_cpu", ".is_cuda")
        if word in path.read_text(encoding="utf-8")
    ]
    # The official feed-forward since SAM 3.1 is another one where no gradient is needed: that is its figure.
    assert found == ["models/vision/vit.py has is_grad_enabled"]


def test_only_the_command_line_imports_typer() -> None:
    found = [
        str(path.relative_to(PACKAGE))
        for name, path in source_files()
        if name not in ("cli", "unstable")
        and any(module.split(".")[0] == "typer" for module in imported_modules(path))
    ]
    assert found == []
