"""`.env.example` lists every variable that is read, and nothing else."""

import re
from itertools import pairwise
from pathlib import Path

from dex.venues.registry import SIMULATED

ROOT = Path(__file__).parent.parent.parent
LISTED = re.findall(r"^([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)
SETTINGS = (ROOT / "orderengine/settings.py").read_text()
READ = re.compile(
    r"""(?:integer|number|flag|choice|hosts|credentials|millisecond_range|rate|allowance|origins|address|read|required|get)\(\s*"([A-Z_]+)\""""
)
OF_OTHERS = {"OPTIONS"}  # a key of a dict
# Of the venues that have pools to choose from.
CURVES = {f"DEX_{name.upper()}_CURVE" for name, one in SIMULATED.items() if len(one.programs) > 1}


def test_every_variable_that_is_read_is_listed_once() -> None:
    names = set(READ.findall(SETTINGS)) - OF_OTHERS | CURVES

    assert len(LISTED) == len(set(LISTED))
    assert set(LISTED) == names


def test_every_variable_has_a_line_of_meaning() -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()

    for before, line in pairwise(lines):
        if re.match(r"[A-Z_]+=", line):
            assert before.startswith("# "), line
