"""Redis that dies, forgets, or stands still."""

import random
import time

from a2a_site.chaos import faults
from a2a_site.chaos.stack import Stack
from a2a_site.chaos.verdict import Fault
from tests.faults.trial import Trial

PAUSE_S = 10.0


class TestAKilledRedis:
    def test_that_kept_its_file_loses_nothing(self, trial: Trial) -> None:
        with trial.load(after_s=3):
            trial.cause(faults.kill_redis)

        trial.assert_kept()


class TestAnEmptiedRedis:
    def test_loses_nothing(self, trial: Trial) -> None:
        with trial.load():
            trial.cause(faults.empty_redis)

        trial.assert_kept()


class TestAPausedRedis:
    def test_does_not_keep_anyone_from_submitting(self, trial: Trial) -> None:
        with trial.load(before_s=1):
            count = _accepted(trial)
            trial.cause(_pause)
            meanwhile = _accepted(trial) - count

        trial.assert_kept()
        assert meanwhile > 0


def _accepted(trial: Trial) -> int:
    return len(trial.customer.history()["accepted"])


def _pause(stack: Stack, chance: random.Random) -> Fault:
    at = time.time()
    stack.redis.freeze()
    time.sleep(PAUSE_S)
    stack.redis.thaw()
    return Fault(name="freeze redis", at=at, over_at=time.time(), is_outage=True)


class TestMessagesThatVanish:
    def test_are_sent_again(self, trial: Trial) -> None:
        with trial.load(before_s=1, after_s=1):
            trial.cause(faults.lose_messages)

        trial.assert_kept()
