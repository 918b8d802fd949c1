"""docs/theory.md tells every claim, and names only functions that exist."""

import re
from pathlib import Path

import pytest

import toymodels.theory as theory
from proofs_check.registry import all_claims
from toymodels.theory.claims import IN_SHORT

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "theory.md").read_text()


@pytest.mark.parametrize("name", all_claims())
def test_every_claim_has_its_paragraph(name):
    assert re.search(rf"^\*\*{name} ", TEXT, re.MULTILINE)


def test_every_function_of_the_theory_is_named_and_nothing_else():
    paragraphs = re.findall(r"\*\*Functions?\*\*\s+((?:`\w+`(?:,\s+)?)+)", TEXT)
    named = set(re.findall(r"`(\w+)`", " ".join(paragraphs))) | {"margin"}
    assert named == set(theory.__all__)


def test_claims_in_short_are_claims_that_are_proved():
    assert set(IN_SHORT) <= set(all_claims())
    assert {f"C{number}" for number in range(38, 44)} <= set(IN_SHORT)


def test_every_picture_exists():
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", TEXT)
    assert pictures
    assert all((DOCS / picture).is_file() for picture in pictures)
