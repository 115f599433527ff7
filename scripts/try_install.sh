#!/usr/bin/env bash
# Installs fanbench as a wheel, as a user would, in an empty home folder, and takes it through the README's first task.
#
#   scripts/try_install.sh pip|uv|pipx [PYTHON]
#
# PYTHON is an interpreter of 3.11 to 3.13 (default: python3). uv and pipx must be on PATH if they are named.
set -euo pipefail
installer=${1:?name pip, uv or pipx} python=$(realpath "$(command -v "${2:-python3}")")
cd "$(dirname "$0")/.."

home=$(mktemp -d)
trap 'fanbench stop || true; rm -rf "$home"' EXIT
"$python" -m pip wheel --quiet --no-deps --wheel-dir "$home/dist" .
wheel=$(echo "$home"/dist/*.whl)
export HOME=$home FANBENCH_DATA=$home/data PATH=$home/.local/bin:$home/venv/bin:$PATH
unset XDG_CONFIG_HOME XDG_DATA_HOME XDG_CACHE_HOME VIRTUAL_ENV

step() { printf '\n$ %s\n' "$*"; "$@"; }

case $installer in
pip)
    step "$python" -m venv "$home/venv"
    step pip install --quiet "$wheel[local]"
    ;;
uv) step uv tool install --quiet --python "$python" "$wheel[local]" ;;
pipx) step pipx install --quiet --python "$python" "$wheel[local]" ;;
*) echo "Unknown installer: $installer" >&2 && exit 2 ;;
esac

mkdir "$home/project"
cd "$home/project"
step fanbench --version
step fanbench --help >/dev/null
step fanbench models add smollm2 --no-check
step fanbench init -y --local
step fanbench doctor --local
step fanbench check example_task.py
step fanbench tasks push what-is-kaggle -f example_task.py --wait --local
step fanbench tasks run what-is-kaggle -m smollm2-135m-instruct --wait --local
step fanbench tasks download what-is-kaggle -o results --local
step fanbench results results
step fanbench sweep example_task.py --all-models -o sweep -y --local
step fanbench models list
step fanbench stop

case $installer in
pip) step pip uninstall --yes --quiet fanbench ;;
*) step "$installer" $([ "$installer" = uv ] && echo tool) uninstall fanbench ;;
esac
hash -r
if command -v fanbench >/dev/null; then echo "fanbench is still there: $(command -v fanbench)" && exit 1; fi
trap 'rm -rf "$home"' EXIT
