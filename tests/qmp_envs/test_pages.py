"""The pages in docs/envs are those that the docstrings give."""

from pathlib import Path

import pytest

from qmp_envs.pages import file_name, page
from qmp_envs.registry import ENTRIES

DOCS = Path(__file__).parents[2] / "docs" / "envs"


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
def test_page_is_up_to_date(entry):
    written = (DOCS / file_name(entry.id)).read_text()
    assert written == page(entry), "stale: run `python -m qmp_envs.pages docs/envs`"
    for heading in ("Description", "Action space", "Observation space", "Rewards", "Starting state"):
        assert f"## {heading}" in written
    for heading in ("Episode end", "Success", "Arguments", "Version history"):
        assert f"## {heading}" in written
