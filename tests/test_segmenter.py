import threading

import numpy as np
import pytest
import torch
from PIL import Image

import conceptseg as cs
from conceptseg.images import load_image
from conceptseg.models.prompts import join_prompts

BOX = [[10, 10, 40, 40]]


def assert_same(first, second, tolerance=0.0):
    assert first.phrase == second.phrase and first.image_size == second.image_size
    np.testing.assert_allclose(first.scores, second.scores, atol=tolerance, rtol=0)
    np.testing.assert_allclose(first.class_scores, second.class_scores, atol=tolerance, rtol=0)
    np.testing.assert_allclose(first.boxes, second.boxes, atol=200 * tolerance, rtol=0)
    assert abs(first.presence - second.presence) <= tolerance
    assert (first.masks != second.masks).mean() <= 10 * tolerance


def test_result_has_the_promised_shapes_types_and_order(tiny_segmenter, picture):
    result = tiny_segmenter.segment(picture, text="red circle", threshold=0)
    assert isinstance(result, cs.Result) and result.phrase == "red circle" and result.image_size == (60, 90)
    assert result.masks.shape == (12, 60, 90) and result.masks.dtype == np.bool_ and result.masks.any()
    assert result.boxes.shape == (12, 4) and result.boxes.dtype == np.float32
    assert (result.boxes[:, 2:] > result.boxes[:, :2]).all()
    assert result.scores.shape == result.class_scores.shape == (12,)
    assert (np.diff(result.scores) <= 0).all() and 0 < result.scores[-1] and result.scores[0] < 1
    assert result.presence == pytest.approx(1 / (1 + np.exp(-result.presence_logit)), abs=1e-6)
    np.testing.assert_allclose(result.scores, result.class_scores * result.presence, atol=1e-6)


def test_nothing_found_keeps_all_shapes(tiny_segmenter, picture):
    result = tiny_segmenter.segment(picture, text="red circle", threshold=1)
    assert result.masks.shape == (0, 60, 90) and result.boxes.shape == (0, 4) and result.scores.shape == (0,)
    assert len(result) == 0 and 0 < result.presence < 1


def test_result_equals_what_the_network_says(tiny_segmenter, picture):
    result = tiny_segmenter.segment(picture, text="coin", boxes=BOX, threshold=0, return_raw=True)
    with torch.inference_mode():
        features = tiny_segmenter.encode_pixels([load_image(picture)])
        index = torch.zeros(1, dtype=torch.long)
        words = tiny_segmenter.detector.encode_text(tiny_segmenter.tokenizer(["coin"]))
        shown = tiny_segmenter.detector.encode_exemplars(features, result.examples.to_model(), index)
        output = tiny_segmenter.detector.raw(features, index, join_prompts(words, shown))
    torch.testing.assert_close(result.raw.class_logits, output.class_logits)
    torch.testing.assert_close(result.raw.mask_logits, output.mask_logits)
    torch.testing.assert_close(result.raw.semantic_logits, output.semantic_logits)
    order = output.class_logits[-1, :, 0].argsort(descending=True)
    cx, cy, w, h = output.boxes_cxcywh[-1, order, 0].T
    expected = torch.stack(
        ((cx - w / 2) * 90, (cy - h / 2) * 60, (cx + w / 2) * 90, (cy + h / 2) * 60), dim=1
    )
    np.testing.assert_allclose(result.boxes, expected, atol=1e-4)
    resized = torch.nn.functional.interpolate(output.mask_logits, (60, 90), mode="bilinear")[0, order]
    assert (result.masks != (resized > 0).numpy()).mean() < 1e-4
    assert result.presence_logit == pytest.approx(float(output.presence_logits[-1, 0]), abs=1e-6)


