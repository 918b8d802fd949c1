"""PACS: seven kinds of things as photographs, art paintings, cartoons and sketches."""

from __future__ import annotations

from dataclasses import dataclass

from realdata.datasets.base import Card
from realdata.datasets.domains import DomainOptions, Folders, domain_spec

FOLDERS = Folders(
    name="pacs",
    title="PACS",
    folder="PACS",
    others=("pacs", "PACS/kfold", "kfold"),
    environments=("art_painting", "cartoon", "photo", "sketch"),
    classes=("dog", "elephant", "giraffe", "guitar", "horse", "house", "person"),
    class_count=7,
    images=(9991,),
    published_size=(227, 227),
)


@dataclass(frozen=True)
class Options(DomainOptions):
    """Target environment, split and transform."""

    ENVIRONMENTS = FOLDERS.environments


SPEC = domain_spec(
    FOLDERS,
    Options,
    Card(
        meaning="label and hard attribute: what is shown; environment: how; groups: environment times label",
        citation="Li, Yang, Song, Hospedales: Deeper, Broader and Artier Domain Generalization, ICCV 2017",
        licence="none stated; research use",
    ),
    "the authors' page or DomainBed's download script, both under the authors' terms",
)
