#!/usr/bin/env bash
# Build the wheel, install it where there is no checkout, and use it. Dependencies come from .venv, or, with --empty, from the index.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$PWD/.venv/bin/python
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m build --outdir "$work/dist" . > "$work/build.log" 2>&1 || { tail -n 30 "$work/build.log"; exit 1; }
"$python" -m venv "$work/venv"
if [ "${1:-}" = --empty ]; then "$work/venv/bin/pip" install -q "$work"/dist/*.whl
else
  # The new environment sees the packages of the first, but not the checkout: its editable install is a path hook that a .pth does not run twice
  site=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
  "$work/venv/bin/pip" install -q --no-deps "$work"/dist/*.whl
  "$work/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])' > "$work/site"
  printf 'import sys; sys.path.append(%s)\n' "'$site'" > "$(cat "$work/site")/dependencies.pth"
fi
cd "$work"
"$work/venv/bin/python" -c "
import visionkit, pathlib
from importlib.metadata import entry_points, metadata, version
assert pathlib.Path(visionkit.__file__).is_relative_to('$work'), visionkit.__file__
assert version('visionkit') == visionkit.__version__ and metadata('visionkit')['License-Expression'] == 'Apache-2.0'
from visionkit.all import *
print('visionkit', visionkit.__version__, 'imported from the wheel')"
"$work/venv/bin/visionkit" list
"$work/venv/bin/visionkit" run digits --smoke --out "$work/runs"
"$work/venv/bin/visionkit" report "$work/runs/digits-0-smoke" -o "$work/report.html"