def test_several_phrases_in_one_batch_equal_one_by_one(tiny_segmenter, picture):
    phrases = [
        f"{color} {kind}" for color in ("red", "striped", "") for kind in ("circle", "coin", "a b c d e f g")
    ]
    phrases = phrases * 3  # more pairs than run at once
    together = tiny_segmenter.segment(picture, text=phrases, boxes=BOX, threshold=0.05)
    assert [result.phrase for result in together] == [phrase.strip() for phrase in phrases]
    for phrase, result in zip(phrases[:9], together[-9:], strict=True):
        assert_same(result, tiny_segmenter.segment(picture, text=phrase, boxes=BOX, threshold=0.05), 1e-5)
    assert not np.allclose(together[0].class_scores[:3], together[1].class_scores[:3], atol=1e-4)


def test_a_list_of_one_phrase_gives_a_list_of_one_result(tiny_segmenter, picture):
    (result,) = tiny_segmenter.segment(picture, text=["coin"], threshold=0)
    assert_same(result, tiny_segmenter.segment(picture, text="coin", threshold=0))


def test_an_encoded_image_gives_identical_results(tiny_segmenter, picture):
    encoded = tiny_segmenter.encode(picture)
    assert encoded.size_hw == (60, 90)
    for prompt in (
        {"text": "coin"},
        {"boxes": BOX},
        {"text": ["coin", "red circle"], "boxes": BOX, "labels": [0]},
    ):
        fresh = tiny_segmenter.segment(picture, threshold=0, **prompt)
        reused = tiny_segmenter.segment(encoded, threshold=0, **prompt)
        for a, b in zip(*(x if isinstance(x, list) else [x] for x in (fresh, reused)), strict=True):
            assert_same(a, b)


def test_an_image_encoded_by_another_model_or_size_is_refused(make_segmenter, tiny_segmenter, picture):
    with pytest.raises(cs.ImageError, match="was encoded by model .* at 96 px; encode it again"):
        make_segmenter(seed=1).segment(tiny_segmenter.encode(picture), text="coin")
    larger = cs.Segmenter(
        tiny_segmenter.detector, tiny_segmenter.tokenizer, tiny_segmenter.config, resolution=128
    )
    with pytest.raises(cs.ImageError, match="128 px"):
        larger.segment(tiny_segmenter.encode(picture), text="coin")


def test_boxes_labels_and_words_all_matter(tiny_segmenter, picture):
    prompts = (
        {"text": "coin"},
        {"boxes": BOX},
        {"boxes": BOX, "labels": [0]},
        {"text": "coin", "boxes": BOX},
        {"boxes": [[50, 20, 80, 50]]},
        {"boxes": [*BOX, [50, 20, 80, 50]]},
    )
    logits = [tiny_segmenter.segment(picture, threshold=0, **prompt).class_scores for prompt in prompts]
    for i, one in enumerate(logits):
        for other in logits[:i]:
            assert np.abs(one - other).max() > 1e-4


def test_boxes_alone_ask_with_the_word_visual(tiny_segmenter, picture):
    alone = tiny_segmenter.segment(picture, boxes=BOX, threshold=0)
    assert alone.phrase == "visual"
    assert_same(alone, tiny_segmenter.segment(picture, text="visual", boxes=BOX, threshold=0))


def test_presence_modes_change_the_scores_as_documented(tiny_segmenter, picture):
    def ask(mode):
        return tiny_segmenter.segment(picture, text="coin", threshold=0, presence=mode)

    logit = ask(None).presence_logit
    plain, calibrated = (1 / (1 + np.exp(-x)) for x in (logit, 2.0 * logit + 1.0))
    assert_same(ask(None), ask("multiply"))
    np.testing.assert_allclose(ask("multiply").scores, ask("ignore").scores * plain, atol=1e-6)
    np.testing.assert_allclose(ask("calibrated").scores, ask("ignore").scores * calibrated, atol=1e-6)
    np.testing.assert_allclose(ask("ignore").scores, ask("ignore").class_scores)
    assert ask("ignore").presence == pytest.approx(plain, abs=1e-6)
    assert ask("calibrated").presence == pytest.approx(calibrated, abs=1e-6)
    assert ask("calibrated").presence_logit == logit


