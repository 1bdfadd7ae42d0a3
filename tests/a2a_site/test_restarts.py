from a2a_site.restarts import WINDOW_S, Restarts


def exits_at(*times: float) -> Restarts:
    """Return the history of a process that ended at these seconds."""
    history = Restarts()
    for at in times:
        history = history.after_exit(at)
    return history


class TestDelay:
    def test_the_first_restart_comes_within_a_second(self) -> None:
        delay_s = exits_at(100.0).delay_s

        assert delay_s == 0.25

    def test_each_further_exit_doubles_it(self) -> None:
        delays = [exits_at(*range(count)).delay_s for count in (1, 2, 3, 4)]

        assert delays == [0.25, 0.5, 1.0, 2.0]

    def test_the_fifth_exit_within_a_minute_gives_up(self) -> None:
        assert exits_at(0, 10, 20, 30, 59).delay_s is None

    def test_exits_older_than_a_minute_are_forgotten(self) -> None:
        history = exits_at(0, 10, 20, 30, WINDOW_S)

        assert list(history.exits) == [10, 20, 30, 60]
        assert history.delay_s == 2.0

    def test_a_process_that_ends_once_in_a_while_is_restarted_for_ever(self) -> None:
        history = exits_at(*(hour * 3600.0 for hour in range(100)))

        assert history.delay_s == 0.25
