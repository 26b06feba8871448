import io
import warnings

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from conceptseg.errors import ImageError
from conceptseg.images import load_image, model_input, upright_size


def saved(folder, array_or_image, name="picture.png", **options):
    image = array_or_image if isinstance(array_or_image, Image.Image) else Image.fromarray(array_or_image)
    image.save(folder / name, **options)
    return folder / name


def test_every_kind_of_input_gives_the_same_pixels(tmp_path, picture):
    path = saved(tmp_path, picture)
    inputs = {
        "path": path,
        "text": str(path),
        "bytes": path.read_bytes(),
        "file": io.BytesIO(path.read_bytes()),
        "pil": Image.fromarray(picture),
        "lazy pil": Image.open(path),
        "numpy": picture,
        "torch": torch.from_numpy(picture).permute(2, 0, 1),
    }
    for kind, image in inputs.items():
        loaded = load_image(image)
        assert loaded.pixels.dtype == np.uint8 and np.array_equal(loaded.pixels, picture), kind
        assert loaded.size_hw == (60, 90), kind
    inputs["lazy pil"].close()


def test_an_array_is_copied_so_that_later_drawing_does_not_change_results(picture):
    loaded = load_image(picture)
    before = loaded.pixels.copy()
    picture[:] = 0
    assert np.array_equal(loaded.pixels, before)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_file_is_turned_upright_by_its_exif_orientation(tmp_path, picture, orientation, name):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path, picture, name, exif=exif)
    with Image.open(path) as stored:
        upright = ImageOps.exif_transpose(stored)  # Pillow's own, as the reference
    assert np.array_equal(load_image(path).pixels, np.asarray(upright))
    assert upright.size == ((90, 60) if orientation < 5 else (60, 90))


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_in_the_header_is_that_of_the_upright_picture(tmp_path, picture, orientation, name):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path, picture, name, exif=exif)
    assert upright_size(path) == load_image(path).size_hw