def test_the_model_config_chooses_the_presence_mode_unless_told(make_segmenter, picture):
    segmenter = make_segmenter(presence_mode="ignore")
    result = segmenter.segment(picture, text="coin", threshold=0)
    np.testing.assert_allclose(result.scores, result.class_scores)
    told = segmenter.segment(picture, text="coin", threshold=0, presence="multiply")
    assert (told.scores < result.scores).all()


def test_threshold_is_strict_and_may_differ_per_phrase(tiny_segmenter, picture):
    whole = tiny_segmenter.segment(picture, text="coin", threshold=0)
    at_third = tiny_segmenter.segment(picture, text="coin", threshold=float(whole.scores[2]))
    assert len(at_third) == 2
    strict, loose = tiny_segmenter.segment(picture, text=["coin", "coin"], threshold=[1, 0])
    assert (len(strict), len(loose)) == (0, 12)


def test_max_instances_keeps_the_best(tiny_segmenter, picture):
    whole = tiny_segmenter.segment(picture, text="coin", threshold=0)
    best = tiny_segmenter.segment(picture, text="coin", threshold=0, max_instances=3)
    np.testing.assert_array_equal(best.scores, whole.scores[:3])
    np.testing.assert_array_equal(best.masks, whole.masks[:3])


def test_raw_outputs_come_only_on_request_and_for_one_pair(tiny_segmenter, picture):
    assert tiny_segmenter.segment(picture, text="coin").raw is None
    first, second = tiny_segmenter.segment(picture, text=["coin", "red circle"], return_raw=True)
    assert first.raw.class_logits.shape == (2, 12, 1) and first.raw.mask_logits.shape[:2] == (1, 12)
    assert not torch.equal(first.raw.class_logits, second.raw.class_logits)


def test_segment_many_equals_one_by_one_in_order(tiny_segmenter, picture, tmp_path):
    images = [picture, picture[:30], picture[:, ::-1].copy(), Image.fromarray(picture[10:]), picture[:, :50]]
    Image.fromarray(picture[5:]).save(tmp_path / "six.png")
    images.append(tmp_path / "six.png")
    for prompt in ({"text": "coin"}, {"boxes": [[5, 5, 30, 25]]}, {"text": ["coin", "red circle"]}):
        many = tiny_segmenter.segment_many(
            (image for image in images), batch_size=4, threshold=0.05, **prompt
        )
        for image, result in zip(images, many, strict=True):
            single = tiny_segmenter.segment(image, threshold=0.05, **prompt)
            for a, b in zip(*(x if isinstance(x, list) else [x] for x in (result, single)), strict=True):
                assert_same(a, b, 1e-5)
                assert a.path == b.path


def test_segment_many_reads_images_only_as_they_are_needed(tiny_segmenter, picture):
    read = []

    def images():
        for i in range(6):
            read.append(i)
            yield picture

    results = tiny_segmenter.segment_many(images(), text="coin", batch_size=2)
    assert read == []
    next(results)
    assert read == [0, 1]
    assert len(list(results)) == 5


