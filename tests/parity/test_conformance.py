"""The conformance kit on somebody else's code: what it says of `transformers`' Sam3Model."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from conceptseg.conformance.kit import DEPARTS, NOT_GIVEN, Kit, check
from conceptseg.conformance.make import make_kit
from tests.conformance.transformers_port import open_transformers, transformers_answers

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    return Kit(make_kit(tmp_path_factory.mktemp("kit")))


@pytest.fixture
def port(kit: Kit, tmp_path: Path) -> Any:
    return open_transformers(kit, tmp_path / "hf")


def test_presence_logits_are_clamped_by_transformers_and_masks_resized_as_probabilities(
    kit: Kit, port: Any
) -> None:
    found = check(kit, transformers_answers(port, kit))
    assert not [finding.stage.name for finding in found.findings if finding.status == NOT_GIVEN]
    assert found.first is not None and found.first.stage.name == "decoder.layers.0.presence"
    causes = {finding.stage.name for finding in found.sources}
    assert {name.rpartition(".")[2] for name in causes} == {"presence", "masks"}
    # Without the clamp everything agrees, but for pixels at the edges of masks.
    port.detr_decoder.clamp_presence_logit_max_val = math.inf
    found = check(kit, transformers_answers(port, kit))
    assert {finding.stage.name for finding in found.findings if finding.status == DEPARTS} <= {
        f"result.{pair}.masks" for pair in range(4)
    }
    assert 0 < max(finding.distance for finding in found.departures) < 0.1


def test_the_epsilon_that_transformers_has_by_default_is_named(kit: Kit, port: Any) -> None:
    for module in port.vision_encoder.backbone.modules():
        if hasattr(module, "eps"):
            module.eps = 1e-6
    first = check(kit, transformers_answers(port, kit)).first
    assert first is not None and first.stage.name == "trunk.embedding"
