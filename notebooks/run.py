"""Run the notebooks in place and keep their outputs: `make notebooks`."""

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

FOLDER = Path(__file__).parent
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def executed(notebook: NotebookNode, folder: Path) -> NotebookNode:
    """The notebook with new outputs, and without what changes from run to run.

    Args:
        notebook: as read.
        folder: where its kernel starts.

    Returns:
        The same notebook; progress bars and warnings (standard error) are not kept.
    """
    client = NotebookClient(notebook, timeout=600, record_timing=False)
    client.execute(cwd=str(folder))
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs = [of for of in cell.outputs if not _is_noise(of)]
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return notebook


def _is_noise(output: NotebookNode) -> bool:
    widget = "application/vnd.jupyter.widget-view+json" in output.get("data", {})
    return widget or output.get("name") == "stderr"


def main() -> None:
    """Run all notebooks; a cell that fails ends it."""
    for path in NOTEBOOKS:
        sys.stdout.write(f"{path.name}\n")
        notebook = executed(nbformat.read(path, 4), FOLDER)
        nbformat.write(notebook, path)


if __name__ == "__main__":
    main()
