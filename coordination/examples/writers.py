"""The agents of *research and write*: they answer questions out of a folder of texts, and say where it stands there."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

from django.conf import settings

from coordination.examples import library
from routing.executors import BadInput, Context, handler

CITED = re.compile(r"\[([^\[\]\s]+):(\d+)\]")
ASKED = ("What is {}?", "How does {} work?", "What are the limits of {}?")


@handler("research.plan")
def make_plan(input: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """Return the questions that a text on the topic has to answer."""
    request = input["request"]
    asked = [*(form.format(request["topic"]) for form in ASKED), *request.get("questions", ())]
    return {"questions": [{"id": f"q{number}", "text": text} for number, text in enumerate(asked, 1)]}


@handler("research.answer", capacity=6)
def answer(input: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """Return the passages that answer the question best, each with its place."""
    known = library.passages(folder(input["request"]))
    found = library.best(known, input["question"])
    ctx.log(f"{len(known)} passages read, {len(found)} have something to say")
    passages = [{"place": passage.place, "text": passage.text, "score": round(score, 2)} for score, passage in found]
    return {"question": input["question"], "passages": passages}


@handler("text.outline")
def outline(input: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """Return a section for each question that has an answer; a passage stands in the first that has it."""
    answers = input["answers"].values() if isinstance(input["answers"], dict) else input["answers"]
    seen: set[str] = set()
    sections = []
    for each in answers:
        fresh = [passage for passage in (each or {}).get("passages", ()) if passage["place"] not in seen]
        seen |= {passage["place"] for passage in fresh}
        if fresh:
            sections.append({"heading": each["question"], "passages": fresh})
    if not sections:
        raise BadInput(f"No source says anything about {input['topic']!r}. Name a folder that does, as sources.")
    return {"outline": {"title": input["topic"], "sections": sections}}


@handler("text.write")
def write(input: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """Return the text: a heading for each section, and what the sources say with their places."""
    plan = input["outline"]
    parts = [f"# {plan['title']}"]
    for section in plan["sections"]:
        said = [f"{passage['text']} [{passage['place']}]" for passage in section["passages"]]
        parts += [f"## {section['heading']}", *said]
    ctx.progress(1.0, f"{len(plan['sections'])} sections")
    return {"text": "\n\n".join(parts) + "\n"}


@handler("text.check-facts")
def check_facts(input: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """Return which paragraphs cite a place where they do not stand, or none."""
    there = {passage.place: passage.text for passage in library.passages(folder(input["request"]))}
    doubts = []
    for paragraph in input["text"].split("\n\n"):
        said, cited = CITED.sub("", paragraph).strip(), CITED.findall(paragraph)
        if not said or said.startswith("#"):
            continue
        if not any(said in there.get(f"{path}:{line}", "") for path, line in cited):
            doubts.append(said[:200])
    return {"doubts": doubts}


@handler("text.revise")
def revise(input: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """Return the text without the sections that remarks ask to drop (``drop: heading``), and with the other remarks."""
    remarks = str((input.get("remarks") or {}).get("remarks") or "")
    dropped = {line.partition(":")[2].strip() for line in remarks.splitlines() if line.lower().startswith("drop:")}
    noted = [line for line in remarks.splitlines() if line.strip() and not line.lower().startswith("drop:")]
    head, *sections = re.split(r"(?m)^## ", input["text"])
    kept = [section for section in sections if section.partition("\n")[0].strip() not in dropped]
    text = "".join([head, *(f"## {section}" for section in kept)])
    return {"text": text.rstrip() + "\n" + "".join(f"\n> {line}\n" for line in noted)}


@handler("text.publish")
def publish(input: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """Write the text into the folder of what is published, and return its address."""
    return {"address": str(_kept("published", input["text"]))}


@handler("text.withdraw")
def withdraw(input: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """Take a published text back; one that is gone already is as wanted."""
    path = Path(input["address"])
    if path.parent != _place("published"):
        raise BadInput("Only what was published here can be withdrawn.")
    path.unlink(missing_ok=True)
    return {"withdrawn": str(path)}


@handler("text.archive")
def archive(input: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """Keep the text aside."""
    return {"address": str(_kept("archived", input["text"]))}


def folder(request: dict[str, Any]) -> Path:
    """Return the folder of sources, the product's own documents unless the request names one. Raises ``BadInput``."""
    chosen = Path(request.get("sources") or Path(settings.BASE_DIR) / "docs")
    if not chosen.is_dir():
        raise BadInput(f"The sources {str(chosen)!r} are no folder on the machine of this worker.")
    return chosen


def _kept(where: str, text: str) -> Path:
    """Write the text under a name that follows from it, so that twice is once, and return the file."""
    title = re.sub(r"[^a-z0-9]+", "-", text.partition("\n")[0].lower()).strip("-")[:60] or "text"
    path = _place(where) / f"{title}-{hashlib.sha256(text.encode()).hexdigest()[:8]}.md"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def _place(where: str) -> Path:
    return Path(settings.A2A_HOME) / "examples" / where
