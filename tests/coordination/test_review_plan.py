"""How files are split into chunks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordination.review.plan import plan

paths = st.lists(st.from_regex(r"([a-d]/){0,3}[a-z]{1,4}\.py", fullmatch=True), max_size=300)


class TestPlan:
    def test_has_no_chunk_for_no_files(self) -> None:
        assert plan([]) == ()

    def test_has_one_chunk_for_few_files(self) -> None:
        (chunk,) = plan(["b/x.py", "a.py"])

        assert chunk.files == ("a.py", "b/x.py")
        assert chunk.name == ". … b"

    @given(files=paths, most=st.integers(1, 30))
    def test_loses_and_doubles_no_file(self, files: list[str], most: int) -> None:
        chunks = plan(files, max_chunk_files=most)

        assert sorted(path for chunk in chunks for path in chunk.files) == sorted(set(files))
        assert len(chunks) <= 24

    @pytest.mark.parametrize("count", [500, 2_000, 20_000])
    def test_keeps_large_trees_in_at_most_24_balanced_chunks(self, count: int) -> None:
        chunks = plan(f"pkg{n % 37}/sub{n % 5}/m{n}.py" for n in range(count))

        lengths = [len(chunk.files) for chunk in chunks]
        assert len(chunks) == min(24, count // 25)
        mean = count / len(chunks)
        assert all(abs(length - mean) <= mean / 2 + 1 for length in lengths)

    def test_cuts_between_packages_where_that_is_near(self) -> None:
        files = [f"a/{n}.py" for n in range(9)] + [f"b/{n}.py" for n in range(11)]

        chunks = plan(files, max_chunk_files=10)

        assert [chunk.name for chunk in chunks] == ["a", "b"]
