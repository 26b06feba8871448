import inspect

import pytest

from conceptseg.errors import OptionError
from conceptseg.models.config import ModelConfig
from conceptseg.segment_options import DEFAULTS, SegmentOptions, check_options
from conceptseg.segmenter import Segmenter


@pytest.mark.parametrize("method", [Segmenter.segment, Segmenter.segment_many])
def test_help_shows_every_option_with_its_default(method):
    shown = inspect.signature(method).parameters
    assert {name: shown[name].default for name in DEFAULTS} == DEFAULTS
    assert shown["presence"].kind is inspect.Parameter.KEYWORD_ONLY
    assert shown["dedupe"].annotation == SegmentOptions.__annotations__["dedupe"]
    assert "options" not in shown and "image" in "".join(shown)


def test_a_misspelt_option_is_a_type_error_that_names_those_there_are(tiny_segmenter, picture):
    message = "unexpected keyword argument 'treshold'; options are threshold, presence, dedupe"
    with pytest.raises(TypeError, match=message):
        tiny_segmenter.segment(picture, text="coin", treshold=0.2)
    with pytest.raises(TypeError, match=message):
        tiny_segmenter.segment_many([picture], text="coin", treshold=0.2)


def test_what_is_not_given_is_as_the_config_says():
    config = ModelConfig(presence_mode="ignore", dedupe="nms", mask_margin=0.1)
    plain = check_options(config, 2, {})
    assert (plain.thresholds, plain.presence.mode, plain.dedupe) == ((0.5, 0.5), "ignore", "nms")
    assert plain.mask_margin == 0.1 and plain.max_instances is None and not plain.return_raw
    asked = check_options(config, 2, {"threshold": [0.1, 0.2], "presence": "multiply", "dedupe": "none"})
    assert (asked.thresholds, asked.presence.mode, asked.dedupe) == ((0.1, 0.2), "multiply", "none")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"presence": "add"}, "unknown presence 'add'; choose 'multiply', 'ignore', 'calibrated'"),
        ({"dedupe": "all"}, "unknown dedupe 'all'; choose 'none', 'nms', 'containment'"),
        ({"max_instances": 0}, "max_instances must be None or a whole number of at least 1; got 0"),
        ({"max_instances": True}, "max_instances must be None or a whole number of at least 1; got True"),
        ({"threshold": [0.5, 0.5]}, "threshold has 2 values for 1 phrase"),
    ],
)
def test_impossible_options_say_what_would_be_right(options, message):
    with pytest.raises(OptionError, match=message):
        check_options(ModelConfig(), 1, options)
