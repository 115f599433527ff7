"""Draw the output of a terminal as an SVG: `scripts/demo.sh 2>&1 | python scripts/picture.py docs/demo.svg`.

Only the first log lines are drawn, because there are many and they look alike.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

WIDTH = 112
LOG_LINES = 14

# rich's own template loads a web font. This one uses whatever monospaced font is installed.
FRAME = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{
  font-family: monospace; font-size: {char_height}px; line-height: {line_height}px; white-space: pre;
}}
{styles}
</style>
<defs>{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})">{backgrounds}
<g class="{unique_id}-matrix" xml:space="preserve">{matrix}</g></g>
</svg>
"""


def select_lines(lines: list[str]) -> list[str]:
    """Return the lines from the first push onwards, with only the first log lines."""
    start = next((number for number, line in enumerate(lines) if "tasks push -f" in line), 0)
    kept, logs = [], 0
    for line in lines[start:]:
        plain = Text.from_ansi(line).plain.rstrip()
        is_log = " | " in plain or plain.endswith("|")
        logs += is_log
        if not is_log or logs <= LOG_LINES:
            kept.append(line)
        elif logs == LOG_LINES + 1:
            kept.append("   … the log lines of all runs, live …")
    return kept


def main() -> None:
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    for line in select_lines(sys.stdin.read().replace("\r", "").splitlines()):
        console.print(Text.from_ansi(line), soft_wrap=False, overflow="crop", no_wrap=True)
    svg = console.export_svg(title="make demo", code_format=FRAME)
    Path(sys.argv[1]).write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main()
