"""The notebook of docs/, which is executed, and llms.txt: their links and their form."""

import json
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TOUR = ROOT / "docs" / "tour.ipynb"
LINK = re.compile(r"\]\(([^()\s]+)\)")


def cells():
    return json.loads(TOUR.read_text(encoding="utf-8"))["cells"]


def test_the_notebook_is_kept_without_outputs():
    assert all(
        not cell["outputs"] and cell["execution_count"] is None for cell in cells() if cell["cell_type"] == "code"
    )
    assert TOUR.stat().st_size < 50_000


def test_every_link_of_the_notebook_leads_to_a_page():
    links = LINK.findall("".join("".join(cell["source"]) for cell in cells() if cell["cell_type"] == "markdown"))
    assert links
    for link in links:
        assert (TOUR.parent / link).is_file(), link


@pytest.mark.slow
@pytest.mark.skipif(
    find_spec("nbclient") is None or find_spec("ipykernel") is None, reason="needs pip install nbclient ipykernel"
)
def test_the_notebook_runs_without_an_error(tmp_path, monkeypatch):
    import nbformat
    from nbclient import NotebookClient

    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "TMPDIR"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(TOUR, as_version=4)
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    printed = ["".join(output.get("text", "") for output in cell.get("outputs", [])) for cell in notebook.cells]
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 4
    assert any("'a brobdingnagian qwyjibo'" in text and "a guess" in text for text in printed)
    assert re.search(r"written: .*model", "".join(printed))
    assert re.search(r"recall at 10: [4-7] of 7\npointing game: [4-7] of 7", printed[-2])


def test_llms_txt_has_its_form_and_leads_somewhere():
    """The form of llmstxt.org: a title, a summary in a quotation, and sections of links with what they lead to."""
    text = (ROOT / "llms.txt").read_text(encoding="utf-8")
    assert re.match(r"# .+\n\n> .+", text)
    sections = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    assert len(sections) >= 2
    for section in sections:
        for line in section.splitlines()[1:]:
            assert not line or re.fullmatch(r"- \[[^\]]+\]\([^()\s]+\): .+", line), line
    for link in LINK.findall(text):
        assert (ROOT / link).is_file(), link
    linked = set(LINK.findall(text))
    assert {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")} <= linked
