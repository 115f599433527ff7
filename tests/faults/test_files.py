"""Files of faults: what they say, and where they are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from fanbench import UsageError
from fanbench.faults.files import PRESETS
from fanbench.testing import Fault, read_faults


@pytest.mark.parametrize("preset", PRESETS)
def test_presets(preset: str) -> None:
    """Every preset is there, and each of its faults goes on."""
    plan = read_faults(preset)
    assert plan.name == preset
    assert all(fault.most > 1 for fault in plan.faults)


def test_a_file(tmp_path: Path) -> None:
    """A file has the fields of faults under their names."""
    path = tmp_path / "faults.toml"
    path.write_text(
        'seed = 7\n[[fault]]\ncall = "logs"\ntimes = inf\n'
        '[[fault]]\ncall = "all"\nstatus = 429\nretry_after = "soon"\nshare = 0.5\ndelay = [1, 5]\n'
    )
    plan = read_faults(path)
    assert plan.seed == 7
    expected = (
        Fault("logs", times=float("inf")),
        Fault("all", 429, retry_after="soon", share=0.5, delay=(1.0, 5.0)),
    )
    assert plan.faults == expected


@pytest.mark.parametrize(
    ("text", "problem", "hint"),
    [
        ("[[fault]", "is not TOML", ""),
        ("", "no [[fault]]", "call"),
        ("fault = 3", "no [[fault]]", "call"),
        ('seed = "x"\n[[fault]]\ncall = "logs"', "seed must be an integer", ""),
        ("sead = 1", "no key sead (did you mean seed?)", "seed, fault"),
        ('[[fault]]\ncall = "logs"\n[[fault]]\n', "fault number 2: call is missing", ""),
        ('[[fault]]\ncall = "log"', "call is 'log' (did you mean logs?)", "create_task, "),
        ('[[fault]]\ncall = "logs"\ndamage = "stal"', "damage is 'stal' (did you mean stall?)", "sse_cut"),
        ('[[fault]]\ncall = "logs"\ntime = 3', "no key time (did you mean times?)", "retry_after"),
        ('[[fault]]\ncall = "logs"\nraises = "x"', "no key raises", "retry_after"),
        ('[[fault]]\ncall = "logs"\nshare = "x"', "share: expected a number, got a string", ""),
        ('[[fault]]\ncall = "logs"\nshare = 2', "share must be more than 0 and at most 1", ""),
    ],
)
def test_mistakes(tmp_path: Path, text: str, problem: str, hint: str) -> None:
    """A mistake is named with the file, the fault, the key, and what is allowed."""
    path = tmp_path / "faults.toml"
    path.write_text(text)
    with pytest.raises(UsageError) as refused:
        read_faults(path)
    assert str(refused.value).startswith(str(path))
    assert problem in str(refused.value)
    assert hint in (refused.value.hint or "")


def test_neither_a_file_nor_a_preset() -> None:
    """A name that is not known is answered with all presets."""
    with pytest.raises(UsageError, match="neither a file nor a preset") as refused:
        read_faults("?")
    assert all(preset in (refused.value.hint or "") for preset in PRESETS)
