"""Made-up images with a bright and a faint attribute, a network that has learned them, and what was measured on it."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch

from realdata.configuration import RunConfiguration
from realdata.datasets.base import EVALUATE, FIT, TEST, TRAIN, UNUSED, VALIDATION, Card, ImageData
from realdata.measures.extraction import batches_of
from realdata.measures.protocols import PROTOCOLS
from realdata.measures.rows import Row
from realdata.models import build as models

CONFIGURATION = RunConfiguration("made_up", model="mlp", model_options={"width": 12}, batch_size=32)


QUICK = PROTOCOLS["fast"].replace(draws=50, train_examples=100)


def made_up(train: int = 200, validation: int = 240, test: int = 160, seed: int = 0) -> ImageData:
    """A left half that shows the easy attribute brightly and a right half that shows the hard one faintly; in the
    training part they agree."""
    rng = np.random.default_rng(seed)
    split = np.repeat(np.array([TRAIN, VALIDATION, TEST], dtype=np.int8), [train, validation, test])
    hard = rng.integers(2, size=len(split))
    easy = np.where(split == TRAIN, hard, rng.integers(2, size=len(split)))
    images = rng.integers(60, 140, size=(len(split), 1, 4, 8))
    images[..., :4] += (100 * easy)[:, None, None, None]
    images[..., 4:] += (15 * hard)[:, None, None, None]
    return ImageData(
        name="made_up", title="Made up", images=images.astype(np.uint8), label=hard, hard=hard, easy=easy,
        group=2 * hard + easy, split=split, environment=np.zeros(len(split), dtype=np.int64),
        probe_split=np.select([split == VALIDATION, split == TEST], [FIT, EVALUATE], UNUSED).astype(np.int8),
        label_names=("car", "truck"), hard_names=("car", "truck"), easy_names=("zero", "one"),
        group_names=("car, zero", "car, one", "truck, zero", "truck, one"), environment_names=("only",),
        mean=(0.5,), std=(0.25,), flip=False, card=Card("", "", ""), fingerprint="made up",
    )  # fmt: skip


def trained(data: ImageData, steps: int = 40, configuration: RunConfiguration = CONFIGURATION) -> Any:
    """A network that has learned the easy attribute."""
    model = models.build(configuration, data)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    rows = data.rows(TRAIN)
    [inputs] = batches_of(data, rows, len(rows), model)
    for _ in range(steps):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(inputs), torch.as_tensor(data.label[rows])).backward()
        optimizer.step()
    return model.eval()


@dataclasses.dataclass(frozen=True)
class Measured:
    data: ImageData
    model: Any
    rows: list[Row]

    def value(self, metric: str, attribute: str = "", group: str = "", split: str | None = None) -> float:
        """The one row's value."""
        [row] = [
            r for r in self.rows
            if (r["metric"], r["attribute"], r["group"]) == (metric, attribute, group) and split in (None, r["split"])
        ]  # fmt: skip
        return row["value"]  # type: ignore[no-any-return]
