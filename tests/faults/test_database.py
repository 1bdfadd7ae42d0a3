"""A database that is locked or ends everybody's connections."""

from a2a_site.chaos import faults
from tests.faults.trial import Trial

LOCKED_S = 10.0


class TestALockedDatabase:
    def test_is_waited_for(self, trial: Trial) -> None:
        with trial.load():
            trial.cause(lambda stack, _: faults.hold_database(stack, LOCKED_S))

        trial.assert_kept()
