"""SAM under ``DistributedDataParallel``: two processes on one machine, with the gloo backend.

The processes are started once and run every check; each check's result comes back by its name.
"""

from __future__ import annotations

import os
import socket
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed
import torch.multiprocessing
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from kernels import SAM
from support import sam_oracle as oracle

PROCESSES = 2
STEPS = 3
RHO, LR, MOMENTUM = 0.2, 0.3, 0.9
CASES: dict[str, dict[str, Any]] = {
    "global": {},
    "global_linf": {"norm": "linf", "rho": 0.02},
    "global_last_layer": {"perturb": "last-layer"},
    "global_weights": {"effect": "weights"},
    "global_jacobian": {"effect": "jacobian"},
    "global_each_micro_batch": {"micro_batch_perturbation": "local"},
    "global_reuse": {"ascent_every": 2},
    "local": {"process_perturbation": "local"},
    "local_jacobian": {"process_perturbation": "local", "effect": "jacobian"},
    "local_each_micro_batch": {"process_perturbation": "local", "micro_batch_perturbation": "local"},
}
"""Options of SAM; the first letters of a name say how processes perturb."""
SHARDED: dict[str, dict[str, Any]] = {
    "l2": {},
    "linf": {"norm": "linf", "rho": 0.02},
    "adaptive": {"norm": "adaptive"},
    "none": {"norm": None},
    "last_layer": {"perturb": "last-layer"},
    "jacobian": {"effect": "jacobian"},
    "each_micro_batch": {"micro_batch_perturbation": "local"},
}

pytestmark = pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()), reason="torch has no gloo"
)


def data(process: int, micro_batch: int) -> tuple[Tensor, Tensor]:
    return oracle.labelled(samples=4, features=3, classes=3, seed=10 + 2 * process + micro_batch)


def train(model: nn.Module, batches: list[tuple[Tensor, Tensor]], **options: Any) -> SAM:
    optimizer = SAM(model, **{"rho": RHO, "lr": LR, "momentum": MOMENTUM, **options})
    for _ in range(STEPS):
        optimizer.step(
            forward=lambda batch: model(batch[0]), loss=lambda z, batch: cross_entropy(z, batch[1]), batches=batches
        )
    return optimizer


def in_a_process(rank: int, port: int, folder: str) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    # Without the timeout, processes that disagree would wait for each other for half an hour.
    patience = timedelta(seconds=60)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=PROCESSES, timeout=patience)
    results: dict[str, Any] = {}
    batches = [data(rank, micro_batch) for micro_batch in range(2)]
    for as_view in (False, True):
        for name, options in CASES.items():
            ddp = DistributedDataParallel(oracle.network(3, 5, 3), gradient_as_bucket_view=as_view)
            train(ddp, batches, **options)
            results[f"{name} {as_view}"] = oracle.point_of(ddp.module)
    results["skipped"] = one_process_overflows(rank)
    results["batch norm"] = with_batch_norm(rank)
    results["no ddp"] = local_without_ddp()
    for name, options in SHARDED.items():
        model = sharded()
        train(model, batches, **options)
        results[f"sharded {name}"] = {n: p.full_tensor().detach() for n, p in model.named_parameters()}
    results["sharded skipped"] = one_shard_overflows(rank)
    results["sharded refused"] = what_sharding_refuses()
    results["sharded gradients"] = gradients_before_a_sharded_step()
    torch.save(results, Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def one_process_overflows(rank: int) -> dict[str, Any]:
    """The gradient at the real weights is not finite in process 1, whose perturbation is local: both must skip."""
    ddp = DistributedDataParallel(oracle.network(3, 5, 3))
    before = oracle.point_of(ddp.module)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    optimizer = SAM(ddp, rho=RHO, process_perturbation="local", scaler=scaler, lr=LR)
    inputs, labels = data(rank, 0)
    passes = []

    def closure() -> Tensor:
        loss = cross_entropy(ddp(inputs), labels)
        scaler.scale(loss).backward()
        passes.append(loss)
        if rank == 1 and len(passes) == 1:
            next(ddp.parameters()).grad.fill_(torch.inf)  # type: ignore[union-attr]
        return loss

    optimizer.step(closure)
    unchanged = all(torch.equal(p, before[n]) for n, p in ddp.module.named_parameters())
    optimizer.step(closure)
    return {
        "skipped": optimizer.skipped_steps, "scale": scaler.get_scale(), "unchanged": unchanged,
        "after": oracle.point_of(ddp.module),
    }  # fmt: skip


def with_batch_norm(rank: int) -> bool:
    """Whether the running statistics are those of one pass at the real weights in this process."""
    torch.manual_seed(0)
    make = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)).double()
    once = DistributedDataParallel(make)
    inputs, labels = data(rank, 0)
    once(inputs)
    expected = {n: b.clone() for n, b in make.named_buffers()}
    make[1].reset_running_stats()
    SAM(once, rho=1.0, lr=0.1).step(forward=lambda: once(inputs), loss=lambda z: cross_entropy(z, labels))
    return all(torch.equal(b, expected[n]) for n, b in make.named_buffers())


