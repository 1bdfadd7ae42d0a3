"""Agents, skills and rules as one file."""

from __future__ import annotations

from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from routing import manifest, registry, rulebook
from routing.models import Agent, Budget, Containment, Limit, Policy, Skill, Tenant

pytestmark = pytest.mark.django_db

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "agents.yaml"
FILE = """\
skills:
  - name: echo
    timeout_s: 60
agents:
  - name: one
    skills: [echo, {name: lint, description: Finds flaws., version: "2"}]
    capacity: 3
    labels: {gpu: yes}
    cost_usd: 0.25
policies:
  - name: fast
    skill: echo
    strategy: fastest
"""


@pytest.fixture(autouse=True)
def nothing_remembered() -> Iterator[None]:
    registry.forget()
    yield
    registry.forget()


def apply(text: str, *, dry_run: bool = False) -> list[str]:
    """Return what changed, as "agent one" and "+agent one" for a new one."""
    changes = manifest.apply(text, by="ann", dry_run=dry_run)
    return [f"{'+' if change.is_new else ''}{change.noun} {change.name}" for change in changes]


def flaws(text: str) -> list[tuple[int, str]]:
    with pytest.raises(manifest.BadManifest) as caught:
        apply(text)
    return [(flaw.line, flaw.words) for flaw in caught.value.flaws]


class TestApply:
    def test_makes_what_the_file_says(self) -> None:
        assert apply(FILE) == ["+skill echo", "+agent one", "+policy fast"]

        (agent,) = registry.agent_specs()
        assert agent.skills == {("echo", "1"), ("lint", "2")}
        assert (agent.capacity, agent.labels, agent.cost_usd) == (3, (("gpu", "yes"),), 0.25)
        assert [spec.strategy for spec in rulebook.rules().policies] == ["fastest"]

    def test_a_second_time_changes_nothing(self) -> None:
        apply(FILE)
        before = registry.revision()

        assert apply(FILE) == []
        assert registry.revision() == before

    def test_gives_what_is_left_out_its_usual_value(self) -> None:
        apply(FILE)

        assert apply(FILE.replace("    capacity: 3\n", "").replace("    strategy: fastest\n", "")) == [
            "agent one",
            "policy fast",
        ]
        assert Agent.objects.get().capacity == 4
        assert Policy.objects.get().strategy == "balanced"

    def test_leaves_an_agent_disabled_and_draining_where_the_file_is_silent(self) -> None:
        apply(FILE)
        registry.set_state(Agent.objects.get(), enabled=False, draining=True)

        apply(FILE.replace("capacity: 3", "capacity: 5"))
        apply(FILE + "  - name: slow\n    enabled: false\n")

        agent = Agent.objects.get()
        assert (agent.capacity, agent.enabled, agent.draining) == (3, False, True)

    def test_leaves_what_it_does_not_name(self) -> None:
        apply(FILE)

        assert apply("tenants: [{name: lab, weight: 2}]") == ["+tenant lab"]
        assert Agent.objects.count() == 1
        assert Tenant.objects.get(name="lab").weight == 2

    def test_only_says_what_would_change_in_a_dry_run(self) -> None:
        before = registry.revision()

        assert apply(FILE, dry_run=True) == ["+skill echo", "+agent one", "+policy fast"]
        assert not Agent.objects.exists()
        assert registry.revision() == before

    def test_throws_a_switch_in_the_name_of_who_applies_it(self) -> None:
        apply(FILE + "containments:\n  - {name: stop, scope: agent, value: one, reason: It leaks.}\n")

        row = Containment.objects.get()
        assert (row.by, row.mode, row.enabled) == ("ann", "observe", True)

    def test_of_an_empty_file_changes_nothing(self) -> None:
        assert apply("") == []


