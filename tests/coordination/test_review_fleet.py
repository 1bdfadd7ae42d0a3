"""The demonstration fleet as data."""

import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from coordination import agents
from coordination.review.fleet import AGENTS, SKILLS, AgentDef, SkillDef, confined
from routing import executors
from routing.executors.recording import Recording
from tests.coordination.projects import PLANTED, write

CHECKERS = [agent for agent in AGENTS if agent.name not in {"editor", "parrot"}]
NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?")


class TestSkills:
    @pytest.mark.parametrize("skill", SKILLS, ids=lambda skill: skill.name)
    def test_has_valid_schemas_and_somebody_who_can_do_it(self, skill: SkillDef) -> None:
        jsonschema.Draft202012Validator.check_schema(skill.input_schema)
        jsonschema.Draft202012Validator.check_schema(skill.output_schema)
        assert any(skill.name in agent.skills for agent in AGENTS)


class TestAgents:
    @pytest.mark.parametrize("agent", AGENTS, ids=lambda agent: agent.name)
    def test_has_options_that_its_executor_accepts(self, agent: AgentDef) -> None:
        assert executors.get(agent.executor).problems(agent.options) == []
        assert NAME.fullmatch(agent.name)
        assert agent.description

    @pytest.mark.parametrize("agent", [a for a in AGENTS if a.executor == "python"], ids=lambda agent: agent.name)
    def test_names_a_handler_that_exists(self, agent: AgentDef) -> None:
        found = {handler.name: handler for handler in executors.handlers()}[agent.options["handler"]]

        assert found.module == agents.__name__
        assert set(agent.skills) <= set(found.skills)

    @pytest.mark.parametrize("agent", CHECKERS, ids=lambda agent: agent.name)
    def test_answers_through_its_executor_as_its_skill_says(
        self, agent: AgentDef, tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settings.A2A_HOME = tmp_path
        monkeypatch.setenv("A2A_HOME", str(tmp_path))  # isolated handlers read it in a process of their own
        executors.load([agents.__name__])
        job = executors.Job(
            task_id="t1",
            attempt=1,
            agent=agent.name,
            skill=agent.skills[0],
            input={"root": str(write(tmp_path / "reviews" / "shop", PLANTED))},
            options=confined(agent, tmp_path / "reviews").options,
            timeout_s=60,
            idempotency_key="k1",
            work_dir=tmp_path / "work",
        )

        answer = executors.get(agent.executor).run(job, Recording(job.input))

        (skill,) = [skill for skill in SKILLS if skill.name == job.skill]
        jsonschema.validate(answer, skill.output_schema)
        assert answer["files"] >= 10

    def test_are_known_by_different_names(self) -> None:
        assert len({agent.name for agent in AGENTS}) == len(AGENTS)

    def test_share_skills_and_differ_in_speed(self) -> None:
        linters = [agent for agent in AGENTS if "code.lint" in agent.skills]

        assert len({agent.labels["speed"] for agent in linters}) == 3


class TestConfined:
    @pytest.mark.parametrize("agent", [a for a in AGENTS if a.executor == "command"], ids=lambda agent: agent.name)
    def test_keeps_a_program_from_reading_anything_but_snapshots(self, agent: AgentDef, tmp_path: Path) -> None:
        job = executors.Job(
            task_id="t1",
            attempt=1,
            agent=agent.name,
            skill=agent.skills[0],
            input={"root": str(write(tmp_path / "secrets", PLANTED))},
            options=confined(agent, tmp_path / "reviews").options,
            timeout_s=60,
            idempotency_key="k1",
            work_dir=tmp_path / "work",
        )

        with pytest.raises(executors.AgentFailed, match="there is no directory"):
            executors.get(agent.executor).run(job, Recording(job.input))

    def test_leaves_functions_as_they_are(self, tmp_path: Path) -> None:
        functions = [agent for agent in AGENTS if agent.executor == "python"]

        assert [confined(agent, tmp_path) for agent in functions] == functions
