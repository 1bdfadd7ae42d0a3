import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing import selectors
from routing.selectors import Requirement, Selector, SelectorError, parse

LABELS = {"gpu": "yes", "region": "eu"}
texts = st.text(min_size=1, max_size=8)
requirements = st.one_of(
    st.builds(Requirement, texts, st.sampled_from(["exists", "absent"])),
    st.builds(
        Requirement,
        texts,
        st.sampled_from(["in", "notin"]),
        st.sets(texts, min_size=1, max_size=3).map(lambda values: tuple(sorted(values))),
    ),
)
made = st.lists(requirements, max_size=4, unique=True).map(lambda several: Selector(tuple(several)))


class TestParse:
    @pytest.mark.parametrize(
        ("text", "canonical"),
        [
            ("gpu=yes", "gpu=yes"),
            ("gpu == yes", "gpu=yes"),
            ("gpu!=no", "gpu!=no"),
            (" region in ( us,eu ) ", "region in (eu, us)"),
            ("region in eu", "region=eu"),
            ("region in (eu)", "region=eu"),
            ("region notin (eu)", "region!=eu"),
            ("region notin (us, eu)", "region notin (eu, us)"),
            ("gpu", "gpu"),
            ("! gpu", "!gpu"),
            ("gpu,gpu", "gpu"),
            ("in in in, notin notin notin", "in=in, notin!=notin"),
            ('"a b"="say \\"hi\\" \\\\"', '"a b"="say \\"hi\\" \\\\"'),
            ('"gpu"="yes"', "gpu=yes"),
            ("  ", ""),
        ],
    )
    def test_reads_what_kubernetes_reads(self, text: str, canonical: str) -> None:
        assert str(parse(text)) == canonical

    @pytest.mark.parametrize(
        ("text", "column", "expected"),
        [
            ("gpu=", 5, "a value after ="),
            ("gpu=yes,", 9, "a label"),
            ("gpu yes", 5, "=, !=, in, notin, a comma or the end"),
            ("gpu=yes no", 9, "a comma or the end"),
            ("=yes", 1, "a label"),
            ("!", 2, "a label after !"),
            ("region in (eu us)", 15, "a comma or )"),
            ("region in ()", 12, "a value"),
            ("region in", 10, "a value or a list such as (eu, us)"),
            ("a=ü,  §", 7, "a label, a value or a sign"),
            ('a="b', 3, "a closing quote"),
            ('a=""', 3, "a value after ="),
            ('gpu "in" eu', 5, "=, !=, in, notin, a comma or the end"),
        ],
    )
    def test_says_where_and_what_it_expected(self, text: str, column: int, expected: str) -> None:
        with pytest.raises(SelectorError) as caught:
            parse(text)

        assert (caught.value.column, caught.value.expected) == (column, expected)

    def test_names_what_it_found(self) -> None:
        with pytest.raises(SelectorError, match=r"^column 3: expected a value after =, found ','$"):
            parse("a=,b")

    def test_refuses_endless_text(self) -> None:
        with pytest.raises(SelectorError):
            parse("a" * (selectors.MAX_TEXT + 1))

    @given(st.one_of(st.text(), st.text(alphabet='ab,=!() \\"in')))
    def test_reads_any_text_or_raises_its_own_error(self, text: str) -> None:
        try:
            found = parse(text)
        except SelectorError:
            return

        assert parse(str(found)) == found


class TestStr:
    @given(made)
    def test_parses_to_itself(self, selector: Selector) -> None:
        assert parse(str(selector)) == selector


class TestMatches:
    @pytest.mark.parametrize(
        ("text", "answer"),
        [
            ("", True),
            ("gpu=yes", True),
            ("gpu=no", False),
            ("gpu!=no", True),
            ("gpu!=yes", False),
            ("disk!=ssd", True),
            ("disk=ssd", False),
            ("region in (eu, us)", True),
            ("region in (us, asia)", False),
            ("region notin (us, asia)", True),
            ("region notin (eu, asia)", False),
            ("disk notin (a, b)", True),
            ("gpu", True),
            ("disk", False),
            ("!disk", True),
            ("!gpu", False),
            ("gpu=yes, region=eu", True),
            ("gpu=yes, region=us", False),
        ],
    )
    def test_asks_for_all_requirements(self, text: str, answer: bool) -> None:
        assert parse(text).matches(LABELS) is answer

    def test_takes_pairs_too(self) -> None:
        assert parse("gpu=yes").matches((("gpu", "yes"),))


class TestMissing:
    def test_is_the_first_requirement_not_met(self) -> None:
        assert parse("gpu, region in (us, asia), !gpu").missing(LABELS) == "region in (asia, us)"

    def test_is_none_when_all_are_met(self) -> None:
        assert parse("gpu").missing(LABELS) is None


class TestOf:
    def test_asks_for_exactly_these_labels(self) -> None:
        assert str(Selector.of((("gpu", "yes"), ("region", "eu")))) == "gpu=yes, region=eu"


class TestContradiction:
    @pytest.mark.parametrize("text", ["gpu, !gpu", "gpu=a, gpu=b", "x, gpu in (a, b), gpu notin (b, a)", "!gpu, gpu=a"])
    def test_names_the_label_that_cannot_be(self, text: str) -> None:
        assert parse(text).contradiction() == "gpu"

    @pytest.mark.parametrize("text", ["", "gpu", "gpu!=a, gpu!=b, gpu", "!gpu, gpu!=a", "gpu in (a, b), gpu!=a"])
    def test_is_none_where_some_value_will_do(self, text: str) -> None:
        assert parse(text).contradiction() is None
