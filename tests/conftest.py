import os, subprocess, sys
from pathlib import Path
import pytest

# Small images gain nothing from two threads, and one thread makes floating-point sums repeat
os.environ.setdefault('OMP_NUM_THREADS', '1')

MAIN = 'import sys; from visionkit.cli import main; sys.exit(main())'

@pytest.fixture
def shell(tmp_path):
    "Run `visionkit WORDS` in an empty folder; returns the finished process"
    def run(*words, **kwargs):
        return subprocess.run([sys.executable, '-c', MAIN, *map(str, words)], cwd=tmp_path, capture_output=True,
                              text=True, **kwargs)
    return run
