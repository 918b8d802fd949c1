"""All claims, in the order of their numbers, and claims of one's own from a file."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from proofs_check.claim import Claim
from proofs_check.claims import (
    collapse,
    depth,
    effects,
    equivalences,
    filter_gains,
    filter_law,
    flows,
    forecast,
    last_layer,
    networks,
    noise,
    normalisation,
    patches,
    phantom_point,
    phase_plane,
    spurious,
    step_size,
    turning_point,
    variants,
)

GROUPS = (
    phantom_point,
    flows,
    forecast,
    turning_point,
    phase_plane,
    effects,
    spurious,
    variants,
    equivalences,
    networks,
    noise,
    normalisation,
    patches,
    step_size,
    last_layer,
    filter_law,
    filter_gains,
    depth,
    collapse,
)


def all_claims() -> dict[str, Claim]:
    """Every claim by its id, in order."""
    claims = [claim for group in GROUPS for claim in group.CLAIMS]
    return {claim.id: claim for claim in sorted(claims, key=lambda c: int(c.id[1:]))}


def own_claims(path: str | os.PathLike[str]) -> dict[str, Claim]:
    """The claims of a Python file by id, in the order of its list ``CLAIMS``.

    Raises:
        ValueError: the file is missing, fails when it is run, or has no such list; says which and where.
    """
    name = f"own_claims_{Path(path).stem}"
    if not Path(path).is_file() or Path(path).suffix != ".py":
        raise ValueError(
            f"--module={path}; allowed: a Python file (.py) with a list CLAIMS of proofs_check.claim.Claim"
        )
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses of the file look their module up
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise ValueError(f"--module={path} fails when it is run ({type(error).__name__}: {error})") from error
    claims = getattr(module, "CLAIMS", None)
    if not isinstance(claims, list | tuple) or not claims or not all(isinstance(claim, Claim) for claim in claims):
        raise ValueError(f"--module={path} has CLAIMS={claims!r}; allowed: a list of proofs_check.claim.Claim")
    found: dict[str, Claim] = {}
    taken = all_claims()
    for claim in claims:
        if claim.id in found or claim.id in taken:
            raise ValueError(
                f"--module={path} has a claim {claim.id!r}, which there is already; allowed: an id of its own"
            )
        found[claim.id] = claim
    return found


def select(ids: Sequence[str], module: str | os.PathLike[str] | None = None) -> list[Claim]:
    """The claims with the given ids (any case), in their order; all of them if none is given.

    Args:
        ids: ids of claims.
        module: a Python file whose claims are chosen from, instead of those of the theory.

    Raises:
        ValueError: names the unknown id and the known ones, or says what is wrong with the file.
    """
    claims = all_claims() if module is None else own_claims(module)
    wanted = {name.upper() for name in ids}
    unknown = sorted(wanted - {name.upper() for name in claims})
    if unknown:
        raise ValueError(f"unknown claim {', '.join(unknown)}; known: {', '.join(claims)}")
    return [claim for name, claim in claims.items() if not wanted or name.upper() in wanted]
