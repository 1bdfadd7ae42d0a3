"""What the demonstration fleet's agents make of their inputs."""

from __future__ import annotations

from coordination import agents


class TestResults:
    def test_come_out_of_lists_and_of_what_maps_give(self) -> None:
        lint, deps = {"skill": "code.lint", "findings": []}, {"skill": "deps.audit", "findings": []}
        failed = {"error": {"message": "gone"}}

        found = list(agents._results([{"app": lint, "lib": None}, [deps], failed, {}]))

        assert found == [lint, deps, failed, {}]
