"""docs/operations: every alert has a page, and every command that a page names exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.core.management import get_commands

from monitoring import conditions
from monitoring.shipped_rules import SHIPPED

PAGES = Path(__file__).parents[2] / "docs" / "operations"
PARTS = ("What it means.", "How to see it.", "What to do.", "How to know it is over.")


@pytest.mark.parametrize("kind", [*conditions.KINDS, *SHIPPED])
def test_every_alert_has_a_page_with_all_parts(kind: str) -> None:
    text = (PAGES / f"{kind}.md").read_text()

    assert [part for part in PARTS if f"**{part}**" not in text] == []


@pytest.mark.parametrize("page", sorted(PAGES.glob("*.md")), ids=lambda page: str(page.stem))
def test_every_command_that_a_page_names_exists(page: Path) -> None:
    named = set(re.findall(r"manage\.py\s+([a-z_]+)", page.read_text()))

    assert named - get_commands().keys() == set()


def test_every_metric_that_a_page_names_exists() -> None:
    from monitoring.catalogue import METRICS

    named = {name for page in PAGES.glob("*.md") for name in re.findall(r"`(a2a_[a-z_]+)`", page.read_text())}
    assert named - METRICS.keys() == set()
