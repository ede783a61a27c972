"""LaTeX, where it is installed: the PDF of a source, and the text on its pages."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

HAS_LATEX = pytest.mark.skipif(not shutil.which("pdflatex"), reason="needs pdflatex")
DOCUMENT = "\\documentclass{article}\n\\usepackage{booktabs}\n\\begin{document}\n%s\n\\end{document}\n"


def compiled(body: str, folder: Path, bibliography: str = "") -> str:
    """Compile a body in which every error is one, and return the log."""
    (folder / "paper.tex").write_text(DOCUMENT % body)
    (folder / "references.bib").write_text(bibliography)
    log = _run(folder, "pdflatex", "-halt-on-error", "-interaction=nonstopmode", "paper.tex")
    if bibliography:
        said = _run(folder, "bibtex", "paper")
        assert "Warning" not in said, said
        for _ in range(2):
            log = _run(folder, "pdflatex", "-halt-on-error", "-interaction=nonstopmode", "paper.tex")
    assert (folder / "paper.pdf").exists()
    return log


def printed(folder: Path) -> str:
    """Return the text on the pages of the PDF; skip the test without pdftotext."""
    if not shutil.which("pdftotext"):
        pytest.skip("needs pdftotext")
    return _run(folder, "pdftotext", "-layout", "paper.pdf", "-")


def _run(folder: Path, *command: str) -> str:
    done = subprocess.run(command, capture_output=True, cwd=folder, timeout=120)
    text = done.stdout.decode("utf-8", "replace")
    assert done.returncode == 0, text[-4000:]
    return text
