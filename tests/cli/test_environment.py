"""What `init` and `auth` write if the answer took long."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fanbench.cli.output import Output
from fanbench.cli.views.environment import offer
from fanbench.operations.environment import nearly_over


def values(key: str, left: timedelta) -> dict[str, str]:
    ends = (datetime.now(UTC) + left).isoformat()
    return {"MODEL_PROXY_API_KEY": key, "MODEL_PROXY_EXPIRY_TIME": ends}


@pytest.mark.parametrize(
    ("left", "written"), [(timedelta(hours=2), "old-key"), (timedelta(minutes=1), "new-key")]
)
def test_a_token_about_to_expire_is_renewed(left: timedelta, written: str, tmp_path: Path) -> None:
    """A token about to expire is replaced by a new one, other values stay, and a valid token is kept."""
    offered = {**values("old-key", left), "LLM_DEFAULT": "a/b"}
    file = tmp_path / ".env"
    offer(Output(), offered, file, yes=True, renew=lambda: values("new-key", timedelta(hours=2)))
    assert f"MODEL_PROXY_API_KEY={written}" in file.read_text()
    assert "LLM_DEFAULT=a/b" in file.read_text()


def test_an_env_file_that_others_may_read_is_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A new file is private; one that others may read keeps its mode, and a warning names the command."""
    file = tmp_path / ".env"
    for mode in (0o600, 0o644):
        if file.exists():
            file.chmod(mode)
        offer(Output(), values("key", timedelta(hours=2)), file, yes=True, renew=dict)
        assert file.stat().st_mode & 0o777 == mode
        assert (f"chmod 600 {file}" in capsys.readouterr().err) == (mode == 0o644)


@pytest.mark.parametrize(
    ("timestamp", "over"),
    [
        ("2030-01-01T00:06:00Z", False),
        ("2030-01-01T00:04:00Z", True),
        ("2029-12-31T23:00:00", True),
        ("", False),
        ("soon", False),
    ],
)
def test_tokens_about_to_expire(timestamp: str, over: bool) -> None:
    """A token is about to expire five minutes before it does; an unreadable time does not count."""
    assert nearly_over(timestamp, datetime(2030, 1, 1, tzinfo=UTC)) is over
