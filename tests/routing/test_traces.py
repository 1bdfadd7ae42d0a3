import pytest

from routing import traces
from routing.traces import BadTrace, Job


class TestRead:
    def test_returns_every_column_of_a_row(self) -> None:
        lines = ["deadline,time,size,skill,tenant,priority,work", "30,1.5,2,lint,acme,9,4"]

        jobs = traces.read(lines)

        assert jobs == [Job(id="t1", at=1.5, size=2, skill="lint", tenant="acme", priority=9, deadline_s=30, work_s=4)]

    def test_fills_in_what_is_left_out_or_empty(self) -> None:
        lines = ["time,size,skill,priority,deadline", "0,1,,,"]

        jobs = traces.read(lines)

        assert jobs == [Job(id="t1", at=0, size=1, skill="work", tenant="default", priority=5, deadline_s=None)]

    def test_returns_them_in_the_order_of_their_times_named_by_their_rows(self) -> None:
        jobs = traces.read(["time,size", "7,1", "-2,1"])

        assert [(job.id, job.at) for job in jobs] == [("t2", -2), ("t1", 7)]

    @pytest.mark.parametrize(
        ("row", "why"),
        [
            ("x,1,5,", "time is a number, not 'x'"),
            ("nan,1,5,", "time is a number, not 'nan'"),
            ("0,inf,5,", "size is a number, not 'inf'"),
            ("0,0,5,", "size is more than 0, not '0'"),
            ("0,1,10,", "priority is a whole number from 0 to 9, not '10'"),
            ("0,1,2.5,", "priority is a whole number from 0 to 9, not '2.5'"),
            ("0,1,5,-1", "deadline is more than 0, not '-1'"),
            ("0,1,5", "does not have as many values as the header has names"),
            ("0," + "1" * 200_000 + ",5,", "is not CSV: field larger than field limit (131072)"),
            ("0,1,5,,9", "does not have as many values as the header has names"),
        ],
    )
    def test_refuses_a_bad_row_with_its_line(self, row: str, why: str) -> None:
        lines = ["time,size,priority,deadline", "0,1,5,", row]

        with pytest.raises(BadTrace) as refused:
            traces.read(lines)

        assert str(refused.value) == f"line 3: {why}"

    @pytest.mark.parametrize(
        ("header", "why"),
        [
            ("time,skill", "the header lacks size"),
            ("0.5,3", "the header lacks size, time"),
            ("time,size,colour", "unknown column colour"),
            ("time,size,size", "a column is named twice"),
        ],
    )
    def test_refuses_a_bad_header(self, header: str, why: str) -> None:
        with pytest.raises(BadTrace, match=f"line 1: {why}"):
            traces.read([header, "0,1"])

    @pytest.mark.parametrize(("lines", "why"), [([], "the header lacks"), (["time,size"], "nothing follows")])
    def test_refuses_an_empty_trace(self, lines: list[str], why: str) -> None:
        with pytest.raises(BadTrace, match=why):
            traces.read(lines)
