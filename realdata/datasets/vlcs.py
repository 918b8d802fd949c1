"""VLCS: five kinds of things in photographs of four older collections."""

from __future__ import annotations

from dataclasses import dataclass

from realdata.datasets.base import Card
from realdata.datasets.domains import DomainOptions, Folders, domain_spec

FOLDERS = Folders(
    name="vlcs",
    title="VLCS",
    folder="VLCS",
    others=("vlcs",),
    environments=("Caltech101", "LabelMe", "SUN09", "VOC2007"),
    classes=("bird", "car", "chair", "dog", "person"),
    class_count=5,
    images=(10_729,),
)


@dataclass(frozen=True)
class Options(DomainOptions):
    """Target environment, split and transform."""

    ENVIRONMENTS = FOLDERS.environments


SPEC = domain_spec(
    FOLDERS,
    Options,
    Card(
        meaning="label and hard attribute: what is shown; environment: the collection; groups: environment times label",
        citation="Fang, Xu, Rockmore: Unbiased Metric Learning, ICCV 2013",
        licence="none stated; that of the four collections, research use",
    ),
    "DomainBed's download script, under the terms of the four collections",
)
