"""Example weights and phantom points: against automatic differentiation, SAM itself, and the theory's toy."""

from __future__ import annotations

import numpy as np
import pytest

from realdata.measures.example_weights import (
    Head,
    association,
    example_weights,
    gini,
    group_means,
    last_layer_gradient,
    last_layer_phantom,
    last_layer_phantom_logits,
    response,
    weight_logits,
)
from toymodels.theory.extensions import last_layer_phantom_margins

torch = pytest.importorskip("torch")

RHO = 0.3


def example(
    classes: int, bias: bool, samples: int = 40, features: int = 6, seed: int = 0
) -> tuple[Head, np.ndarray, np.ndarray]:
    """A head, features and labels."""
    rng = np.random.default_rng(seed)
    head = Head(rng.standard_normal((classes, features)), rng.standard_normal(classes) if bias else None)
    return head, rng.standard_normal((samples, features)), rng.integers(classes, size=samples)


def layer(head: Head) -> torch.nn.Linear:
    """The head as a torch module in float64."""
    classes, features = head.weight.shape
    linear = torch.nn.Linear(features, classes, bias=head.bias is not None).double()
    with torch.no_grad():
        linear.weight.copy_(torch.tensor(head.weight))
        if head.bias is not None:
            linear.bias.copy_(torch.tensor(head.bias))
    return linear


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_weights_are_the_pull_on_the_logits(classes: int) -> None:
    head, features, label = example(classes, bias=True)
    logits = torch.tensor(head.logits(features), requires_grad=True)
    torch.nn.functional.cross_entropy(logits, torch.tensor(label), reduction="sum").backward()
    pull = logits.grad.numpy()
    rows = np.arange(len(label))
    # torch takes p - 1, which keeps the rounding of p: a few units of 1e-16 whatever the difference is.
    np.testing.assert_allclose(
        example_weights(logits.detach().numpy(), label), -pull[rows, label], rtol=1e-12, atol=1e-15
    )


def test_two_classes_have_the_weight_of_the_theory() -> None:
    head, features, label = example(2, bias=False)
    logits = head.logits(features)
    margin = np.where(label == 1, 1, -1) * (logits[:, 1] - logits[:, 0])
    np.testing.assert_allclose(example_weights(logits, label), 1 / (1 + np.exp(margin)), rtol=1e-12)
    np.testing.assert_allclose(weight_logits(logits, label), -margin, rtol=1e-12)


def test_weights_of_well_fitted_examples_do_not_round_to_zero() -> None:
    logits = np.array([[0.0, 60.0, 0.0], [700.0, 0.0, 0.0], [-800.0, 0.0, -900.0]], dtype=np.float32)
    label = np.array([1, 1, 1])
    expected = [np.log(2) - 60, 700.0, -800.0]
    np.testing.assert_allclose(weight_logits(logits, label), expected, rtol=1e-9)
    np.testing.assert_allclose(example_weights(logits, label)[:2], [2 * np.exp(-60.0), 1.0], rtol=1e-9)


