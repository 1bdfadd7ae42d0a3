import datetime as dt
import itertools
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordination.timetable import CatchUp, Outcome, Overlap, Settled, Timetable, problems, settle

NOON = dt.datetime(2026, 6, 1, 12, tzinfo=dt.UTC)
MINUTE, HOUR, DAY = dt.timedelta(minutes=1), dt.timedelta(hours=1), dt.timedelta(days=1)
HOURLY = Timetable(cron="0 * * * *")


def local(text: str, zone: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).astimezone(dt.UTC)


def utc(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


class TestAfter:
    """Clocks in four zones, each set forward and back; one by half an hour, one south of the equator."""

    @pytest.mark.parametrize(
        ("zone", "since", "expected"),
        [
            ("Europe/Berlin", "2026-03-28T12:00", ["2026-03-29T01:00", "2026-03-30T00:30"]),
            ("America/New_York", "2026-03-07T12:00", ["2026-03-08T07:00", "2026-03-09T06:30"]),
            ("Australia/Lord_Howe", "2026-10-03T12:00", ["2026-10-03T15:30", "2026-10-04T15:30"]),
            ("America/Santiago", "2026-09-05T12:00", ["2026-09-06T05:30", "2026-09-07T05:30"]),
        ],
    )
    def test_meets_a_time_that_the_clock_jumps_over_at_the_end_of_the_gap(
        self, zone: str, since: str, expected: list[str]
    ) -> None:
        table = Timetable(cron="30 2 * * *", zone=zone)

        found = table.between(local(since, zone), local(since, zone) + 2 * DAY)

        assert found == [utc(text) for text in expected]

    @pytest.mark.parametrize(
        ("zone", "day"),
        [
            ("Europe/Berlin", "2026-10-25"),
            ("America/New_York", "2026-11-01"),
            ("Australia/Lord_Howe", "2026-04-05"),
            ("America/Santiago", "2026-04-04"),
        ],
    )
    def test_meets_a_fixed_time_once_where_the_hour_comes_twice(self, zone: str, day: str) -> None:
        hour = {"Europe/Berlin": 2, "America/New_York": 1, "Australia/Lord_Howe": 1, "America/Santiago": 23}[zone]
        minute = 45 if zone == "Australia/Lord_Howe" else 30
        table = Timetable(cron=f"{minute} {hour} * * *", zone=zone)
        midnight = local(f"{day}T00:00", zone)

        found = table.between(midnight, midnight + 27 * HOUR)

        same_day = [due for due in found if due.astimezone(ZoneInfo(zone)).date().isoformat() == day]
        assert len(same_day) == 1

    @pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "America/Santiago"])
    def test_goes_on_every_half_hour_through_a_change(self, zone: str) -> None:
        start = utc("2026-01-01T00:00")
        table = Timetable(cron="*/30 * * * *", zone=zone)

        found = table.between(start, start + 365 * DAY, limit=20_000)

        gaps = {later - earlier for earlier, later in itertools.pairwise(found)}
        assert gaps == {30 * MINUTE}

    def test_counts_distances_from_the_anchor_whatever_the_clock_does(self) -> None:
        table = Timetable(every_s=90.0, anchor=NOON)

        found = table.between(NOON + 5 * MINUTE, NOON + 10 * MINUTE)

        assert [(due - NOON).total_seconds() for due in found] == [360.0, 450.0, 540.0]

    @given(
        st.datetimes(dt.datetime(2026, 1, 1), dt.datetime(2027, 12, 31)), st.sampled_from(["*/7 * * * *", "0 3 * * 1"])
    )
    def test_yields_rising_times_strictly_after(self, moment: dt.datetime, cron: str) -> None:
        since = moment.replace(tzinfo=dt.UTC)
        table = Timetable(cron=cron, zone="Europe/Berlin")

        found = [due for due, _ in zip(table.after(since), range(5), strict=False)]

        assert found == sorted(set(found))
        assert found[0] > since


class TestInWords:
    @pytest.mark.parametrize(
        ("table", "words"),
        [
            (Timetable(cron="30 6 * * 1-5", zone="Europe/Berlin"), "06:30"),
            (Timetable(every_s=3600.0), "Every hour"),
            (Timetable(every_s=5400.0), "Every 90 minutes"),
            (Timetable(every_s=2.5), "Every 2.5 seconds"),
        ],
    )
    def test_says_when(self, table: Timetable, words: str) -> None:
        assert words in table.in_words()


class TestProblems:
    @pytest.mark.parametrize(
        ("given", "field"),
        [
            ({"cron": "", "every_s": None, "zone": "UTC"}, "cron"),
            ({"cron": "* * * * *", "every_s": 60.0, "zone": "UTC"}, "cron"),
            ({"cron": "61 * * * *", "every_s": None, "zone": "UTC"}, "cron"),
            ({"cron": "0 0 30 2 *", "every_s": None, "zone": "UTC"}, "cron"),
            ({"cron": "nonsense", "every_s": None, "zone": "UTC"}, "cron"),
            ({"cron": "", "every_s": 0.5, "zone": "UTC"}, "every_s"),
            ({"cron": "", "every_s": float("nan"), "zone": "UTC"}, "every_s"),
            ({"cron": "* * * * *", "every_s": None, "zone": "Mars/Olympus"}, "zone"),
            ({"cron": "* * * * *", "every_s": None, "zone": "../etc/passwd"}, "zone"),
        ],
    )
    def test_names_the_field(self, given: dict[str, object], field: str) -> None:
        assert [name for name, _ in problems(**given)] == [field]  # type: ignore[arg-type]

    def test_has_nothing_against_a_good_one(self) -> None:
        assert list(problems(cron="*/5 9-17 * * 1-5", every_s=None, zone="America/New_York")) == []


