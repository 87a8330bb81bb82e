"The benchmarks run, in a small form: what they write has the figures that the page on benchmarks draws."
import json, os, runpy, sys
from pathlib import Path
import pytest
from warm import capture

ROOT = Path(__file__).resolve().parent.parent

def benchmark(name, *words):
    "Run a benchmark as Python runs a file"
    file = str(ROOT/'benchmarks'/f'{name}.py')
    sys.argv[:] = file, *words
    sys.path[0] = str(ROOT/'benchmarks')
    runpy.run_path(file, run_name='__main__')

def run(name, *words):
    env = {**os.environ, 'PYTHONPATH': str(ROOT), 'PYTHONWARNINGS': 'ignore', 'OMP_NUM_THREADS': '1'}
    done = capture(benchmark, name, *words, environ=env, timeout=900)
    assert not done.returncode, done.stderr[-2000:]
    return done.stdout

def report(name, tmp_path, *words):
    run(name, *words, '--out', str(tmp_path/'out.json'))
    res = json.loads((tmp_path/'out.json').read_text())
    assert res['hardware']['cores'] >= 1 and res['versions']['torch'] and res['command']
    return res

def test_decode(tmp_path):
    sets = report('decode', tmp_path, '--smoke')['sets']
    assert set(sets) == {'large', 'camera', 'small'}
    for name, s in sets.items():
        assert s['clock']['ratio'] > 0 and s['cpu']['visionkit'] > 0 and s['cpu']['fastai'] > 0
        assert s['difference']['largest'] <= 2
        assert (s['difference']['mean'] > 0) == (name != 'small') # a fraction is decoded of large images only

def test_disk(tmp_path):
    images = report('decode', tmp_path, '--disk', '1200')['images']
    assert set(images) == {'120', '1200'}
    for n, o in images.items():
        assert o['gb'] == pytest.approx(int(n)*3*224*224/1e9, abs=.01)
        assert o['second']['cpu'] < o['first']['cpu']

def test_growth(tmp_path):
    found = report('growth', tmp_path, '--smoke')['measurements']
    assert set(found) == set('files decode reopen epoch steps labels inspect train'.split())
    for name, o in found.items():
        assert set(o['by_images']) == {'200', '400'} and o['by_images']['400']['cpu'] > 0, name
    assert 'issues.html' in found['labels']['by_images']['400']['kb']

def test_photographs(tmp_path):
    res = report('photographs', tmp_path, '--smoke')
    arms, = res['races'].values()
    assert set(arms) == {'float32', 'auto'} and all(o['cpu']['ratio'] > 0 for o in arms.values())
    parts, = res['parts'].values()
    assert sum(parts['shares'].values()) == pytest.approx(1, abs=.01)
    assert {'convolution', 'normalisation', 'optimiser', 'loader and augmentation'} <= {*parts['shares']}

def test_loader():
    out = run('loader', '--data', 'digits', '--n', '128', '--rounds', '1', '--workers', '0')
    assert 'first epoch, memory only' in out and 'later epochs, with augmentation' in out

def test_minutes(tmp_path):
    first, second = [report('minutes', tmp_path, '--smoke')['tries'] for _ in range(2)]
    assert len(first) == 1 and second[:1] == first and len(second) == 2
    assert 0 < first[0]['accuracy'] < 1 and first[0]['of_the_minutes'] == pytest.approx(first[0]['seconds']/60, abs=.01)
