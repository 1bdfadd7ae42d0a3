"""`manage.py bench` runs and prints figures that a program can read. How fast it is, no test asks."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
TINY = ("--tasks", "8", "--rounds", "1", "--seconds", "0.2", "--waiting", "10")


def figures(bench: str) -> list[dict[str, Any]]:
    """Return the lines of one bench at its smallest."""
    command = [sys.executable, str(ROOT / "manage.py"), "bench", bench, "--json", *TINY]
    done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


class TestBench:
    @pytest.mark.parametrize("bench", ["durable", "latency", "chain", "workflows", "routing", "decisions"])
    def test_prints_a_json_line_a_figure_and_the_ratio_last(self, bench: str) -> None:
        lines = figures(bench)

        assert all({"bench", "name", "value", "unit", "load"} <= line.keys() for line in lines)
        assert {line["bench"] for line in lines} == {bench}
        assert [line for line in lines if "ratio" in line] == [lines[-1]]
        assert lines[-1]["ratio"] > 0

    def test_refuses_an_unknown_bench(self) -> None:
        command = [sys.executable, str(ROOT / "manage.py"), "bench", "speed"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

        assert done.returncode == 2
        assert "invalid choice: 'speed'" in done.stderr
