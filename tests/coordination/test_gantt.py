from xml.etree import ElementTree

import pytest

from coordination.gantt import Bar, Line, in_words, seconds, svg

WAIT = Bar(kind="wait", begin=100.0, end=102.0, state="waiting", words="waited")
FAILED = Bar(kind="work", begin=102.0, end=103.0, state="failed", words="attempt 1 on a, failed")
OPEN = Bar(kind="work", begin=104.0, end=None, state="working", words="attempt 2 on b, working")
LINE = Line(name="draft <1>", state="running", bars=[WAIT, FAILED, OPEN])


class TestSvg:
    def test_is_well_formed_and_has_every_bar(self) -> None:
        drawn = svg([LINE], now=110.0)

        assert drawn is not None
        root = ElementTree.fromstring(drawn)
        tips = [each.text for each in root.iter("{http://www.w3.org/2000/svg}title")][1:]
        assert tips == ["waited: 2.0 s", "attempt 1 on a, failed: 1.0 s", "attempt 2 on b, working: 6.0 s"]

    def test_tells_without_colour_what_failed_and_what_goes_on(self) -> None:
        drawn = svg([LINE], now=110.0) or ""

        failed, goes_on = (part for part in drawn.splitlines() if "gantt-work" in part)
        assert ("l6 6m0-6l-6 6" in failed, 'z"' in failed) == (True, True)
        assert ("l6 6m0-6l-6 6" in goes_on, 'z"' in goes_on) == (False, False)

    def test_is_none_where_nothing_has_begun(self) -> None:
        assert svg([Line(name="a", state="waiting", bars=[])], now=1.0) is None

    @pytest.mark.parametrize("span", [1e-6, 0.5, 59.0, 3600.0, 40 * 86400.0])
    def test_has_a_few_ticks_whatever_the_span(self, span: float) -> None:
        bar = Bar(kind="work", begin=0.0, end=span, state="completed", words="x")

        drawn = svg([Line(name="a", state="completed", bars=[bar])], now=span) or ""

        assert 1 <= drawn.count("tick-label") <= 7

    def test_has_no_script_and_no_style(self) -> None:
        drawn = svg([LINE], now=110.0, href=lambda name: f"#{name}") or ""

        assert "style=" not in drawn
        assert "draft &lt;1&gt;" in drawn


class TestInWords:
    def test_says_what_the_picture_shows(self) -> None:
        assert in_words([LINE], 110.0) == (
            "draft <1>, running: waited 2.0 s, attempt 1 on a, failed 1.0 s, attempt 2 on b, working 6.0 s."
        )


class TestSeconds:
    @pytest.mark.parametrize(
        ("span", "words"), [(0.0123, "12 ms"), (5.0, "5.0 s"), (120.0, "2.0 min"), (7200.0, "2.0 h"), (-1.0, "0 ms")]
    )
    def test_takes_the_unit_that_suits(self, span: float, words: str) -> None:
        assert seconds(span) == words
