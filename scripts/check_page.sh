#!/usr/bin/env bash
# Checks the types of the page's JavaScript, and lints it. The tools are installed into scripts/page/node_modules, in
# the versions of its package-lock.json. Without node, it says so and checks nothing.
set -euo pipefail
cd "$(dirname "$0")/page"

if ! command -v npm >/dev/null; then
    echo "Skipped: the page's JavaScript is not checked without node and npm."
    exit
fi
if [ package-lock.json -nt node_modules/.package-lock.json ]; then
    npm ci --no-audit --no-fund --loglevel=error
fi
npm run --silent check
