"""Counts of the real sets, against those that were published; needs the folder that SAMBALANCE_DATA names."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from realdata import datasets
from realdata.datasets.base import EVALUATE, FIT, TEST, TRAIN, VALIDATION, ImageData

ROOT = os.environ.get("SAMBALANCE_DATA")
pytestmark = [pytest.mark.realdata, pytest.mark.skipif(ROOT is None, reason="SAMBALANCE_DATA names no folder")]


def load(name: str, **options: str | float) -> ImageData:
    assert ROOT is not None
    return datasets.load(name, Path(ROOT), options)


def counts(data: ImageData, split: int) -> list[int]:
    return np.bincount(data.group[data.rows(split)], minlength=len(data.group_names)).tolist()


def test_two_class_dominoes():
    data = load("cifar_mnist")
    assert data.title.startswith("CIFAR-MNIST")
    assert "subset" not in data.title
    assert counts(data, TRAIN) == [4500, 0, 0, 4500]
    assert counts(data, VALIDATION) == [250] * 4
    assert counts(data, TEST) == [490] * 4  # MNIST's test partition has 980 zeros.
    digits = data.images[data.rows(TRAIN)][:, :, :32]
    zeros, ones = (digits[data.label[data.rows(TRAIN)] == kind].mean() for kind in (0, 1))
    assert 1.5 < zeros / ones < 3  # A zero has about twice the ink of a one.


def test_ten_class_dominoes():
    data = load("cifar_mnist", classes="all", correlation=0.9)
    assert np.diag(np.reshape(counts(data, TRAIN), (10, 10))).tolist() == [4050] * 10
    assert counts(data, VALIDATION) == [50] * 100
    assert counts(data, TEST) == [89] * 100  # MNIST's test partition has 892 fives.


def test_colored_mnist():
    data = load("colored_mnist", target="-90%")
    assert data.title == "ColoredMNIST"
    assert np.bincount(data.environment).tolist() == [23_334, 23_333, 23_333]
    assert data.easy is not None
    agree = [(data.easy == data.label)[data.environment == place].mean() for place in range(3)]
    assert np.allclose(agree, [0.9, 0.8, 0.1], atol=0.015)  # Six standard deviations of 0.0026.


def test_rotated_mnist():
    data = load("rotated_mnist", target="0")
    assert data.images.shape == (70_000, 1, 28, 28)
    assert np.bincount(data.environment).tolist() == [11_667] * 4 + [11_666] * 2


def test_pacs():
    data = load("pacs", target="sketch")
    table = np.bincount(data.group).reshape(4, 7)
    assert table.sum(1).tolist() == [2048, 2344, 1670, 3929]
    assert table[3].tolist() == [772, 740, 753, 608, 816, 80, 160]
    assert (len(data.probe_rows(FIT)), len(data.probe_rows(EVALUATE))) == (3144, 785)


def test_celeba():
    data = load("celeba")
    assert data.title == ("CelebA" if len(data) == 202_599 else f"CelebA subset ({len(data):,} images)")
    shares = np.bincount(data.group) / len(data)
    # Of all of CelebA 0.86 % are blond men, 14.8 % blond and 41.7 % male; a tenth of it may differ a little.
    assert abs(shares[3] - 0.0086) < 0.002
    assert abs(shares[2] + shares[3] - 0.148) < 0.01
    assert abs(shares[1] + shares[3] - 0.417) < 0.01


def test_waterbirds():
    data = load("waterbirds")
    train = np.array(counts(data, TRAIN))
    assert abs((train[0] + train[3]) / train.sum() - 0.95) < 0.01
    for split in (VALIDATION, TEST):
        group = counts(data, split)
        assert abs(group[0] - group[1]) <= 1
        assert group[2] == group[3]
