"""A short seed of `manage.py chaos`."""

from a2a_site.chaos import campaign
from a2a_site.chaos.campaign import Plan
from tests.faults.trial import Trial


class TestCarryOut:
    def test_breaks_several_things_and_no_promise(self, trial: Trial) -> None:
        quick = ("kill worker", "restart worker", "kill leader", "stop leader", "empty redis", "lose messages")

        report = campaign.carry_out(Plan(seed=2, seconds=12, faults=quick), trial.stack)

        trial.verdict = report.verdict
        assert report.verdict.violations == []
        assert report.kept
        assert report.faults
