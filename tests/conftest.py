import os, sys
from pathlib import Path
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent/'tools'))

# Small images gain nothing from two threads, and one thread makes floating-point sums repeat
os.environ.setdefault('OMP_NUM_THREADS', '1')

from visionkit.cli import main
from warm import capture

@pytest.fixture
def shell(tmp_path):
    "Run `visionkit WORDS` in an empty folder, with the environment variables `env`; returns the finished process"
    def run(*words, env=None): return capture(main, [*map(str, words)], cwd=tmp_path, environ=env)
    return run
