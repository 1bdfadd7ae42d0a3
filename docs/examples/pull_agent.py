"""A pull agent: it runs anywhere that reaches Mission Control, and fetches its tasks itself.

export A2A_URL=http://127.0.0.1:8000 A2A_KEY=$(python3 manage.py keys create words --scope agents:work)
a2amc serve docs/examples/pull_agent.py --name words
a2amc submit words.count '{"text": "to be or not to be"}' --wait      # with a key that may submit
"""

from collections import Counter
from typing import Any

from a2a_client import Context, handler, serve

TEXT = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}


@handler("words.count", input_schema=TEXT, timeout_s=60, idempotent=True)
def count(input: dict[str, str], ctx: Context) -> dict[str, Any]:
    """Count the words of a text."""
    words = input["text"].lower().split()
    ctx.progress(0.5, f"{len(words)} words")
    counted = Counter(words)
    ctx.artifact("words.csv", "".join(f"{word},{n}\n" for word, n in counted.most_common()), "text/csv")
    return {"words": len(words), "most": counted.most_common(3)}


if __name__ == "__main__":
    serve("words", count)
