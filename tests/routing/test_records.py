import json
import math

import pytest

from routing.records import CLIP, KEEP, PEAK_FADES_S, Cell, FleetRecord, Mean, SkillRecord, Speed, bucket_of


class TestBucketOf:
    @pytest.mark.parametrize(("size", "bucket"), [(1, 0), (1.9, 0), (2, 1), (1023, 9), (1024, 10), (2.0**63, 63)])
    def test_is_the_logarithm_rounded_down(self, size: float, bucket: int) -> None:
        assert bucket_of(size) == bucket

    @pytest.mark.parametrize("size", [0.0, -5.0, 0.5, math.nan])
    def test_is_the_first_for_what_is_no_size(self, size: float) -> None:
        assert bucket_of(size) == 0

    def test_ends_somewhere(self) -> None:
        assert bucket_of(math.inf) == 63


class TestMean:
    def test_is_the_mean_of_few_values(self) -> None:
        mean = Mean()
        for value in (1.0, 2.0, 6.0):
            mean.add(value)

        assert mean.value == pytest.approx(3.0)

    def test_forgets_what_is_long_ago(self) -> None:
        mean = Mean()
        for value in [100.0] * KEEP + [1.0] * (10 * KEEP):
            mean.add(value)

        assert mean.value == pytest.approx(1.0, abs=0.05)

    def test_is_drawn_to_a_prior(self) -> None:
        assert Mean(4.0, 2).drawn_to(1.0, 1.0) == pytest.approx(3.0)


class TestSpeed:
    def test_believes_the_first_observation_half(self) -> None:
        speed = Speed()

        speed.add(1.0)

        assert speed.log == 0.5

    def test_is_not_carried_away_by_one_observation(self) -> None:
        speed = Speed()

        speed.add(100.0)

        assert speed.log == CLIP / 2


class TestCell:
    def test_jumps_up_to_a_slower_attempt(self) -> None:
        cell = Cell()
        cell.took(1.0, 0.0)

        cell.took(9.0, 0.0)

        assert cell.peak_s == 9.0

    def test_comes_down_with_time_alone(self) -> None:
        cell = Cell()
        cell.took(9.0, 0.0)

        cell.took(1.0, 0.0)
        at_once = cell.peak_s
        cell.took(1.0, PEAK_FADES_S)

        assert at_once == 9.0
        assert cell.peak_s == pytest.approx(1.0 + 8.0 / math.e)

    def test_does_not_rise_when_the_clock_goes_back(self) -> None:
        cell = Cell(updated_at=100.0)
        cell.took(9.0, 100.0)

        cell.took(1.0, 50.0)

        assert cell.peak_s == 9.0


class TestJson:
    def test_skips_what_is_no_longer_known_and_starts_anew_what_is_missing(self) -> None:
        record = FleetRecord.of_json({"good": 2.0, "colour": "red"})

        assert record == FleetRecord(good=2.0)

    def test_keeps_buckets_by_number(self) -> None:
        record = SkillRecord()
        record.bucket(7).add(0.1)

        assert SkillRecord.of_json(json.loads(json.dumps(record.as_json()))) == record
