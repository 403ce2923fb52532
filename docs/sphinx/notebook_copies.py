"""`generated/notebooks/`: copies of notebooks/*.ipynb, since Sphinx reads nothing outside docs."""

import json
from pathlib import Path
from typing import Any

NONE = "There is none in this checkout.\n"


def copy_notebooks(docs: Path) -> None:
    """Copy what is new, remove what is gone, write `generated/notebooks.md`: the list of them."""
    source, target = docs.parent / "notebooks", docs / "generated" / "notebooks"
    target.mkdir(parents=True, exist_ok=True)
    wanted = {path.name: path for path in sorted(source.glob("*.ipynb"))}
    for path in target.glob("*.ipynb"):
        if path.name not in wanted:
            path.unlink()
    for name, path in wanted.items():
        copy, text = target / name, with_alt_text(path.read_text("utf-8"))
        if not copy.exists() or copy.read_text("utf-8") != text:
            copy.write_text(text, "utf-8")
    entries = "\n".join(f"generated/notebooks/{Path(name).stem}" for name in wanted)
    toctree = f"```{{toctree}}\n:maxdepth: 1\n\n{entries}\n```\n"
    page = toctree if wanted else NONE
    path = docs / "generated" / "notebooks.md"
    if not path.exists() or path.read_text("utf-8") != page:
        path.write_text(page, "utf-8")


def with_alt_text(notebook: str) -> str:
    """The notebook with its figures' alt texts where MyST-NB looks for them: at the cell."""
    content = json.loads(notebook)
    for cell in content.get("cells", []):
        for output in cell.get("outputs", []):
            if alt := output.get("metadata", {}).get("image/png", {}).get("alt"):
                cell["metadata"]["mystnb"] = {"image": {"alt": alt}}
    return json.dumps(content, ensure_ascii=False, indent=1)


def setup(app: Any) -> dict[str, bool]:
    """Copy before Sphinx looks for pages."""
    app.connect("builder-inited", lambda app: copy_notebooks(Path(app.srcdir)))
    return {"parallel_read_safe": True}
