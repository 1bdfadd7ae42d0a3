"""The two examples with their agents, by real workers: what is written is true, and what was done is taken back."""

from pathlib import Path
from typing import Any

import pytest

from coordination.examples.writers import CITED
from tests.journeys.test_spine import Spine, spine
from tests.private_redis import wait_until

pytestmark = pytest.mark.journey

__all__ = ["spine"]
TEXTS = {
    "leases.md": "# Leases\n\nA lease is a promise that ends by itself.\n\nA lease works by being renewed\nagain.\n",
    "fences.txt": "A fence keeps a late holder of a lease out.\n\nThe limits of leases are clocks that stand still.\n",
}
ROOT = Path(__file__).resolve().parents[2] / "coordination" / "examples"


@pytest.fixture(scope="module")
def ready(spine: Spine) -> Spine:
    """Return a site with the examples' agents and workflows."""
    code, output, errors = spine.site.manage("workflows", "examples")
    assert code == 0, output + errors
    assert "/workflows/research-and-write" in output
    return spine


def start(site: Spine, workflow: str, value: Any) -> str:
    answer = site.http.post("/runs", json={"workflow": workflow, "input": value})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def ended(site: Spine, run: str) -> dict[str, Any]:
    wait_until(lambda: site.http.get(f"/runs/{run}").json()["ended_at"], "the run to end", patience_s=60)
    found: dict[str, Any] = site.http.get(f"/runs/{run}").json()
    return found


def output(run: dict[str, Any], step: str) -> Any:
    return next(each["output"] for each in run["steps"] if each["step"] == step)


def answer(site: Spine, run: str, verdict: str) -> dict[str, Any]:
    """Answer the editor's question of the run, and return how the run ended."""

    def asked() -> list[Any]:
        return [each for each in site.http.get("/approvals").json()["approvals"] if each["run"] == run]

    wait_until(lambda: asked(), "the question", patience_s=60)
    told = site.http.post(f"/approvals/{asked()[0]['id']}:answer", json={"answer": {"verdict": verdict}})
    assert told.status_code == 202, told.text
    return ended(site, run)


class TestResearchAndWrite:
    def test_publishes_what_the_sources_say_and_a_fork_leaves_it_alone(self, ready: Spine, tmp_path: Path) -> None:
        for name, text in TEXTS.items():
            (tmp_path / name).write_text(text)
        run = start(ready, "research-and-write", {"topic": "leases", "sources": str(tmp_path)})

        done = answer(ready, run, "publish")
        assert output(done, "publish"), done["steps"]
        text = Path(output(done, "publish")["address"]).read_text()
        cited = [(paragraph, *place) for paragraph in text.split("\n\n") for place in CITED.findall(paragraph)]
        edited = {"topic": "another angle", "answers": output(done, "research")}
        wish = {"step": "outline", "fork": True, "input": edited, "reason": "another angle"}
        fork = ready.http.post(f"/runs/{run}:rerun", json=wish).json()
        other = answer(ready, fork["id"], "drop")

        assert output(done, "facts") == {"doubts": []}
        assert len(cited) == 4
        for paragraph, path, line in cited:
            said = (tmp_path / path).read_text().splitlines()[int(line) - 1]
            assert said in paragraph.replace(f" [{path}:{line}]", "")
        assert (other["forked_from"], other["reason"]) == (run, "another angle")
        assert Path(output(other, "archive")["address"]).read_text().startswith("# another angle")
        assert ready.http.get(f"/runs/{run}").json() == done


class TestIncidentResponse:
    def test_takes_back_what_did_not_help(self, ready: Spine) -> None:
        source = (ROOT / "incident-response.yaml").read_text().replace("wait: 5m", "wait: 1s")
        assert ready.http.post("/workflows", json={"source": source}).status_code == 201
        for _ in range(3):
            ready.until(ready.submit("broken", max_attempts=1), "failed")
        before = agent(ready)

        run = start(ready, "incident-response", {"service": "journey-broken", "alert": "all answers are errors"})
        wait_until(lambda: agent(ready)["draining"], "it to be isolated", patience_s=60)
        ready.http.post(f"/runs/{run}/signals", json={"name": "acknowledged"})
        done = ended(ready, run)

        assert done["state"] == "completed", done["error"]
        assert output(done, "triage")["severity"] == "high"
        assert output(done, "verify")["healthy"] is False
        record = ready.http.get(f"/contexts/{run}/state/incident").json()["value"]
        said = [line["what"] for line in record]
        assert sorted(said[:2]) == ["isolated", "paged"]
        assert said[2:] == ["mended", "verified", "restored", "reconnected", "paged"]
        after = agent(ready)
        assert (after["capacity"], after["draining"]) == (before["capacity"], False)


def agent(site: Spine) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {site.desk.key('agents:read')}"}
    found: dict[str, Any] = site.http.get("/agents/journey-broken", headers=headers).json()
    return found