def test_segment_many_names_an_unreadable_image_or_gives_none_for_it(tiny_segmenter, picture, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_text("no image")
    images = [picture, bad, picture, picture.astype(float)]
    with pytest.raises(cs.ImageError, match="bad.png is not an image file"):
        list(tiny_segmenter.segment_many(images, text="coin"))
    with pytest.raises(cs.ImageError, match=r"images\[3\] is a numpy array"):
        list(
            tiny_segmenter.segment_many([*images[:1], picture, picture, images[3]], text="coin", batch_size=2)
        )
    results = list(
        tiny_segmenter.segment_many(images, text="coin", on_error="skip", batch_size=3, threshold=0)
    )
    assert [result is None for result in results] == [False, True, False, True]
    assert_same(results[0], results[2], 1e-6)
    assert list(tiny_segmenter.segment_many([bad, bad], text="coin", on_error="skip", batch_size=1)) == [
        None,
        None,
    ]
    assert list(tiny_segmenter.segment_many([], text="coin")) == []


def test_segment_many_gives_what_it_has_before_it_raises(tiny_segmenter, picture):
    results = tiny_segmenter.segment_many([picture, picture, "gone.png", picture], text="coin", batch_size=4)
    assert [next(results).phrase, next(results).phrase] == ["coin", "coin"]
    with pytest.raises(cs.ImageError, match="gone.png: no such file"):
        next(results)


def test_segment_many_checks_its_options_before_it_reads_anything(tiny_segmenter, picture):
    with pytest.raises(cs.PromptError, match="nothing was asked"):
        tiny_segmenter.segment_many([picture])
    for options, message in (
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1; got 0"),
        ({"on_error": "ignore"}, "unknown on_error 'ignore'; choose 'raise', 'skip'"),
    ):
        with pytest.raises(cs.OptionError, match=message):
            tiny_segmenter.segment_many([picture], text="coin", **options)
    with pytest.raises(cs.OptionError, match="for a single image use segment"):
        tiny_segmenter.segment_many("street.jpg", text="coin")
    with pytest.raises(cs.OptionError, match=r"images\[0\] is already encoded"):
        next(tiny_segmenter.segment_many([tiny_segmenter.encode(picture)], text="coin"))
    with pytest.raises(cs.PromptError, match=r"lies outside; .* pixels of images\[1\], 20 x 20"):
        list(tiny_segmenter.segment_many([picture, picture[:20, :20]], boxes=[[50, 30, 80, 50]]))


@pytest.mark.parametrize("odd", [np.zeros((2, 2)), torch.zeros(2, 2), np.array(object()), "x" * 5000])
@pytest.mark.parametrize(
    "name",
    [
        "presence",
        "dedupe",
        "max_instances",
        "threshold",
        "boxes",
        "labels",
        "exemplar",
        "batch_size",
        "on_error",
    ],
)
def test_what_is_no_option_is_refused_in_one_short_line(tiny_segmenter, picture, name, odd):
    for call in (tiny_segmenter.segment, tiny_segmenter.segment_many):
        if call == tiny_segmenter.segment and name in ("batch_size", "on_error"):
            continue
        given = [picture] if call == tiny_segmenter.segment_many else picture
        with pytest.raises((cs.OptionError, cs.PromptError)) as caught:
            list(call(given, **{"text": "coin", name: odd}))
        assert len(str(caught.value)) < 300 and "\n" not in str(caught.value)


def test_a_batch_may_be_larger_than_anything(tiny_segmenter, picture):
    assert len(list(tiny_segmenter.segment_many([picture, picture], text="coin", batch_size=10**400))) == 2


def test_whether_raw_outputs_are_wanted_is_yes_or_no(tiny_segmenter, picture):
    with pytest.raises(cs.OptionError, match="return_raw must be True or False; got array"):
        tiny_segmenter.segment(picture, text="coin", return_raw=np.zeros(2))


@pytest.mark.parametrize(
    "images", [np.zeros((8, 8, 3), np.uint8), torch.zeros(3, 8, 8, dtype=torch.uint8), np.array(1)]
)
def test_one_image_is_not_taken_for_many(tiny_segmenter, images):
    with pytest.raises(cs.OptionError, match="for a single image use segment"):
        tiny_segmenter.segment_many(images, text="coin")


def test_asking_nothing_and_impossible_options_are_clear_errors(tiny_segmenter, picture):
    for prompt in ({}, {"boxes": []}, {"boxes": np.zeros((0, 4))}):
        with pytest.raises(cs.PromptError, match="nothing was asked: give text, boxes, an exemplar"):
            tiny_segmenter.segment(picture, **prompt)
    for options, message in (
        ({"presence": "maybe"}, "unknown presence 'maybe'; choose 'multiply', 'ignore', 'calibrated'"),
        ({"dedupe": "magic"}, "unknown dedupe 'magic'; choose 'none', 'nms', 'containment'"),
        ({"max_instances": 0}, "max_instances must be None or a whole number of at least 1; got 0"),
        ({"max_instances": 2.5}, "max_instances"),
        ({"threshold": 1.5}, "threshold 1.5 is not a number from 0 to 1"),
    ):
        with pytest.raises(cs.OptionError, match=message):
            tiny_segmenter.segment(picture, text="coin", **options)
    with pytest.raises(cs.PromptError, match="10,000 characters"):
        tiny_segmenter.segment(picture, text="a" * 10_000)
    with pytest.raises(cs.ImageError, match="segment_many"):
        tiny_segmenter.segment([picture, picture], text="coin")
    with pytest.raises(cs.PromptError, match="exemplar must be made by"):
        tiny_segmenter.segment(picture, exemplar="widget.concept.safetensors")


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (3000, 2)])
def test_images_of_any_shape_give_masks_of_their_own_size(tiny_segmenter, size):
    result = tiny_segmenter.segment(np.full((*size, 3), 90, np.uint8), text="coin", threshold=0)
    assert result.masks.shape == (12, *size) and np.isfinite(result.boxes).all()


