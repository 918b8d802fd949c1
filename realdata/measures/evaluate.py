"""All measures of one checkpoint in long form: one row per number.

A row is a dictionary with ``split``, ``metric``, ``attribute`` ("hard", "easy" or ""), ``group``, ``value``, ``low``,
``high`` (an interval over images; None if there is none) and ``n`` (number of images). A number that cannot be
measured, such as the accuracy of a group without images, is a row with ``value`` None and ``n`` 0.

Splits and metrics:

``probe``       ``probing_error``, ``mean_group_probing_error``, ``worst_group_probing_error``, ``group_probing_error``
                (for each group), ``probing_log_loss`` (nats), ``mean_group_probing_log_loss``,
                ``group_probing_log_loss``, ``probe_strength`` (the chosen inverse penalty C), ``probe_unconverged``;
                for each attribute.
``probe_pooled``, ``probe_placed``, ``probe_upper``, ``probe_lower``
                the same of other readings of a convolutional network's last feature maps, as far as the protocol asks
                for them: the mean over all places; the means over the upper and over the lower half, side by side; the
                mean over one half.
``probe_dfr``   of a final checkpoint, if the protocol asks for it: the same as ``probe`` by the protocol ``dfr``.
``train``, ``validation``, ``test``
                ``loss`` (nats), ``accuracy``, ``mean_group_accuracy``, ``worst_group_accuracy``, ``adjusted_accuracy``
                and ``adjusted_loss`` (groups weighted by their sizes in training), ``group_accuracy``,
                ``most_predicted_share`` (share of the most frequent prediction: 1 if the network has collapsed).
                ``train`` is a fixed random part, of ``Protocol.train_examples`` images.
``train``       ``training_loss``, that of the checkpoint; ``easy_association``, Cramer's V of label and easy attribute
                in the whole training set (1: redundant, one determines the other); and the example weights
                at the real and phantom parameters, see :mod:`realdata.measures.example_weight_rows`.
``train``, ``evaluate``
                of two classes: the toy's quantities along the probes' directions (feature strength, responses,
                suppression, gradient scale), and on the images that measure the probe the weight-logit gaps of R4, see
                :mod:`realdata.measures.toy_quantity_rows`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from realdata.configuration import RunConfiguration
from realdata.datasets.base import EVALUATE, FIT, SPLIT_NAMES, TRAIN, ImageData
from realdata.measures.example_weight_rows import weight_rows
from realdata.measures.example_weights import weight_logits
from realdata.measures.group_accuracy import GroupAccuracy
from realdata.measures.principal_axes import PrincipalAxes
from realdata.measures.probe import ProbeResult, probe
from realdata.measures.protocols import PROTOCOLS, WIDE, Protocol
from realdata.measures.protocols import protocol as protocol_by_name
from realdata.measures.rows import Row, row, row_of
from realdata.measures.toy_quantity_rows import measure_rows
from realdata.training.checkpoints import FINAL

if TYPE_CHECKING:
    from realdata.training.checkpoints import Checkpoint

AVERAGE_METRICS = {
    "accuracy": "raw",
    "mean_group_accuracy": "mean",
    "worst_group_accuracy": "worst",
    "adjusted_accuracy": "adjusted",
}
BATCH_SIZE = 128
"""Images per forward pass. On a CPU core, 256 took 45 % longer (activations do not fit into the cache), 64 as long."""

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def evaluate(
    model: Any,
    data: ImageData,
    configuration: RunConfiguration,
    checkpoint: Checkpoint | None = None,
    *,
    protocol: Protocol | str = "fast",
    seed: int = 0,
    weights: bool = True,
) -> list[Row]:
    """Measure a network at one checkpoint.

    Args:
        model: the network in evaluation mode: ``model(x)`` logits, ``model.features(x)`` penultimate features,
            ``model.head`` the linear layer between them.
        data: the training data. configuration: the configuration of the run, for the rule and radius of the phantom
            parameters.
        checkpoint: provides ``training_loss``; None: no such row.
        protocol: probing protocol, a name from :data:`realdata.measures.protocols.PROTOCOLS` or a :class:`Protocol`.
        seed: seed of the part of the training set, the probe's halves and the bootstrap. Use the same seed for all
            runs that are compared.
        weights: whether to measure the example weights and the toy's quantities, which depend on the update rule.

    Raises:
        ValueError: for an unknown protocol, or data without images for the probe.
    """
    protocol = protocol_by_name(protocol)
    parts = _parts(data, protocol, seed)
    extracted = _extract_once(model, data, parts, protocol)
    features, logits = extracted.features, extracted.logits
    rows = [] if checkpoint is None else [row("train", "training_loss", float(checkpoint.training_loss))]
    rows += _association_rows(data)
    for name in SPLIT_NAMES:
        rows += _accuracy_rows(name, data, parts[name], logits[name], protocol, seed)
    probes: dict[str, ProbeResult] = {}
    # Other accelerators lack double precision.
    device = "cuda" if model.head.weight.is_cuda else "cpu"
    for name, read in {"": features, **extracted.readouts}.items():
        split = f"probe_{name}" if name else "probe"
        # A head that sees a reading has been probed on it.
        same = name and np.array_equal(read["evaluate"], features["evaluate"])
        found = probes if same else probe_attributes(data, parts, read, protocol, seed, device)
        probes = probes or found
        for attribute, result in found.items():
            rows += _probe_rows(data, attribute, result, split)
    if protocol.final != "none" and checkpoint is not None and checkpoint.name == FINAL:
        exact = PROTOCOLS[protocol.final].replace(draws=protocol.draws, confidence=protocol.confidence)
        for attribute, result in probe_attributes(data, parts, features, exact, seed, device).items():
            rows += _probe_rows(data, attribute, result, f"probe_{protocol.final}")
    if weights and len(parts["train"]):
        train = parts["train"], features["train"], logits["train"]
        rows += weight_rows(model, data, configuration, protocol, train, probes)
        held_out = parts["evaluate"], features["evaluate"], logits["evaluate"]
        rows += measure_rows(model, data, configuration, protocol, train, held_out, probes)
    return rows


def _association_rows(data: ImageData) -> list[Row]:
    """Association between easy attribute and label, a property of the data alone."""
    train = data.rows(TRAIN)
    if data.easy is None or not len(train):
        return []
    counts = np.zeros((len(data.label_names), len(data.easy_names)))
    np.add.at(counts, (data.label[train], data.easy[train]), 1.0)
    return [row("train", "easy_association", cramers_v(counts), "easy", n=len(train))]


def cramers_v(counts: FloatArray) -> float | None:
    """Cramer's V in [0, 1] of a table of counts ``[a, b]``; None if one of the two does not vary.

    Example:
        >>> cramers_v(np.array([[30.0, 0.0], [0.0, 10.0]]))
        1.0
    """
    from scipy.stats.contingency import association

    counts = counts[counts.sum(axis=1) > 0][:, counts.sum(axis=0) > 0]
    if min(counts.shape) < 2:
        return None
    return float(association(counts.astype(np.int64), method="cramer"))


def probe_attributes(
    data: ImageData,
    parts: dict[str, IntArray],
    features: dict[str, NDArray[np.float32]],
    protocol: Protocol,
    seed: int,
    device: str = "cpu",
) -> dict[str, ProbeResult]:
    """Probe the attributes that the data have, wide features in their principal axes (see :class:`Protocol`)."""
    axes = None
    if protocol.axes is not None and features["fit"].shape[1] > WIDE:
        axes = PrincipalAxes.of(features["train" if protocol.scaler == "train" else "fit"], protocol.axes, seed)
        protocol = protocol.replace(scaler="none")
        features = {name: axes.project(features[name]) for name in ("fit", "evaluate", "train")}
    found = {}
    for attribute in ("hard", "easy"):
        if getattr(data, attribute) is not None:
            result = probe_attribute(data, parts, features, attribute, protocol, seed, device)
            lifted = result.classifier if axes is None else axes.lift(result.classifier)
            found[attribute] = dataclasses.replace(result, classifier=lifted)
    return found


def probe_attribute(
    data: ImageData,
    parts: dict[str, IntArray],
    features: dict[str, NDArray[np.float32]],
    attribute: str,
    protocol: Protocol,
    seed: int,
    device: str = "cpu",
) -> ProbeResult:
    """Probe the hard or the easy attribute; ``parts`` and ``features`` of "fit", "evaluate" and "train"."""
    values, group = getattr(data, attribute), data.attribute_group
    fit, measure = parts["fit"], parts["evaluate"]
    return probe(
        features["fit"],
        values[fit],
        group[fit],
        features["evaluate"],
        values[measure],
        group[measure],
        protocol,
        seed,
        classes=len(getattr(data, f"{attribute}_names")),
        groups=attribute_group_names(data),
        train_features=features["train"],
        device=device,
    )


def attribute_group_names(data: ImageData) -> tuple[str, ...]:
    """Names of :attr:`ImageData.attribute_group`: "hard" or "hard, easy"."""
    if data.easy is None:
        return data.hard_names
    return tuple(f"{hard}, {easy}" for hard in data.hard_names for easy in data.easy_names)


def _parts(data: ImageData, protocol: Protocol, seed: int) -> dict[str, IntArray]:
    """Rows of every part that is measured; the training part is in random order, because it is split into batches."""
    parts = {name: data.rows(code) for code, name in enumerate(SPLIT_NAMES)}
    parts["train"] = np.random.default_rng([seed, 0]).permutation(parts["train"])[: protocol.train_examples]
    parts["fit"], parts["evaluate"] = data.probe_rows(FIT), data.probe_rows(EVALUATE)
    for name in ("fit", "evaluate"):
        if not len(parts[name]):
            raise ValueError(f"{data.title} has no images to {name} a probe on; allowed: at least one")
    return parts


@dataclass(frozen=True)
class _Extracted:
    """Features and logits of every part, by its name; further readings of the feature maps by their name."""

    features: dict[str, NDArray[np.float32]]
    logits: dict[str, NDArray[np.float32]]
    readouts: dict[str, dict[str, NDArray[np.float32]]]


def _extract_once(model: Any, data: ImageData, parts: dict[str, IntArray], protocol: Protocol) -> _Extracted:
    """What the network makes of every part; an image in two parts goes through it once."""
    from realdata.measures.extraction import extract

    rows = np.unique(np.concatenate(list(parts.values())))
    extracted = extract(model, data, rows, batch_size=BATCH_SIZE, readouts=protocol.readouts)
    where = {name: np.searchsorted(rows, part) for name, part in parts.items()}
    probed = {name: where[name] for name in ("fit", "evaluate", "train")}
    return _Extracted(
        {name: extracted.features[place] for name, place in probed.items()},
        {name: extracted.logits[place] for name, place in where.items()},
        {
            readout: {name: values[place] for name, place in probed.items()}
            for readout, values in extracted.readouts.items()
        },
    )


def _accuracy_rows(
    split: str, data: ImageData, rows: IntArray, logits: NDArray[np.float32], protocol: Protocol, seed: int
) -> list[Row]:
    if not len(rows):
        return []
    label, predicted = data.label[rows], logits.argmax(axis=1)
    right = GroupAccuracy.of(predicted == label, data.group[rows], data.group_names)
    train_count = np.bincount(data.group[data.rows(TRAIN)], minlength=len(data.group_names))
    losses = example_losses(logits, label)
    found = [
        row(split, "loss", float(losses.mean()), n=len(losses)),
        row(split, "adjusted_loss", adjusted_loss(losses, data.group[rows], train_count), n=len(losses)),
        row(split, "most_predicted_share", float(np.bincount(predicted).max() / len(predicted)), n=len(predicted)),
    ]
    for metric, kind in AVERAGE_METRICS.items():
        if kind == "adjusted" and not train_count[right.count > 0].any():
            # A target environment: none of its groups is in the training set.
            found.append(row(split, metric, None, n=0))
            continue
        average = right.average(
            kind, train_count=train_count, confidence=protocol.confidence, draws=protocol.draws, seed=seed
        )
        found.append(row_of(split, metric, average))
    for g, name in enumerate(data.group_names):
        found.append(row_of(split, "group_accuracy", right.group(g, protocol.confidence), group=name))
    return found


def example_losses(logits: NDArray[np.float32], label: IntArray) -> FloatArray:
    """Cross-entropy of each image [n], in nats."""
    # -log p_y = log(1 + exp(-margin)), without the cancellation of a log-softmax in single precision.
    return np.logaddexp(0.0, weight_logits(logits, label))


def adjusted_loss(losses: FloatArray, group: IntArray, train_count: IntArray) -> float | None:
    """Mean over groups of their mean losses, weighted by the groups' sizes in the training set.

    An estimate of the loss on new images that are correlated as the training images are; None if no group of the
    training set is among the images.
    """
    count = np.bincount(group, minlength=len(train_count))
    present = (count > 0) & (train_count > 0)
    if not present.any():
        return None
    means = np.bincount(group, weights=losses, minlength=len(train_count))[present] / count[present]
    return float(np.average(means, weights=train_count[present]))


def _probe_rows(data: ImageData, attribute: str, result: ProbeResult, split: str) -> list[Row]:
    losses = result.group_log_losses
    mean_loss = float(losses[~np.isnan(losses)].mean())
    found = [
        row_of(split, "probing_error", result.error, attribute),
        row_of(split, "mean_group_probing_error", result.group_mean_error, attribute),
        row_of(split, "worst_group_probing_error", result.worst_group_error, attribute),
        row(split, "probing_log_loss", result.log_loss, attribute, n=result.error.n),
        row(split, "mean_group_probing_log_loss", mean_loss, attribute, n=result.error.n),
        row(split, "probe_strength", result.inverse_penalty, attribute),
        row(split, "probe_unconverged", result.unconverged, attribute),
    ]
    for name, error, loss in zip(attribute_group_names(data), result.group_errors, losses, strict=True):
        found.append(row_of(split, "group_probing_error", error, attribute, name))
        found.append(row(split, "group_probing_log_loss", float(loss), attribute, name, n=error.n))
    return found
