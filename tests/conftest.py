import os, subprocess, sys
from pathlib import Path
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent/'tools'))

# Small images gain nothing from two threads, and one thread makes floating-point sums repeat
os.environ.setdefault('OMP_NUM_THREADS', '1')

from visionkit.cli import main
from warm import capture

MAIN = 'import sys; from visionkit.cli import main; sys.exit(main())'

@pytest.fixture
def shell(tmp_path):
    "Run `visionkit WORDS` in an empty folder, with `env` in a new Python; returns the finished process"
    def run(*words, env=None):
        words = [*map(str, words)]
        if env is None: return capture(main, words, cwd=tmp_path)
        return subprocess.run([sys.executable, '-c', MAIN, *words], cwd=tmp_path, env=env, capture_output=True, text=True)
    return run
