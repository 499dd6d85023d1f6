"""Odd images, sizes and ways of segmenting: right size back, or an error with a name."""

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
import torch
import warm
from models.test_segmenter import CONFIG
from PIL import Image

import prevmatch.use.predict
from prevmatch.data.images import as_rgb
from prevmatch.errors import ConfigError, DataError
from prevmatch.evaluate import class_scores
from prevmatch.models.segmenter import Segmenter

MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB", "I", "F", "I;16", "I;16B")
SIZES = ((1, 1), (1, 2), (2, 1), (1, 400), (400, 1), (15, 16), (16, 15), (17, 33), (97, 64), (256, 255))


@pytest.fixture(scope="module")
def model():
    return model_with("test_resnet")


def model_with(encoder):
    torch.manual_seed(0)
    model = Segmenter(dataclasses.replace(CONFIG, encoder=encoder)).eval()
    pixels = torch.from_numpy(np.array(noise(50, 37))).permute(2, 0, 1)[None]
    with torch.no_grad():  # so that each class is found somewhere
        [*model.decoder.parameters()][-1].sub_(model(model.normalize(pixels)).mean((0, 2, 3)))
    return model


def noise(width, height, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def in_mode(mode, width=21, height=34):
    picture = noise(width, height)
    if mode in ("LAB", "PA"):
        return Image.new(mode, (width, height))
    if mode.startswith("I;16"):
        return Image.frombytes(mode, (width, height), bytes(range(256)) * (2 * width * height // 256 + 1))
    return picture.convert("L").convert(mode) if mode in ("I", "F") else picture.convert(mode)


def saved(picture, kind, **options):
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def rotated(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(noise(40, 24), "JPEG", exif=exif)


def transparent_palette():
    return saved(noise(21, 34).quantize(8), "PNG", transparency=3)


def animated():
    return saved(noise(21, 34), "GIF", save_all=True, append_images=[noise(21, 34, 1)])


READABLE = {
    "palette.png": (transparent_palette, (34, 21)),
    "animated.gif": (animated, (34, 21)),
    "animated.webp": (lambda: saved(noise(21, 34), "WEBP", save_all=True, append_images=[noise(21, 34, 1)]), (34, 21)),
    "pages.tif": (lambda: saved(noise(21, 34), "TIFF", save_all=True, append_images=[noise(9, 9)]), (34, 21)),
    "cmyk.jpg": (lambda: saved(noise(21, 34).convert("CMYK"), "JPEG"), (34, 21)),
    "16bit.png": (lambda: saved(in_mode("I;16"), "PNG"), (34, 21)),
    "16bit.tif": (lambda: saved(in_mode("I;16"), "TIFF"), (34, 21)),
    "float.tif": (lambda: saved(in_mode("F"), "TIFF"), (34, 21)),
    "bits.png": (lambda: saved(in_mode("1"), "PNG"), (34, 21)),
    "a picture, with ünusual näme.PNG": (lambda: saved(noise(21, 34), "PNG"), (34, 21)),
    "lies.png": (lambda: saved(noise(21, 34), "JPEG"), (34, 21)),
    **{f"turned{k}.jpg": (lambda k=k: rotated(k), (24, 40) if k < 5 else (40, 24)) for k in range(2, 9)},
}
whole = saved(noise(64, 64), "PNG")
UNREADABLE = {
    "empty.png": b"", "text.jpg": b"no image", "torn.png": whole[: len(whole) // 2], "header.png": whole[:30],
    "torn.jpg": saved(noise(64, 64), "JPEG")[:400], "zeros.tif": bytes(500), "page.svg": b"<svg xmlns='x'/>",
}  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
def test_pictures_of_any_mode(model, mode):
    ids = model.predict(in_mode(mode))
    assert (ids.shape, ids.dtype) == ((34, 21), np.uint8)


@pytest.mark.parametrize("size", SIZES)
def test_pictures_of_any_size(model, size):
    window = max(7, min(size) // 3)  # no more than some dozens of them
    for options in ({}, {"flip": True, "scales": (0.5, 1, 1.5)}, {"window": window}, {"size": 30}):
        assert model.predict(noise(*size), **options).shape == size[::-1]
    assert model.predict(noise(*size), probabilities=True).shape == (3, *size[::-1])


@pytest.mark.parametrize("name", READABLE)
def test_files_that_can_be_read(model, tmp_path, name):
    make, size = READABLE[name]
    (tmp_path / name).write_bytes(make())
    assert model.predict(tmp_path / name).shape == size


@pytest.mark.parametrize("name", UNREADABLE)
def test_files_that_cannot_be_read_are_named(model, tmp_path, name):
    (tmp_path / name).write_bytes(UNREADABLE[name])
    with pytest.raises(DataError, match=f"{name} cannot be read as an image"):
        model.predict(tmp_path / name)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((4, 5, 3)), np.zeros((4, 5), np.uint16), np.zeros((3, 4, 5), np.uint8), np.zeros((4, 5, 4), np.uint8),
        np.zeros((0, 5, 3), np.uint8), np.zeros(4, np.uint8), np.zeros((1, 4, 5, 3), np.uint8),
    ],
    ids=lambda a: f"{a.dtype}{a.shape}",
)  # fmt: skip
def test_arrays_of_another_form_are_refused(model, wrong):
    with pytest.raises(DataError, match=r"is no image; give uint8 of shape \(H, W, 3\)"):
        model.predict(wrong)


def test_other_things_are_refused(model, tmp_path):
    for thing, message in [
        (tmp_path / "none.png", "does not exist"), ("https://example.com/a.jpg", "is an address"),
        ([None], "a NoneType is no image"), (tmp_path, "holds no images"),
    ]:  # fmt: skip
        with pytest.raises(DataError, match=message):
            model.predict(thing)
    for options in ({"window": -1}, {"scales": ()}, {"scales": (0,)}, {"batch_size": 0}, {"size": 0}):
        with pytest.raises(ConfigError, match=next(iter(options))):
            model.predict(noise(8, 8), **options)


# The kernel's note of this process's own peak: ru_maxrss would begin with that of the process that started it.
PEAK = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from PIL import Image
from models.test_segmenter import CONFIG
import prevmatch.use.predict
from prevmatch.models.segmenter import Segmenter

def peak():
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])

prevmatch.use.predict.LARGEST //= {share}
prevmatch.use.predict.ENLARGED_SCORES //= {share}
height = round((24e6 / {share} / 1.5) ** 0.5)
model, picture = Segmenter(CONFIG).eval(), Image.effect_noise((60, 40), 50).resize((height * 3 // 2, height))
model.predict(picture.resize((60, 40)))
before = peak()
assert model.predict(picture).shape == (height, height * 3 // 2)
print(1024 * (peak() - before))
"""


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs Linux")
@pytest.mark.parametrize("share", [4, pytest.param(1, marks=pytest.mark.variation)])
def test_photo_of_24_megapixels_in_bounded_memory(tmp_path, share):
    """Or a quarter of its pixels, in tiles of a quarter, in a quarter of the memory."""
    (tmp_path / "program.py").write_text(PEAK.format(tests=str(Path(__file__).parents[1]), share=share))
    done = warm.run(tmp_path / "program.py")
    assert done.returncode == 0, done.stderr
    assert 72e6 < int(done.stdout) * share < 2e9  # the pixels alone are 72 MB


def test_sixteen_bits_are_scaled_and_not_clipped():
    ramp = np.linspace(0, 65535, 256).astype(np.uint16)[None]
    eight = np.arange(256, dtype=np.uint8)[None]
    for values in (ramp, ramp.astype(np.int32), eight.astype(np.int32), eight.astype(np.float32) / 255,
                   eight.astype(np.float32), ramp.astype(np.float32) - 40000):  # fmt: skip
        assert np.abs(np.asarray(as_rgb(Image.fromarray(values)))[..., 0].astype(int) - eight).max() <= 1
    assert as_rgb(Image.new("F", (2, 2), -3.0)).getpixel((0, 0)) == (0, 0, 0)


def test_sixteen_bits_are_stretched_as_in_training_however_dark_a_photo_is(model, tmp_path):
    dark = np.random.default_rng(0).integers(0, 900, (24, 40), dtype=np.uint16)  # 10 bits by itself
    Image.fromarray(dark).save(tmp_path / "dark.png")
    shown = np.asarray(Image.fromarray((dark.astype(np.float32) * (255 / 16383) + 0.5).astype(np.uint8)))
    trained = Segmenter(dataclasses.replace(model.config, image_bits=14)).eval()
    trained.save_pretrained(tmp_path / "model")
    loaded = Segmenter.from_pretrained(tmp_path / "model")
    assert loaded.config.image_bits == 14
    as_trained = loaded.predict(shown, probabilities=True)
    assert np.array_equal(loaded.predict(tmp_path / "dark.png", probabilities=True), as_trained)
    brighter = model.predict(tmp_path / "dark.png", probabilities=True)
    assert not np.array_equal(brighter, model.predict(shown, probabilities=True))


def test_turned_photo_is_segmented_upright(model, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    noise(40, 24).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(model.predict(tmp_path / "a.png"), model.predict(noise(40, 24).transpose(Image.ROTATE_270)))


@pytest.mark.parametrize("encoder", ["test_resnet", "test_vit"])
@pytest.mark.parametrize("window", [None, 27])  # whose smallest windows, at the border, need no padding
def test_ids_equal_those_of_the_evaluation(encoder, window):
    model = model_with(encoder)
    picture = noise(52, 36)
    image = model.normalize(torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None])
    expected = class_scores(model, image, window, inside=encoder == "test_vit").argmax(dim=1)[0].numpy()
    assert len(np.unique(expected)) == 3
    assert (model.predict(picture, window=window) == expected).mean() > 0.999
    own = Segmenter(dataclasses.replace(model.config, eval_window=window)).eval()
    own.load_state_dict(model.state_dict())
    assert np.array_equal(own.predict(picture), model.predict(picture, window=window))


def test_probabilities_add_up_and_their_largest_is_the_class(model):
    for options in ({}, {"flip": True}, {"window": 16}, {"scales": (0.5, 1.5), "size": 60}):
        found = model.predict(noise(50, 37), probabilities=True, **options)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found.sum(0), 1, atol=1e-5)
        assert (found.argmax(0) == model.predict(noise(50, 37), **options)).mean() > 0.999


def test_flip_averages_the_mirror_image(model):
    picture = noise(50, 37)
    there = model.predict(picture, probabilities=True)
    back = model.predict(picture.transpose(Image.FLIP_LEFT_RIGHT), probabilities=True)[..., ::-1]
    np.testing.assert_allclose(model.predict(picture, probabilities=True, flip=True), (there + back) / 2, atol=1e-5)


def test_size_enlarges_and_never_shrinks(model):
    small, large = noise(20, 30), noise(80, 90)
    enlarged = small.resize((40, 60), Image.Resampling.BILINEAR)
    expected = model.predict(enlarged, probabilities=True)
    found = model.predict(small, size=60, probabilities=True)
    assert np.abs(found - expected[:, ::2, ::2]).max() < 0.2
    assert not np.array_equal(found, model.predict(small, probabilities=True))
    assert np.array_equal(model.predict(large, size=60), model.predict(large))


def test_images_are_batched_by_size_and_come_back_in_order(model):
    pictures = [noise(24 + 8 * (i % 3), 32, i) for i in range(10)]
    one_by_one = [model.predict(picture) for picture in pictures]
    sizes = []
    model.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    assert all(map(np.array_equal, model.predict(pictures, batch_size=3), one_by_one))
    assert sum(sizes) == 10
    assert sizes.count(3) >= 2


WAYS = ({}, {"probabilities": True}, {"flip": True, "window": 40}, {"size": 320})


# A ViT sees where in a tile a patch lies, so that a random one answers otherwise for a third of the pixels.
@pytest.mark.parametrize(("encoder", "ways", "equal"), [("test_resnet", WAYS, 0.8), ("test_vit", WAYS[:1], 0.5)])
def test_large_images_are_cut_into_tiles(encoder, ways, equal, monkeypatch):
    model = model_with(encoder)
    picture = noise(20, 30).resize((200, 300), Image.Resampling.BICUBIC)
    for options in ways:
        monkeypatch.setattr(prevmatch.use.predict, "LARGEST", 2**23)
        whole = model.predict(picture, **options)
        monkeypatch.setattr(prevmatch.use.predict, "LARGEST", 100**2)
        tiled = model.predict(picture, **options)
        assert tiled.shape == whole.shape
        assert np.isclose(tiled, whole, atol=0.1).mean() > equal
        assert np.array_equal(model.predict(picture, **options, batch_size=1), tiled)


def test_classes_enlarged_one_after_the_other_give_the_same_ids(model, monkeypatch):
    picture, real, asked = noise(40, 30), prevmatch.use.predict._enlarged, []

    def watched(scores, enlargements):
        asked.append(scores.shape[1])
        return real(scores, enlargements)

    monkeypatch.setattr(prevmatch.use.predict, "_enlarged", watched)
    together = model.predict(picture)
    assert len(np.unique(together)) > 1
    monkeypatch.setattr(prevmatch.use.predict, "ENLARGED_SCORES", 1)
    assert (model.predict(picture) == together).mean() > 0.999
    assert asked == [3, 1, 1, 1]


def test_folder_gives_its_images_in_order(model, tmp_path):
    for i, name in enumerate(("b.png", "a.png", "sub.png")):
        noise(9 + i, 8).save(tmp_path / name)
    (tmp_path / "notes.txt").touch()
    assert [ids.shape for ids in model.predict(tmp_path)] == [(8, 10), (8, 9), (8, 11)]


def test_segments_name_the_classes_found(model):
    found = model.segments(noise(30, 20))
    ids = model.predict(noise(30, 20))
    assert [s["label"] for s in found] == [CONFIG.class_names[i] for i in np.unique(ids)]
    assert all(s["score"] is None and s["mask"].mode == "L" and s["mask"].size == (30, 20) for s in found)
    assert np.array_equal(sum(np.asarray(s["mask"]).astype(int) for s in found), np.full((20, 30), 255))


def test_overlay_shows_the_image_under_its_colours_and_a_legend(model):
    picture = noise(400, 50)
    shown = np.asarray(model.overlay(picture))
    assert shown.shape[1] == 400
    assert shown.shape[0] > 50
    colours = np.array(CONFIG.palette)[model.predict(picture)]
    assert np.abs(shown[:50].astype(int) - (np.asarray(picture).astype(int) + colours) / 2).max() <= 1
    assert model.overlay(noise(1, 1)).width >= 160
