"""Runs the cells of a notebook in order, as Jupyter does: `python run_notebook.py FILE`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from IPython.core.async_helpers import get_asyncio_loop
from IPython.core.interactiveshell import InteractiveShell


def main() -> None:
    shell = InteractiveShell.instance()
    for cell in json.loads(Path(sys.argv[1]).read_text())["cells"]:
        if cell["cell_type"] == "code" and not shell.run_cell("".join(cell["source"])).success:
            sys.exit(1)
    get_asyncio_loop().close()


main()
