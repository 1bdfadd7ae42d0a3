import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

TRACE = "time,size\n0,1\n5,1\n"
FLEET = "agents:\n- {name: slow, speed: 0.5, capacity: 4}\n- {name: quick, capacity: 4}\n"


class TestSimulateCommand:
    @pytest.fixture(autouse=True)
    def _files(self, tmp_path: Path) -> None:
        self.trace, self.fleet = tmp_path / "trace.csv", tmp_path / "fleet.yaml"
        self.trace.write_text(TRACE)
        self.fleet.write_text(FLEET)

    def said(self, **options: Any) -> str:
        """Return what the command prints."""
        out = StringIO()
        call_command("simulate", str(self.trace), str(self.fleet), stdout=out, **options)
        return out.getvalue()

    def test_prints_the_report(self) -> None:
        said = self.said()

        assert "2 of 2 tasks completed, 0 failed" in said

    def test_prints_json(self) -> None:
        lines = [json.loads(line) for line in self.said(json=True, against="least_loaded").splitlines()]

        assert [line["strategy"] for line in lines] == ["balanced", "least_loaded"]
        assert {"total_mean_s", "wait_p99_s", "goodput_per_s", "cost_usd", "shares"} <= lines[0].keys()

    def test_tells_two_strategies_apart(self) -> None:
        self.trace.write_text("time,size\n" + "".join(f"{n * 3},1\n" for n in range(60)))

        assert "balanced → least_loaded\n  " in self.said(against="least_loaded")

    def test_says_when_they_do_not_differ(self) -> None:
        assert "no difference" in self.said(against="balanced")

    def test_refuses_an_unknown_strategy(self) -> None:
        with pytest.raises(CommandError, match=r"No strategy is called 'best'\. Known: adaptive, balanced"):
            self.said(strategy="best")

    @pytest.mark.parametrize(
        ("file", "content", "why"),
        [
            ("trace", "time,size\n0,x\n", "trace.csv: line 2: size is a number, not 'x'"),
            ("trace", b"time,size\n\xff\n", "trace.csv: 'utf-8' codec"),
            ("fleet", "agents: [{name: a, capacity: 0}]", r"fleet.yaml: agents\[0\].capacity: "),
            ("fleet", "agents: [", "fleet.yaml: (.|\n)*line 1"),
            ("fleet", None, "fleet.yaml: .*No such file"),
            ("trace", None, "trace.csv: .*No such file"),
        ],
    )
    def test_refuses_a_bad_file_with_the_place(self, file: str, content: str | bytes | None, why: str) -> None:
        path: Path = getattr(self, file)
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())

        with pytest.raises(CommandError, match=why):
            self.said()
