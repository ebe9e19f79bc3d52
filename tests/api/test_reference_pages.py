"""The pages that describe columns name those that there are, in every file and read model."""

import re
from pathlib import Path

import pytest

from api import views
from api.importing.tables import TABLES, columns_of
from api.read_models import READ_MODELS
from projections.registry import PROJECTIONS

FOLDER = Path(__file__).parents[2] / "docs" / "reference"
VIEWS = {
    view.table.name: [column.name for column in view.columns]
    for view in vars(views).values()
    if isinstance(view, views.View)
}


def first_cells(page: str, heading: str) -> list[str]:
    """Return the names in the first column of the table under a heading."""
    text = (FOLDER / page).read_text(encoding="utf-8")
    section = re.split(r"^#+ ", text.partition(f"\n### {heading}\n")[2], flags=re.MULTILINE)[0]
    rows = re.findall(r"^\| (`.*?) \|", section, flags=re.MULTILINE)
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row)]


@pytest.mark.parametrize("name", VIEWS)
def test_columns_of_views(name: str) -> None:
    assert sorted(first_cells("read-models.md", name)) == sorted(VIEWS[name])


def test_every_question_is_described() -> None:
    for name in READ_MODELS:
        assert first_cells("read-models.md", name), name


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.kind)
def test_columns_of_files(table: object) -> None:
    kind = table.kind  # type: ignore[attr-defined]
    told = first_cells("files.md", kind)
    assert sorted(told) == sorted(columns_of(table))  # type: ignore[arg-type]


def test_every_table_is_named() -> None:
    page = (FOLDER / "read-models.md").read_text(encoding="utf-8")
    for projection in PROJECTIONS:
        row = next(
            line for line in page.splitlines() if line.startswith(f"| `{projection.name}` |")
        )
        assert all(f"`{table.name}`" in row for table in projection.tables), projection.name