class TestFlaws:
    @pytest.mark.parametrize(
        ("text", "line", "words"),
        [
            ("agents: [1", 1, "expected"),
            ("- a", 1, "the file: "),
            ("agent: []", 1, "agent: there is no such field."),
            ("agents:\n- name: one\n  capacty: 3", 3, "capacty: there is no such field."),
            ("agents:\n- name: one\n\n  capacity: 0", 4, "capacity: Use a whole number from 1"),
            ("agents:\n- name: one\n  capacity: four", 3, "capacity: Input should be a valid integer."),
            ("agents:\n- name: one\n  labels: {gpu: true}", 3, "gpu: Input should be a valid string."),
            ("agents:\n- name: one\n  executor: magic", 3, "executor: No executor is called 'magic'"),
            ("agents:\n- name: one\n  skills:\n  - nobody", 4, "No skill is called 'nobody'"),
            ("agents:\n- name: one\n  skills:\n  - name: x\n    description: d\n    timeout_s: 0", 6, "timeout_s: "),
            ("agents:\n- name: one\n  tenant: nobody", 3, "tenant: "),
            ("skills:\n- name: A B", 2, "name: Use 1 to 64"),
            ("tenants:\n- name: x\n  weight: 0", 3, "weight: Use a number"),
            ("policies:\n- strategy: fastest", 2, "A policy needs a name."),
            ("policies:\n- name: p\n  strateg: fastest", 3, "there is no 'strateg'. Known: name, enabled"),
            ("policies:\n- name: p\n  strategy: luck", 3, "strategy: There is no strategy 'luck'"),
            ("policies:\n- name: p\n  retries:\n    x: {}", 3, "retries: x: no such kind"),
            ("limits:\n- name: l", 2, "It limits nothing"),
            ("limits:\n- name: l\n  max_running: many", 3, "max_running: "),
            ("budgets:\n- name: b\n  amount: -1", 3, "amount: Use a number from 0"),
            ("budgets:\n- name: b\n  amount: 1\n  labels: gpu=", 4, "labels: Column 5"),
            ("containments:\n- name: c\n  scope: agent\n  value: hal\n  reason: r", 4, "value: No agent is"),
            ("containments:\n- name: c\n  scope: everything\n  reason: r\n  release_at: soon", 5, "release_at: "),
        ],
    )  # fmt: skip
    def test_stand_at_their_line(self, text: str, line: int, words: str) -> None:
        found = flaws(text)

        assert any(at == line and words in said for at, said in found), found

    def test_are_told_all_at_once_and_nothing_is_made(self) -> None:
        text = FILE + "  - name: bad\n    strategy: luck\nlimits:\n  - name: none\n"
        before = registry.revision()

        found = flaws(text)

        assert [line for line, _ in found] == [15, 17]
        assert not any(model.objects.exists() for model in (Agent, Skill, Policy, Limit, Budget))
        assert registry.revision() == before


class TestExport:
    def test_is_a_file_that_changes_nothing_when_it_is_applied(self) -> None:
        apply(EXAMPLE.read_text())
        apply(
            "tenants: [{name: lab, weight: 2}]\n"
            "containments:\n"
            "  - {name: stop, scope: agent, value: codex, reason: It leaks., release_at: 2999-01-01T00:00:00}\n"
        )

        text = manifest.export()

        assert apply(text) == []

    def test_brings_everything_back_where_there_was_nothing(self) -> None:
        apply(EXAMPLE.read_text())
        text = manifest.export()
        for model in (Policy, Limit, Budget, Agent, Skill):
            model.objects.all().delete()

        apply(text)

        assert manifest.export() == text


class TestTheExample:
    def test_has_a_profile_for_each_command_line_agent(self) -> None:
        apply(EXAMPLE.read_text())

        agents = {agent.name: agent for agent in Agent.objects.all()}
        assert set(agents) == {"claude", "codex", "jules"}
        assert {agent.executor for agent in agents.values()} == {"command"}
        assert all(agent.cost_usd > 0 and agent.labels for agent in agents.values())


class TestCommand:
    def test_says_what_was_applied(self, tmp_path: Path) -> None:
        file, out = tmp_path / "fleet.yaml", StringIO()
        file.write_text(FILE)

        call_command("agents", "apply", str(file), stdout=out)

        assert out.getvalue() == "skill echo: new\nagent one: new\npolicy fast: new\n3 applied.\n"

    def test_names_file_and_line_of_each_flaw(self, tmp_path: Path) -> None:
        file = tmp_path / "fleet.yaml"
        file.write_text("agents:\n- name: one\n  capacity: 0\n")

        with pytest.raises(CommandError, match=r"Nothing was changed\.\n.*fleet\.yaml:3: capacity: Use a whole number"):
            call_command("agents", "apply", str(file))

    def test_changes_nothing_in_a_dry_run(self, tmp_path: Path) -> None:
        file, out = tmp_path / "fleet.yaml", StringIO()
        file.write_text(FILE)

        call_command("agents", "apply", str(file), "--dry-run", stdout=out)

        assert "this was a dry run" in out.getvalue()
        assert not Agent.objects.exists()

    def test_says_that_a_file_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(CommandError, match="cannot be read"):
            call_command("agents", "apply", str(tmp_path / "none.yaml"))

    def test_exports_to_a_file_that_only_its_owner_reads(self, tmp_path: Path) -> None:
        file = tmp_path / "out.yaml"
        apply(FILE)

        call_command("agents", "export", "--output", str(file))

        assert file.read_text() == manifest.export()
        assert file.stat().st_mode & 0o077 == 0
