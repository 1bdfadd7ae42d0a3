"""What is kept of reviews, and what is told of them."""

import os
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.utils import timezone

from coordination.review import run
from coordination.review.intake import snapshots
from routing.models import Task, TaskState, new_id

pytestmark = pytest.mark.django_db


@pytest.fixture
def reviews(tmp_path: Path, settings: Any) -> Path:
    """Return the directory of snapshots, in a state directory of the test's own."""
    settings.A2A_HOME = tmp_path
    return snapshots()


def snapshot(context: UUID, *states: TaskState) -> Path:
    """Return the snapshot of a review whose tasks are in these states."""
    for state in states:
        ended = None if state == TaskState.WORKING else timezone.now()
        Task.objects.create(
            tenant_id="default", skill="code.lint", context=context, state=state, finished_at=ended,
            timeout_s=1, max_attempts=1,
        )  # fmt: skip
    folder = run.directory(context)
    folder.mkdir(parents=True)
    (folder / "a.py").write_text("")
    return folder


class TestSweep:
    def test_deletes_what_a_killed_command_has_left(self, reviews: Path) -> None:
        folder = snapshot(new_id(), TaskState.COMPLETED, TaskState.CANCELED)

        run.sweep()

        assert not folder.exists()

    def test_keeps_what_is_being_read(self, reviews: Path) -> None:
        folder = snapshot(new_id(), TaskState.COMPLETED, TaskState.WORKING)

        run.sweep()

        assert folder.exists()

    @pytest.mark.parametrize(("age_s", "is_kept"), [(60, True), (run.UNSTARTED_S + 60, False)])
    def test_keeps_what_is_being_written(self, age_s: float, is_kept: bool, reviews: Path) -> None:
        folder = snapshot(new_id())
        then = timezone.now().timestamp() - age_s
        os.utime(folder, (then, then))

        run.sweep()

        assert folder.exists() == is_kept

    def test_minds_that_there_was_never_a_review(self, reviews: Path) -> None:
        run.sweep()

        assert not reviews.exists()
