import numpy as np
import pytest
import torch

from conceptseg.errors import OptionError, PromptError
from conceptseg.prompts import check_boxes, check_phrases, check_thresholds

SIZE = (480, 640)  # height, width


def test_one_phrase_and_many_come_back_as_a_list_without_outer_space():
    assert check_phrases(" red circle\n") == ["red circle"]
    assert check_phrases(["cat", "Ein großer Hund", "猫"]) == ["cat", "Ein großer Hund", "猫"]
    assert check_phrases("x" * 1000) == ["x" * 1000]


def test_phrases_that_cannot_be_meant_are_refused():
    for text, message in (
        ("", "text is empty"),
        (" \n\t", "text is empty"),
        ("&nbsp;", "text is empty"),
        (["cat", ""], r"text\[1\] is empty"),
        ("a" * 10_000, "text has 10,000 characters; .* at most 1,000"),
        ([], "text is an empty list"),
        (["cat", None], r"text\[1\] must be a phrase .* got NoneType"),
        (b"cat", "got bytes"),
        (7, "got int"),
        ("cat\0", "NUL"),
        ("\ud800", "surrogate"),
    ):
        with pytest.raises(PromptError, match=message):
            check_phrases(text)


def test_boxes_become_centre_and_size_of_a_unit_square():
    boxes = check_boxes([[64, 48, 320, 144]], None, SIZE)
    model = boxes.to_model()
    torch.testing.assert_close(model.boxes_cxcywh, torch.tensor([[[0.3, 0.2, 0.4, 0.2]]]))
    assert model.box_labels.tolist() == [[1]]


def test_boxes_are_taken_as_lists_arrays_tensors_and_a_single_row():
    rows = [[64.0, 48.0, 320.0, 144.0], [0.0, 0.0, 640.0, 480.0]]
    for given in (
        rows,
        np.array(rows),
        torch.tensor(rows),
        [np.array(rows[0]), torch.tensor(rows[1])],
        tuple(rows),
    ):
        assert check_boxes(given, [1, 0], SIZE).boxes_xyxy.tolist() == rows
    for given in (rows[0], np.array(rows[0]), torch.tensor(rows[0])):
        assert check_boxes(given, [1], SIZE).boxes_xyxy.tolist() == rows[:1]


def test_no_boxes_is_none():
    assert check_boxes(None, None, SIZE) is None
    assert check_boxes([], [], SIZE) is None
    assert check_boxes(np.zeros((0, 4)), None, SIZE) is None


def test_a_box_over_the_edge_is_clipped_to_the_image():
    boxes = check_boxes([[-10, -5, 100, 100], [600, 400, 655, 500]], None, SIZE)
    assert boxes.boxes_xyxy.tolist() == [[0, 0, 100, 100], [600, 400, 640, 480]]


@pytest.mark.parametrize(
    ("box", "message"),
    [
        (
            [40, 12, 38, 90],
            r"boxes\[0\] = \[40, 12, 38, 90\] has x1 <= x0; .* in pixels of this 640 x 480 image",
        ),
        ([40, 90, 80, 12], "has y1 <= y0"),
        ([40, 12, 40, 90], "has x1 <= x0"),
        ([40, 12, 80, 12], "has y1 <= y0"),
        ([float("nan"), 0, 10, 10], r"\[nan, 0, 10, 10\] has a value that is not finite"),
        ([0, 0, float("inf"), 10], "not finite"),
        ([700, 10, 720, 20], "lies outside"),
        ([-50, -50, -10, -10], "lies outside"),
        ([630, 10, 700, 20], "lies mostly outside"),
        ([0, 0, 1e300, 10], "lies mostly outside"),
        ([0.1, 0.2, 0.5, 0.9], "looks normalised to 0..1"),
        ([1, 2, 3], "is not four numbers"),
        (["a", 0, 10, 10], "must be four numbers"),
        ([None, 0, 10, 10], "must be four numbers"),
        ([True, 0, 10, 10], "must be four numbers"),
        ([0, 0, 10**400, 10], "not finite"),
        ([torch.zeros(0), 0, 10, 10], "must be four numbers"),
        ([torch.zeros(2, 2), 0, 10, 10], r"\[tensor\(\[\[0., 0.\],.*, 0, 10, 10\] must be four numbers"),
    ],
)
def test_wrong_boxes_say_which_and_why(box, message):
    with pytest.raises(PromptError, match=message):
        check_boxes([box], None, SIZE)
    with pytest.raises(PromptError, match=r"boxes\[1\]"):
        check_boxes([[0, 0, 10, 10], box], None, SIZE)


def test_boxes_that_are_no_list_are_refused():
    for given in ("40,12,38,90", 7, {"x0": 1}):
        with pytest.raises(PromptError, match="boxes must be a list"):
            check_boxes(given, None, SIZE)
    with pytest.raises(PromptError, match=r"boxes\[0\] = .* is not four numbers"):
        check_boxes(np.zeros((2, 3, 4)), None, SIZE)


def test_a_whole_one_pixel_image_may_be_boxed():
    assert check_boxes([[0, 0, 1, 1]], None, (1, 1)).boxes_xyxy.tolist() == [[0, 0, 1, 1]]


def test_labels_must_be_one_or_nought_for_each_box():
    box = [0, 0, 10, 10]
    for labels in ([1, 0], [True, False], np.array([1, 0]), torch.tensor([1, 0]), [1.0, 0.0]):
        assert check_boxes([box, box], labels, SIZE).labels.tolist() == [1, 0]
    for labels, message in (
        ([1], "labels has 1 entries for 2 boxes"),
        ([1, 0, 1], "labels has 3 entries for 2 boxes"),
        ([1, -1], r"labels\[1\] = -1; 1 means like this, 0 means not like this"),
        ([1, 2], r"labels\[1\] = 2"),
        (["1", 0], r"labels\[0\] = '1'"),
        ([float("nan"), 0], r"labels\[0\] = nan"),
        ("10", "labels must be a list"),
    ):
        with pytest.raises(PromptError, match=message):
            check_boxes([box, box], labels, SIZE)
    for labels in ([1], 1, True, np.array(1), torch.tensor([1])):
        with pytest.raises(PromptError, match="labels has 1 entries, but there are no boxes"):
            check_boxes(None, labels, SIZE)
    for labels in (object(), iter([1]), {1}, "1"):
        for boxes in (None, [box]):
            with pytest.raises(PromptError, match="labels must be a list with a 1 or 0 for each box; got"):
                check_boxes(boxes, labels, SIZE)


def test_thresholds_are_one_for_all_or_one_per_phrase():
    assert check_thresholds(0.3, 2) == [0.3, 0.3]
    assert check_thresholds([0, 1], 2) == [0.0, 1.0]
    assert check_thresholds(np.array([0.25, 0.5]), 2) == [0.25, 0.5]
    for threshold in (-0.1, 1.1, 50, float("nan"), True, [0.5, "0.5"]):
        with pytest.raises(OptionError, match="is not a number from 0 to 1|must be a number"):
            check_thresholds(threshold, 2)
    for threshold in ("0.5", None):
        with pytest.raises(OptionError, match="must be a number from 0 to 1"):
            check_thresholds(threshold, 1)
    with pytest.raises(OptionError, match="threshold has 3 values for 1 phrase; give one each"):
        check_thresholds([0.1, 0.2, 0.3], 1)