def settled(
    now: dt.datetime,
    *,
    table: Timetable = HOURLY,
    after: dt.datetime = NOON,
    held: dt.datetime | None = None,
    overlap: Overlap = Overlap.SKIP,
    catch_up: CatchUp = CatchUp.LATEST,
    is_busy: bool = False,
    window: dt.timedelta = DAY,
) -> Settled:
    return settle(
        table, now, after=after, held=held, overlap=overlap, catch_up=catch_up, window=window, is_busy=is_busy
    )


def outcomes(found: Settled) -> list[tuple[int, Outcome]]:
    return [((verdict.due - NOON) // HOUR, verdict.outcome) for verdict in found.verdicts]


class TestSettle:
    def test_starts_a_time_that_has_come(self) -> None:
        found = settled(NOON + HOUR)

        assert outcomes(found) == [(1, Outcome.STARTED)]
        assert found.after == NOON + HOUR

    def test_starts_nothing_before(self) -> None:
        assert settled(NOON + 59 * MINUTE).verdicts == []

    def test_skips_while_the_last_run_goes_on(self) -> None:
        assert outcomes(settled(NOON + HOUR, is_busy=True)) == [(1, Outcome.SKIPPED)]

    def test_runs_beside_it_where_that_is_allowed(self) -> None:
        assert outcomes(settled(NOON + HOUR, is_busy=True, overlap=Overlap.ALLOW)) == [(1, Outcome.STARTED)]

    def test_holds_a_time_until_the_last_run_has_ended(self) -> None:
        held = settled(NOON + HOUR, is_busy=True, overlap=Overlap.QUEUE)
        later = settled(
            NOON + 4 * HOUR,
            is_busy=True,
            overlap=Overlap.QUEUE,
            after=held.after,
            held=held.held,
            catch_up=CatchUp.SKIP,
        )
        free = settled(
            NOON + 4 * HOUR, overlap=Overlap.QUEUE, after=later.after, held=later.held, catch_up=CatchUp.SKIP
        )

        assert (outcomes(held), outcomes(later)) == ([], [])
        assert held.held == NOON + HOUR
        assert outcomes(free) == [(1, Outcome.STARTED)]
        assert free.held == NOON + 2 * HOUR

    @pytest.mark.parametrize(
        ("catch_up", "expected"),
        [
            (CatchUp.SKIP, [(1, Outcome.MISSED)]),
            (CatchUp.LATEST, [(1, Outcome.MISSED), (4, Outcome.STARTED)]),
            (CatchUp.ALL, [(1, Outcome.STARTED), (2, Outcome.STARTED), (3, Outcome.STARTED), (4, Outcome.STARTED)]),
        ],
    )
    def test_treats_missed_times_as_the_schedule_says(
        self, catch_up: CatchUp, expected: list[tuple[int, Outcome]]
    ) -> None:
        found = settled(NOON + 4 * HOUR + 30 * MINUTE, catch_up=catch_up, overlap=Overlap.ALLOW)

        assert outcomes(found) == expected

    def test_makes_up_for_nothing_older_than_the_window(self) -> None:
        found = settled(NOON + 4.5 * HOUR, catch_up=CatchUp.ALL, overlap=Overlap.ALLOW, window=2 * HOUR)

        assert outcomes(found) == [(1, Outcome.MISSED), (3, Outcome.STARTED), (4, Outcome.STARTED)]
        assert found.verdicts[0].count == 2

    def test_finds_the_latest_of_very_many(self) -> None:
        table = Timetable(every_s=120.0, anchor=NOON)

        found = settled(NOON + 90 * DAY + 90 * MINUTE / 60, table=table, window=200 * DAY)

        assert [verdict.outcome for verdict in found.verdicts] == [Outcome.MISSED, Outcome.STARTED]
        assert found.verdicts[-1].due == NOON + 90 * DAY

    @given(
        st.lists(st.integers(1, 300), min_size=1, max_size=12),
        st.lists(st.booleans(), min_size=12, max_size=12),
        st.sampled_from(Overlap),
        st.sampled_from(CatchUp),
    )
    @settings(deadline=None)
    def test_settles_every_time_exactly_once(
        self, pauses: list[int], busy: list[bool], overlap: Overlap, catch_up: CatchUp
    ) -> None:
        table = Timetable(cron="*/7 * * * *")
        now, after, held, seen = NOON, NOON, None, list[dt.datetime]()

        for pause, is_busy in zip(pauses, busy, strict=False):
            now += pause * MINUTE
            found = settled(
                now, table=table, after=after, held=held, overlap=overlap, catch_up=catch_up, is_busy=is_busy
            )
            for verdict in found.verdicts:
                seen += table.between(verdict.due, now + dt.timedelta(microseconds=1))[: verdict.count]
            after, held = found.after, found.held

        last = held or now + dt.timedelta(microseconds=1)
        assert seen == table.between(NOON + dt.timedelta(microseconds=1), last)