def test_the_size_of_what_is_no_picture_is_an_error(tmp_path):
    with pytest.raises(ImageError, match="no such file"):
        upright_size(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").write_text("no picture")
    with pytest.raises(ImageError, match="damaged"):
        upright_size(tmp_path / "a.jpg")


def test_unreadable_exif_is_as_good_as_none(tmp_path, picture):
    path = saved(tmp_path, picture, "a.jpg", exif=b"Exif\0\0 no tiff header in here")
    assert load_image(path).size_hw == (60, 90)


def test_a_picture_in_memory_is_used_as_it_is_held_whatever_its_exif_says(tmp_path, picture):
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(saved(tmp_path, picture, exif=exif)) as held:
        assert load_image(held).size_hw == (held.height, held.width)


def test_grey_pictures_become_three_equal_channels(tmp_path, picture):
    grey = picture[..., 0]
    for image in (
        saved(tmp_path, grey),
        grey,
        grey[..., None],
        torch.from_numpy(grey),
        torch.from_numpy(grey)[None],
    ):
        assert np.array_equal(load_image(image).pixels, np.repeat(grey[..., None], 3, axis=2))


def test_one_bit_pictures_become_black_and_white(tmp_path, picture):
    bits = picture[..., 0] > 100
    assert np.array_equal(load_image(saved(tmp_path, bits)).pixels[..., 1], bits * np.uint8(255))


@pytest.mark.parametrize("name", ["deep.png", "deep.tif"])
def test_sixteen_bit_grey_keeps_its_upper_byte_and_is_not_clipped_to_white(tmp_path, picture, name):
    deep = picture[..., 0].astype(np.uint16) * 257
    loaded = load_image(saved(tmp_path, deep, name))
    assert np.array_equal(loaded.pixels[..., 2], picture[..., 0])


def test_floating_point_pictures_are_refused_since_their_white_is_unknown(tmp_path, picture):
    with pytest.raises(ImageError, match="floating-point pixels.*scale it to 8 bits"):
        load_image(saved(tmp_path, picture[..., 0].astype(np.float32), "float.tif"))


def test_transparency_is_dropped_as_pillow_does(tmp_path, picture):
    alpha = np.arange(60 * 90, dtype=np.uint8).reshape(60, 90, 1)
    rgba = np.concatenate((picture, alpha), axis=2)
    for image in (
        saved(tmp_path, rgba),
        rgba,
        torch.from_numpy(rgba).permute(2, 0, 1),
        Image.fromarray(rgba),
    ):
        assert np.array_equal(load_image(image).pixels, picture)


def test_palettes_with_transparency_give_their_colours_without_a_warning(tmp_path, picture):
    palette = Image.fromarray(picture).quantize(16)
    path = saved(tmp_path, palette, transparency=bytes([0] * 16))
    assert np.array_equal(load_image(path).pixels, np.asarray(palette.convert("RGB")))


def test_cmyk_jpegs_are_converted(tmp_path, picture):
    path = saved(tmp_path, Image.fromarray(picture).convert("CMYK"), "print.jpg", quality=95)
    difference = load_image(path).pixels.astype(int) - picture
    assert np.abs(difference).mean() < 3


def test_lab_colour_is_refused_since_pillow_would_convert_it_wrongly():
    with pytest.raises(ImageError, match="Lab colour"):
        load_image(Image.new("LAB", (4, 4)))


@pytest.mark.parametrize("name", ["moving.gif", "moving.png", "moving.webp", "pages.tif"])
def test_several_frames_are_an_error_that_says_how_to_pick_one(tmp_path, picture, name):
    frames = [Image.fromarray(np.roll(picture, k, axis=1)) for k in (0, 7, 14)]
    path = saved(tmp_path, frames[0], name, save_all=True, append_images=frames[1:])
    with pytest.raises(ImageError, match=r"has 3 frames; choose one: .*seek\(k\).*convert\('RGB'\)"):
        load_image(path)
    with Image.open(path) as moving:
        moving.seek(1)
        assert load_image(moving.convert("RGB")).size_hw == (60, 90)


def test_a_still_gif_is_a_picture(tmp_path, picture):
    assert load_image(saved(tmp_path, picture, "still.gif")).size_hw == (60, 90)


def test_the_second_picture_in_a_phone_photo_is_not_a_frame(tmp_path, picture):
    first, preview = Image.fromarray(picture), Image.fromarray(picture[::4, ::4])
    path = saved(tmp_path, first, "phone.mpo", save_all=True, append_images=[preview])
    assert load_image(path).size_hw == (60, 90)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tif", "a.bmp", "a.gif"])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_truncated_files_are_an_error_in_every_format(tmp_path, name, kept):
    noise = np.random.default_rng(0).integers(0, 256, (80, 80, 3), dtype=np.uint8)
    path = saved(tmp_path, noise, name)
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    with pytest.raises(ImageError, match=name):
        load_image(path)


def test_missing_empty_and_foreign_files_say_what_they_are(tmp_path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "notes.png").write_text("this is not an image")
    for given, message in (
        (tmp_path / "gone.png", "gone.png: no such file"),
        (tmp_path / "empty.png", r"empty.png is empty \(0 bytes\)"),
        (tmp_path / "notes.png", "notes.png is not an image file"),
        (tmp_path, "is a folder; give one image file"),
        ("https://example.com/cat.jpg", "is a web address; download it"),
        ("x" * 5000, "cannot be opened"),
        ("nul\0byte", "no such file|cannot be opened"),
        (b"", r"image is empty \(0 bytes\)"),
        (b"not an image", "image is not an image file"),
    ):
        with pytest.raises(ImageError, match=message):
            load_image(given)


def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    path = saved(tmp_path, Image.new("L", (400, 300)))
    for limit in (
        100_000,
        50_000,
    ):  # Pillow warns above the limit and raises above twice the limit: one error for both
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(
            ImageError, match=f"over the limit of {limit:,} that guards against decompression bombs"
        ):
            load_image(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as in a user's program, where Pillow's warning is not an error
            with pytest.raises(ImageError, match="over the limit"):
                load_image(path)


def test_arrays_of_another_type_or_layout_are_refused_with_advice(picture):
    chw = torch.from_numpy(picture).permute(2, 0, 1)
    for image, message in (
        (picture.astype(np.float32) / 255, "must be uint8 with values 0 to 255.*multiply by 255"),
        (picture.astype(np.uint16), "must be uint8"),
        (picture.transpose(2, 0, 1), r"give array.transpose\(1, 2, 0\)"),
        (picture[None], r"shape \(1, 60, 90, 3\).*give one image"),
        (picture[0, 0], r"must be \(H, W, 3\)"),
        (picture[:0], "no pixels"),
        (chw.float() / 255, "must be uint8.*multiply by 255"),
        (chw.permute(1, 2, 0), r"give tensor.permute\(2, 0, 1\)"),
        (chw[None], "several to segment_many"),
        (chw[:, :0], "no pixels"),
        (Image.new("RGB", (0, 5)), "no pixels"),
        ([picture], "segment_many"),
        (None, "must be a path, a PIL image, a numpy array.*got NoneType"),
        (7, "got int"),
    ):
        with pytest.raises(ImageError, match=message):
            load_image(image)


def test_one_pixel_becomes_a_square_of_its_colour():
    square = model_input(np.array([[[0, 51, 255]]], dtype=np.uint8), 32)
    expected = torch.tensor([-1.0, -0.6, 1.0]).view(3, 1, 1).expand(3, 32, 32)
    torch.testing.assert_close(square, expected)


def test_a_very_wide_picture_is_averaged_and_not_sampled():
    stripes = np.zeros((2, 64_000, 3), dtype=np.uint8)
    stripes[:, ::2] = 200
    square = model_input(stripes, 64)
    assert (square - (100 / 127.5 - 1)).abs().max() < 0.02


def test_preprocessing_equals_that_of_transformers(picture):
    processing = pytest.importorskip("transformers.models.sam3.image_processing_sam3")
    theirs = processing.Sam3ImageProcessor(size={"height": 112, "width": 112})
    for image in (
        picture,
        picture[:7],
        np.random.default_rng(0).integers(0, 256, (301, 200, 3), dtype=np.uint8),
    ):
        expected = theirs(Image.fromarray(image), return_tensors="pt")["pixel_values"][0]
        torch.testing.assert_close(model_input(image, 112), expected, atol=1e-6, rtol=0)
