"""Batches hold the rows that were asked for; augmentation is what it is called, and keyed by the seed."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from realdata.datasets import batches  # noqa: E402
from realdata.datasets.batches import RowSource, chunks_of  # noqa: E402
from realdata.training.augmentation import Augmentation, generator  # noqa: E402
from support.toy_images import toy  # noqa: E402

CPU = torch.device("cpu")


class Lazy:
    """Rows that are decoded when they are asked for."""

    def __init__(self, images: np.ndarray, broken: int | None = None) -> None:
        self._images, self._broken = images, broken
        self.shape = images.shape
        self.read: list[int] = []

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        self.read += rows.tolist()
        if self._broken in rows:
            raise ValueError(f"image {self._broken} is broken")
        return self._images[rows]


def stored(images: np.ndarray, kind: str, folder: Any) -> Any:
    if kind == "mapped":
        np.save(folder / "images.npy", images)
        return np.load(folder / "images.npy", mmap_mode="r")
    if kind == "read-only":
        images = images.copy()
        images.flags.writeable = False
        return images
    return Lazy(images) if kind == "lazy" else images


@pytest.mark.parametrize("kind", ["array", "read-only", "mapped", "lazy"])
@pytest.mark.parametrize("resident", [None, True, False])
def test_batches_hold_the_rows_that_were_asked_for(kind: str, resident: bool | None, tmp_path: Any) -> None:
    images = toy(40).images
    rows = np.random.default_rng(1).permutation(40)[:25]
    source = RowSource(stored(images, kind, tmp_path), rows, CPU, resident)
    chunks = chunks_of(rows, 4)
    found = [batch.numpy() for batch in source.batches(chunks)]
    assert [len(batch) for batch in found] == [4] * 6 + [1]
    assert np.array_equal(np.concatenate(found), images[rows])
    # Once more, in another order: training asks again each epoch.
    assert np.array_equal(next(iter(source.batches([rows[::-1]]))).numpy(), images[rows[::-1]])


def test_what_fits_is_read_once_and_what_does_not_fit_is_read_when_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    lazy = Lazy(toy(40).images)
    source = RowSource(lazy, np.arange(30), CPU)
    assert source.resident
    for _ in range(2):
        list(source.batches(chunks_of(np.arange(30), 4)))
    assert lazy.read.count(7) == 1
    monkeypatch.setattr(batches, "_budget", lambda device: 29 * 3 * 8 * 8)
    lazy = Lazy(toy(40).images)
    source = RowSource(lazy, np.arange(30), CPU)
    assert not source.resident
    assert lazy.read == []


def test_an_error_while_reading_ahead_reaches_the_training() -> None:
    source = RowSource(Lazy(toy(40).images, broken=9), np.arange(40), CPU, resident=False)
    with pytest.raises(ValueError, match="image 9 is broken"):
        list(source.batches(chunks_of(np.arange(40), 4)))


def test_reading_ahead_ends_when_nobody_wants_more() -> None:
    lazy = Lazy(toy(40).images)
    ahead = RowSource(lazy, np.arange(40), CPU, resident=False).batches(chunks_of(np.arange(40), 1))
    next(ahead)
    ahead.close()
    assert not any(thread.name == "realdata-reader" for thread in threading.enumerate())
    assert len(lazy.read) < 40


def test_reading_ahead_happens_while_the_consumer_works() -> None:
    lazy = Lazy(toy(40).images)
    ahead = RowSource(lazy, np.arange(40), CPU, resident=False).batches(chunks_of(np.arange(40), 4))
    next(ahead)
    deadline = time.monotonic() + 10
    while len(lazy.read) < 12 and time.monotonic() < deadline:
        time.sleep(0.005)
    assert len(lazy.read) >= 12
    ahead.close()


# --- augmentation -----------------------------------------------------------------------------------------------------


def changed(kind: str, data: Any, seed: int = 0, epoch: int = 0, positions: Any = None) -> np.ndarray:
    positions = np.arange(len(data)) if positions is None else positions
    augmentation = Augmentation.of_epoch(kind, data, len(data), seed, epoch)
    images = torch.from_numpy(data.images[positions])
    return augmentation(images, positions).numpy()


@pytest.mark.parametrize("kind", ["flip", "crop_flip", "domainbed"])
def test_changes_are_keyed_by_seed_epoch_and_position(kind: str) -> None:
    data = toy(30)
    first = changed(kind, data)
    assert np.array_equal(first, changed(kind, data))
    assert not np.array_equal(first, changed(kind, data, seed=1))
    assert not np.array_equal(first, changed(kind, data, epoch=1))
    some = np.array([4, 17, 2])
    np.testing.assert_allclose(changed(kind, data, positions=some), first[some], rtol=1e-5)
    assert np.array_equal(changed("none", data), data.images)


def test_about_half_of_the_images_are_mirrored_and_the_rest_are_not_touched() -> None:
    data = toy(200)
    found = changed("flip", data)
    same = (found == data.images).all(axis=(1, 2, 3))
    mirrored = (found == data.images[..., ::-1]).all(axis=(1, 2, 3))
    assert (same | mirrored).all()
    # Five standard deviations of a fair coin thrown 200 times.
    assert abs(mirrored.sum() - 100) < 36


@pytest.mark.parametrize("kind", ["flip", "crop_flip", "domainbed"])
def test_digits_are_never_mirrored(kind: str) -> None:
    assert "flip" not in Augmentation.of_epoch(kind, toy(10, flip=False), 10, 0, 0).draws


def test_crops_are_windows_of_the_padded_image() -> None:
    data = toy(60, height=16, width=24, flip=False)
    found = changed("crop_flip", data)
    padded = np.pad(data.images, ((0, 0), (0, 0), (2, 2), (3, 3)))
    places = set()
    for i in range(60):
        windows = [
            (top, left) for top in range(5) for left in range(7)
            if np.array_equal(padded[i, :, top : top + 16, left : left + 24], found[i])
        ]  # fmt: skip
        assert len(windows) == 1
        places.update(windows)
    assert {top for top, _ in places} == set(range(5))
    assert {left for _, left in places} == set(range(7))


def test_resized_crops_are_windows_of_the_asked_area_and_ratio() -> None:
    """On an image whose channels are linear in x and in y, a resized crop is linear too, and tells its window."""
    size, count = 32, 300
    ramp = np.tile(np.arange(size, dtype=np.uint8) * 7, (size, 1))
    images = np.stack([ramp, ramp.T, 0 * ramp])[None].repeat(count, 0)
    data = toy(count, height=size, width=size, images=images, flip=False)
    augmentation = Augmentation.of_epoch("domainbed", data, count, 0, 0)
    only_crop = Augmentation("domainbed", {"crop": augmentation.draws["crop"]})
    found = only_crop(torch.from_numpy(images), np.arange(count)).numpy() / 7
    width = (found[:, 0, 16, 28] - found[:, 0, 16, 3]) * size / 25
    height = (found[:, 1, 28, 16] - found[:, 1, 3, 16]) * size / 25
    area, ratio = width * height / size**2, width / height
    inside = (found[:, :2] >= 0) & (found[:, :2] <= size - 1)
    assert inside.all()
    assert (width <= size + 1e-3).all()
    assert (height <= size + 1e-3).all()
    assert 0.68 < area.min() < 0.75
    assert 0.95 < area.max() < 1.001
    assert 0.74 < ratio.min() < 0.8
    assert 1.25 < ratio.max() < 1.34
    assert np.ptp(found[:, 0, 16, 0]) > 3  # windows lie in different places


def test_colours_change_as_in_torchvision() -> None:
    functional = pytest.importorskip("torchvision.transforms.functional")
    data = toy(12, height=6, width=5)
    images = torch.from_numpy(data.images)
    augmentation = Augmentation.of_epoch("domainbed", data, 12, 3, 0)
    draws = {name: augmentation.draws[name] for name in ("colour", "grey")}
    draws["grey"] = np.arange(12) % 3 == 0
    found = Augmentation("domainbed", draws)(images, np.arange(12))
    for i in range(12):
        brightness, contrast, saturation, hue = draws["colour"][i]
        image = images[i] / 255
        image = functional.adjust_brightness(image, 1 + brightness)
        image = functional.adjust_contrast(image, 1 + contrast)
        image = functional.adjust_saturation(image, 1 + saturation)
        image = functional.adjust_hue(image, hue)
        if draws["grey"][i]:
            image = functional.rgb_to_grayscale(image, 3)
        # torchvision's luma weights are 0.2989, 0.587, 0.114: they sum to 0.9999.
        torch.testing.assert_close(found[i] / 255, image, rtol=0, atol=1e-3)


def test_colours_of_images_without_colour_are_an_error() -> None:
    with pytest.raises(ValueError, match="augmentation='domainbed' with images of 2 channels"):
        Augmentation.of_epoch("domainbed", toy(10, channels=2), 10, 0, 0)


def test_streams_of_random_numbers_are_apart() -> None:
    draws = [generator(*key).random() for key in ((0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0))]
    assert len(set(draws)) == 4