def sharded() -> nn.Sequential:
    """The network in shards; three rows on two processes, so that parts differ in size and one bias is in one entry."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (PROCESSES,))
    model = oracle.network(3, 5, 3)
    for layer in (model[0], model[2]):
        fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)  # type: ignore[return-value]


def one_shard_overflows(rank: int) -> bool:
    """Whether both processes leave the weights alone when one has an infinite entry in its part of the gradient."""
    model = sharded()
    before = {n: p.full_tensor().detach().clone() for n, p in model.named_parameters()}
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    optimizer = SAM(model, rho=RHO, scaler=scaler, lr=LR)
    inputs, labels = data(rank, 0)

    def closure() -> Tensor:
        loss = cross_entropy(model(inputs), labels)
        scaler.scale(loss).backward()
        if rank == 1:
            next(model.parameters()).grad.to_local().fill_(torch.inf)  # type: ignore[union-attr]
        return loss

    optimizer.step(closure)
    unchanged = all(torch.equal(p.full_tensor(), before[n]) for n, p in model.named_parameters())
    return unchanged and optimizer.skipped_steps == 1 and scaler.get_scale() == 4.0


def what_sharding_refuses() -> list[str]:
    from torch.distributed.fsdp import FullyShardedDataParallel

    flat = FullyShardedDataParallel(oracle.network(3, 5, 3), device_id=torch.device("cpu"), use_orig_params=True)
    whole = nn.Parameter(torch.zeros(2))
    found = []
    for arguments in (
        {"params": flat},
        {"params": [*sharded().parameters(), whole]},
        {"params": sharded(), "effect": "weights"},
        {"params": sharded(), "process_perturbation": "local"},
    ):
        try:
            SAM(**arguments)  # type: ignore[arg-type]
            found.append("")
        except ValueError as error:
            found.append(str(error))
    return found


def gradients_before_a_sharded_step() -> str:
    model = sharded()
    optimizer = SAM(model, rho=RHO, lr=LR)
    inputs, labels = data(0, 0)

    def closure() -> Tensor:
        loss = cross_entropy(model(inputs), labels)
        loss.backward()
        return loss

    for _ in range(2):
        optimizer.step(closure)
    closure()
    try:
        optimizer.step(closure)
    except ValueError as error:
        return str(error)
    return ""


def local_without_ddp() -> str:
    try:
        SAM(oracle.network(3, 5, 3), process_perturbation="local")
    except ValueError as error:
        return str(error)
    return ""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each process found."""
    folder = tmp_path_factory.mktemp("processes")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(in_a_process, args=(port, str(folder)), nprocs=PROCESSES)
    return [torch.load(folder / f"{rank}.pt") for rank in range(PROCESSES)]


