import numpy as np
import pytest
import torch

from conceptseg.errors import OptionError
from conceptseg.models.config import ModelConfig, PresenceCalibration
from conceptseg.presence_reading import PresenceReading

CALIBRATION = PresenceCalibration(scale=-1.0, offset=0.0)  # turns 1/4 into 3/4


@pytest.mark.parametrize(
    ("mode", "scores", "factor", "probability"),
    [
        ("multiply", [1 / 8, 3 / 16], 1 / 4, 1 / 4),
        ("ignore", [1 / 2, 3 / 4], 1, 1 / 4),
        ("calibrated", [3 / 8, 9 / 16], 3 / 4, 3 / 4),
    ],
)
def test_scores_worked_by_hand(mode, scores, factor, probability):
    class_logits = torch.tensor([[0.0], [np.log(3)]])  # 1/2 and 3/4
    presence_logits = torch.tensor([-np.log(3)])  # 1/4
    reading = PresenceReading(mode, CALIBRATION)
    np.testing.assert_allclose(reading.scores(class_logits, presence_logits)[:, 0], scores, atol=1e-6)
    assert float(reading.factor(presence_logits)) == pytest.approx(factor)
    assert float(reading.probability(presence_logits)) == pytest.approx(probability)


def test_a_config_says_how_and_a_caller_may_say_otherwise():
    config = ModelConfig(presence_mode="ignore", presence_calibration=CALIBRATION)
    assert PresenceReading.of(config) == PresenceReading("ignore", CALIBRATION)
    assert PresenceReading.of(config, "calibrated") == PresenceReading("calibrated", CALIBRATION)
    with pytest.raises(OptionError, match="unknown presence 'add'; choose 'multiply', 'ignore'"):
        PresenceReading.of(config, "add")