@pytest.mark.parametrize("weighted", [False, True], ids=["equal", "weighted"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("classes", [2, 5])
def test_the_last_layer_law_is_a_perturbed_forward_pass(classes: int, bias: bool, weighted: bool) -> None:
    head, features, label = example(classes, bias)
    pi = np.random.default_rng(1).dirichlet(np.ones(len(label))) if weighted else np.full(len(label), 1 / len(label))
    module = layer(head)
    loss = torch.nn.functional.cross_entropy(module(torch.tensor(features)), torch.tensor(label), reduction="none")
    slopes = torch.autograd.grad((torch.tensor(pi) * loss).sum(), list(module.parameters()))
    slope = last_layer_gradient(head, features, label, pi if weighted else None)
    np.testing.assert_allclose(slope.weight, slopes[0].numpy(), atol=1e-14)
    norm = torch.sqrt(sum((s**2).sum() for s in slopes))
    with torch.no_grad():
        for parameter, s in zip(module.parameters(), slopes, strict=True):
            parameter += RHO * s / norm
        perturbed = module(torch.tensor(features)).numpy()
    phantom = last_layer_phantom(head, features, label, RHO, sample_weights=pi if weighted else None)
    np.testing.assert_allclose(phantom.logits(features), perturbed, atol=1e-12)
    assert (phantom.bias is None) == (not bias)


def test_the_last_layer_law_is_the_second_point_of_lsam() -> None:
    from kernels import SAM

    head, features, label = example(4, bias=True)
    module, seen = layer(head), []
    optimizer = SAM(module, torch.optim.SGD, rho=RHO, perturb="last-layer", lr=0.1)

    def closure() -> torch.Tensor:
        logits = module(torch.tensor(features))
        seen.append(logits.detach().numpy())
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor(label))
        loss.backward()
        return loss

    optimizer.step(closure)
    phantom = last_layer_phantom(head, features, label, RHO)
    np.testing.assert_allclose(phantom.logits(features), seen[1], atol=1e-12)


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_two_classes_follow_the_single_output_law_at_sqrt_two_times_the_radius(bias: bool) -> None:
    head, features, label = example(2, bias)
    sign = np.where(label == 1, 1.0, -1.0)
    logits = head.logits(features)
    margins = sign * (logits[:, 1] - logits[:, 0])
    seen = np.c_[features, np.ones(len(features))] if bias else features
    law = last_layer_phantom_margins(
        margins, seen, sign, np.full(len(label), 1 / len(label)), example_weights(logits, label), np.sqrt(2) * RHO
    )
    moved = last_layer_phantom(head, features, label, RHO).logits(features)
    np.testing.assert_allclose(sign * (moved[:, 1] - moved[:, 0]), law, atol=1e-12)


def test_each_batch_has_a_phantom_point_of_its_own() -> None:
    head, features, label = example(3, bias=True)
    together = last_layer_phantom_logits(head, features, label, RHO, batch_size=15)
    for rows in (slice(0, 15), slice(15, 30), slice(30, 40)):
        alone = last_layer_phantom(head, features[rows], label[rows], RHO).logits(features[rows])
        np.testing.assert_array_equal(together[rows], alone)


def test_a_gradient_too_small_to_be_squared_still_has_a_direction() -> None:
    # At a margin of 600 the weight is 1e-261: the square of the gradient is zero in double precision.
    head = Head(np.array([[0.0, 0.0], [600.0, 0.0]]), None)
    phantom = last_layer_phantom(head, np.array([[1.0, 0.0]]), np.array([1]), RHO)
    np.testing.assert_allclose(np.linalg.norm(phantom.weight - head.weight), RHO, rtol=1e-9)


def test_no_gradient_moves_nothing() -> None:
    head, _, _ = example(3, bias=True)
    phantom = last_layer_phantom(Head(head.weight, None), np.zeros((4, 6)), np.arange(4) % 3, RHO)
    np.testing.assert_array_equal(phantom.weight, head.weight)


def test_group_differences_contract_by_the_suppression_along_the_features() -> None:
    """R3 and R4 on spurious toy data, where the theory says exactly what they are (C11 for the last layer)."""
    balanced = np.array([0.4, 0.3])  # v_k = w_k of the easy and the hard feature
    hidden = balanced * np.array([2.0, 1.0])
    label = np.repeat([1, 0, 1, 0], [45, 45, 5, 5])
    sign = np.where(label == 1, 1.0, -1.0)
    agrees = np.repeat([1.0, -1.0], [90, 10])
    features = np.c_[sign * agrees, sign] * hidden
    head = Head(np.stack([-balanced, balanced]) / 2, None)
    phantom = last_layer_phantom(head, features, label, RHO / 2)
    tied = association(label, label, 2, 2)

    def suppression(feature: int) -> float:
        directions = np.zeros((2, 2))
        directions[1, feature] = hidden[feature]
        return response(phantom.weight, directions, tied) / response(head.weight, directions, tied)

    group = (agrees < 0).astype(np.int64)
    difference = []
    for point in (head, phantom):
        means = group_means(weight_logits(point.logits(features), label), group, 2)
        difference.append(means[1] - means[0])
    assert difference[1] / difference[0] == pytest.approx(suppression(0), rel=1e-12)
    # Balanced, so the stronger drive is suppressed more (C12), and the weights become more uniform (C11).
    assert 0 < suppression(0) < suppression(1) < 1
    assert gini(example_weights(phantom.logits(features), label)) < gini(example_weights(head.logits(features), label))


def test_association_says_which_value_speaks_for_which_class() -> None:
    label, attribute = np.array([0, 0, 0, 1, 1, 1]), np.array([1, 1, 0, 0, 0, 0])
    np.testing.assert_allclose(association(label, attribute, 2, 2), [[-1 / 3, 1 / 3], [1 / 3, -1 / 3]])
    assert (association(label, attribute, 3, 2)[2] == 0).all()
    # What all values, or all classes, have in common is read by no class more than by another.
    shift, one_pair = np.array([1.0, 2, 3]), np.diag([1.0, 0, 0])
    unshifted = response(np.eye(3), np.eye(3), one_pair)
    assert response(np.eye(3) + shift, np.eye(3) - 2 * shift, one_pair) == pytest.approx(unshifted)
    # An attribute whose values are named the other way round has the same response.
    head, features, _ = example(2, bias=False)
    directions = features[:2]
    one = response(head.weight, directions, association(label, attribute, 2, 2))
    other = response(head.weight, directions[::-1], association(label, 1 - attribute, 2, 2))
    assert one == pytest.approx(other)


def test_bad_input_is_one_error_that_says_what_is_allowed() -> None:
    head, features, label = example(3, bias=True)
    with pytest.raises(ValueError, match=r"label contains 0\.\.7; allowed: 0\.\.2"):
        weight_logits(head.logits(features), np.where(label == 2, 7, 0))
    with pytest.raises(ValueError, match="rho=-1; allowed: a finite number >= 0"):
        last_layer_phantom(head, features, label, -1)
