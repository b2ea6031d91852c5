"""What the progress bars say beside themselves."""

import pytest

from engine.terminal.progress import _rate


@pytest.mark.parametrize(("speed", "shown"), [(None, ""), (0.42, "0.4/s"), (9.0, "9.0/s"), (1234.5, "1,234/s")])
def test_slow_work_shows_a_rate_that_is_not_zero(speed: float | None, shown: str) -> None:
    assert _rate(speed) == shown
