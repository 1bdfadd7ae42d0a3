"""`manage.py doctor`: what is wrong, in words."""

import sys
from typing import Any

from django.core.management.base import BaseCommand

from a2a_site import doctor


class Command(BaseCommand):
    """Prints a line for everything that was looked at, and what to do where something is wrong."""

    help = "Say in words what is wrong with this installation. Exit code 1: something is."
    requires_system_checks = []

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the findings."""
        findings = doctor.examine()
        for finding in findings:
            self.stdout.write(f"{'✓' if finding.is_fine else '✗'} {finding.about}: {finding.message}")
            if finding.advice:
                self.stdout.write(f"    → {finding.advice}")
        wrong = sum(not finding.is_fine for finding in findings)
        self.stdout.write("Everything is fine." if not wrong else f"{wrong} of {len(findings)} need attention.")
        if wrong:
            sys.exit(1)