def test_any_multiple_of_the_stride_is_a_resolution(tiny_segmenter, picture):
    parts = tiny_segmenter.detector, tiny_segmenter.tokenizer, tiny_segmenter.config
    for resolution in (32, 160):
        segmenter = cs.Segmenter(*parts, resolution=resolution)
        assert segmenter.resolution == resolution
        assert segmenter.segment(picture, text="coin", boxes=BOX, threshold=0).masks.shape == (12, 60, 90)
    for resolution, message in (
        (100, "resolution 100 is not a positive multiple of 32 for this model; try 96 or 128"),
        (10, "try 32"),
        (0, "try 32"),
        (-32, "try 32"),
        (96.0, "whole number of pixels; got 96.0"),
    ):
        with pytest.raises(cs.OptionError, match=message):
            cs.Segmenter(*parts, resolution=resolution)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", torch.bfloat16])
def test_half_precision_stays_near_full_precision(tiny_segmenter, picture, dtype):
    half = cs.Segmenter(tiny_segmenter.detector, tiny_segmenter.tokenizer, tiny_segmenter.config, dtype=dtype)
    assert half.fingerprint == tiny_segmenter.fingerprint
    ours, reference = (
        s.segment(picture, text="coin", boxes=BOX, threshold=0) for s in (half, tiny_segmenter)
    )
    np.testing.assert_allclose(ours.scores, reference.scores, atol=0.03)
    assert abs(ours.presence - reference.presence) < 0.03
    assert ours.scores.dtype == np.float32 and ours.boxes.dtype == np.float32


def test_using_a_model_leaves_torch_and_its_weights_as_they_were(tiny_segmenter, picture):
    before = {name: value.clone() for name, value in tiny_segmenter.detector.state_dict().items()}
    settings = torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads()
    iterator = tiny_segmenter.segment_many([picture, picture], text="coin", batch_size=1)
    next(iterator)  # paused between two images, the caller's own gradients still work
    assert not torch.is_inference_mode_enabled()
    list(iterator)
    assert settings == (torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads())
    for name, value in tiny_segmenter.detector.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_model_that_was_asked_can_still_be_trained(make_segmenter, picture):
    segmenter = make_segmenter(seed=2)
    segmenter.segment(picture, text="coin", boxes=BOX)
    detector = segmenter.detector.train()
    output = detector(torch.zeros(1, 3, 96, 96), segmenter.tokenizer(["coin"]))
    output.class_logits.sum().backward()
    assert any(parameter.grad is not None for parameter in detector.parameters())


def test_one_segmenter_serves_several_threads(tiny_segmenter, picture):
    phrases = ["coin", "red circle", "striped star", "cup"]
    expected = {phrase: tiny_segmenter.segment(picture, text=phrase, threshold=0) for phrase in phrases}
    found = {}

    def ask(phrase):
        found[phrase] = [tiny_segmenter.segment(picture, text=phrase, threshold=0) for _ in range(3)]

    threads = [threading.Thread(target=ask, args=(phrase,)) for phrase in phrases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for phrase in phrases:
        for result in found[phrase]:
            assert_same(result, expected[phrase], 1e-6)
