"""`manage.py workflows apply FILE… | examples`: make versions of workflows from files, or get two examples."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

import coordination
from coordination import workflows
from routing import registry
from routing.errors import RoutingError
from routing.models import DEFAULT_TENANT

MAX_BYTES = 4_000_000
FOLDER = Path(coordination.__file__).parent / "examples"
EXAMPLES = ("research-and-write", "incident-response")
AGENTS = {  # skill, which is the handler's name, too → agent, capacity
    "research.plan": ("ex-planner", 2), "research.answer": ("ex-librarian", 6), "text.outline": ("ex-outliner", 2),
    "text.write": ("ex-writer", 2), "text.check-facts": ("ex-checker", 2), "text.revise": ("ex-reviser", 2),
    "text.publish": ("ex-publisher", 2), "text.withdraw": ("ex-withdrawer", 2), "text.archive": ("ex-archivist", 2),
    "incident.triage": ("ex-triage", 2), "incident.note": ("ex-notes", 2), "incident.page": ("ex-pager", 2),
    "incident.isolate": ("ex-isolator", 2), "incident.reconnect": ("ex-connector", 2),
    "incident.mend": ("ex-mender", 2), "incident.restore": ("ex-restorer", 2),
    "incident.verify": ("ex-verifier", 2), "incident.close": ("ex-closer", 2),
}  # fmt: skip
HOW = """Start them on their pages, /workflows/research-and-write and /workflows/incident-response, with inputs such as
  {"topic": "leases"}
  {"service": "parrot", "alert": "answers come late"}
The first asks at /approvals whether to publish; run it again from "outline" as a fork with other input to try another
angle. The second waits for the signal "acknowledged", which its page can send."""


class Command(BaseCommand):
    help = "Make the next version of each workflow from its file, YAML or JSON, unless it says the same already."

    def add_arguments(self, parser: ArgumentParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        apply = verbs.add_parser("apply", help="save the files' workflows; nothing of a file that has a problem")
        apply.add_argument("files", nargs="+", type=Path, metavar="FILE")
        apply.add_argument("--tenant", default=DEFAULT_TENANT)
        apply.add_argument("--note", default="", help="what is new")
        verbs.add_parser("examples", help="register the agents of two examples, and save their workflows")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["verb"] == "examples":
            self._examples()
            return
        refused = [file for file in options["files"] if not self._apply(file, options["tenant"], options["note"])]
        if refused:
            raise CommandError(f"Not saved: {', '.join(map(str, refused))}. Mend it and apply again.")

    def _examples(self) -> None:
        """Make the examples ready to run, and say how."""
        for name, (agent, capacity) in AGENTS.items():
            registry.ensure_agent(
                agent, skills=[registry.ensure_skill(name)], executor="python", options={"handler": name},
                description="Of an example workflow.", capacity=capacity,
            )  # fmt: skip
        for name in EXAMPLES:
            self._apply(FOLDER / f"{name}.yaml", DEFAULT_TENANT, "the example")
        self.stdout.write(HOW)

    def _apply(self, file: Path, tenant: str, note: str) -> bool:
        """Return True if the file's workflow is saved; else say why not, by line."""
        try:
            with file.open(encoding="utf-8") as source:
                version = workflows.save(source.read(MAX_BYTES), tenant=tenant, author="manage.py", note=note)
        except (RoutingError, OSError, UnicodeDecodeError) as error:
            self.stderr.write(f"{file}: {error}")
            return False
        self.stdout.write(f"{file}: {version}")
        return True
