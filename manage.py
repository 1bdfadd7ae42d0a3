#!/usr/bin/env python3
"""Starts everything. On first use it makes its own virtual environment; see a2a_site/bootstrap.py."""

import os
import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    root = Path(__file__).resolve().parent
    # By path, not by import: importing the package would already need Celery.
    runpy.run_path(str(root / "a2a_site" / "bootstrap.py"))["ensure"](root)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "a2a_site.settings")
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)
