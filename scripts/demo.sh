#!/usr/bin/env bash
# Runs three tasks on two real models with the local server, printing each command as a user would type it.
# Works in a temporary folder, which is removed at the end (KEEP=1 keeps it), and leaves fanbench-demo.html, a report of
# the results, in the current folder.
set -euo pipefail

report=$PWD/fanbench-demo.html
here=$(cd "$(dirname "$0")/.." && pwd)
export PATH="$here/${VENV:-.venv}/bin:$PATH"
workspace=$(mktemp -d "${TMPDIR:-/tmp}/fanbench-demo.XXXXXX")
export FANBENCH_DATA="$workspace/data"
began=$SECONDS

end() {
    fanbench stop >/dev/null 2>&1 || true
    if [ -n "${KEEP:-}" ]; then echo "Kept: $workspace"; else rm -rf "$workspace"; fi
}
trap end EXIT
trap 'exit 130' INT TERM

step() {
    if [ -t 1 ]; then printf '\n\033[1m$ %s\033[0m\n' "$*"; else printf '\n$ %s\n' "$*"; fi
    "$@"
}

step fanbench models add smollm2 gemma3
cd "$workspace"
cp "$here"/examples/tasks/*.py .
step fanbench init -y --local
step fanbench check arithmetic.py capital_cities.py word_table.py
step fanbench tasks push -f arithmetic.py -f capital_cities.py -f word_table.py --wait --local
step fanbench tasks run arithmetic capital-cities word-table \
    -m smollm2-135m-instruct -m gemma-3-270m --wait --logs --local
for task in arithmetic capital-cities word-table; do
    step fanbench tasks download "$task" -o results --local
done
step fanbench results results
step fanbench report results -o "$report"
step fanbench stop
printf '\nDone in %d s: three tasks on two models, offline. To look at them, open this file in a browser:\n%s\n' \
    $((SECONDS - began)) "$report"