def assert_close(point: oracle.Point, expected: oracle.Point) -> None:
    for name in point:
        torch.testing.assert_close(point[name], expected[name], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("as_view", [False, True], ids=["", "bucket_views"])
@pytest.mark.parametrize("name", CASES)
def test_all_processes_have_the_same_weights(results: list[dict[str, Any]], name: str, as_view: bool) -> None:
    first, second = (r[f"{name} {as_view}"] for r in results)
    assert all(torch.equal(first[n], second[n]) for n in first)


@pytest.mark.parametrize("as_view", [False, True], ids=["", "bucket_views"])
@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("global")])
def test_a_global_perturbation_is_that_of_one_process_on_the_joined_batch(
    results: list[dict[str, Any]], name: str, as_view: bool
) -> None:
    model = oracle.network(3, 5, 3)
    joined = [tuple(torch.cat(parts) for parts in zip(data(0, m), data(1, m), strict=True)) for m in range(2)]
    train(model, joined, **CASES[name])  # type: ignore[arg-type]
    assert_close(results[0][f"{name} {as_view}"], oracle.point_of(model))


@pytest.mark.parametrize("as_view", [False, True], ids=["", "bucket_views"])
@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("local")])
def test_a_local_perturbation_averages_gradients_of_different_phantom_points(
    results: list[dict[str, Any]], name: str, as_view: bool
) -> None:
    model = oracle.network(3, 5, 3)
    point, velocity = oracle.point_of(model), None
    each = "each_micro_batch" in name
    parts = [data(p, m) for p in range(2) for m in range(2)]
    if not each:  # the two micro-batches of a process share its phantom point
        parts = [tuple(map(torch.cat, zip(*parts[i : i + 2], strict=True))) for i in (0, 2)]  # type: ignore[misc]
    for _ in range(STEPS):
        gradients = [
            oracle.sharp_gradient(
                model, point, x, lambda z, y=y: cross_entropy(z, y),  # type: ignore[misc]
                rho=RHO, moved=list(point), effect=CASES[name].get("effect", "full"),
            )
            for x, y in parts
        ]  # fmt: skip
        mean = {n: torch.stack([g[n] for g in gradients]).mean(0) for n in point}
        point, velocity = oracle.descend(point, mean, velocity, LR, MOMENTUM, 0.0)
    assert_close(results[0][f"{name} {as_view}"], point)


@pytest.mark.parametrize("name", SHARDED)
def test_shards_train_as_one_process_on_the_joined_batch(results: list[dict[str, Any]], name: str) -> None:
    model = oracle.network(3, 5, 3)
    joined = [tuple(torch.cat(parts) for parts in zip(data(0, m), data(1, m), strict=True)) for m in range(2)]
    train(model, joined, **SHARDED[name])  # type: ignore[arg-type]
    for of_process in results:
        assert_close(of_process[f"sharded {name}"], oracle.point_of(model))


def test_all_shards_skip_a_step_that_one_cannot_take(results: list[dict[str, Any]]) -> None:
    assert [r["sharded skipped"] for r in results] == [True, True]


def test_gradients_added_to_shards_before_a_step_are_refused(results: list[dict[str, Any]]) -> None:
    assert all("already have a gradient" in r["sharded gradients"] for r in results)


def test_sharding_that_would_give_a_wrong_norm_is_refused(results: list[dict[str, Any]]) -> None:
    for flat, mixed, weights, local in (r["sharded refused"] for r in results):
        assert "fully_shard(model)" in flat
        assert "some are not" in mixed
        assert "effect='weights'" in weights
        assert "process_perturbation='local'" in local


def test_local_and_global_perturbations_differ(results: list[dict[str, Any]]) -> None:
    local, shared = results[0]["local False"], results[0]["global False"]
    assert max(float((local[n] - shared[n]).abs().max()) for n in local) > 1e-4


def test_all_processes_skip_a_step_that_one_cannot_take(results: list[dict[str, Any]]) -> None:
    found = [r["skipped"] for r in results]
    for of_process in found:
        assert of_process["skipped"] == 1
        assert of_process["scale"] == 4.0
        assert of_process["unchanged"]
    assert all(torch.equal(found[0]["after"][n], found[1]["after"][n]) for n in found[0]["after"])


def test_running_statistics_are_those_of_one_pass(results: list[dict[str, Any]]) -> None:
    assert [r["batch norm"] for r in results] == [True, True]


def test_a_local_perturbation_needs_ddp(results: list[dict[str, Any]]) -> None:
    assert "needs the DistributedDataParallel module" in results[0]["no ddp"]
