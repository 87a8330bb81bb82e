"The command from end to end, as a shell sees it."
import json, os, signal, subprocess, sys, time
from pathlib import Path
import pytest
from PIL import Image
from conftest import MAIN

def fails(done, *words):
    "Exit status 2, one line, no traceback"
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith('visionkit: '), done.stderr
    for w in words: assert w in done.stderr, done.stderr

def test_run_report_evaluate_predict(shell, tmp_path):
    assert shell('run', 'digits', '--smoke').returncode == 0
    run = tmp_path/'runs'/'digits-0-smoke'
    assert {'recipe.json', 'history.csv', 'checkpoint', 'model.safetensors', 'result.json',
            'report.html'} <= {p.name for p in run.iterdir()}
    again = shell('run', 'digits', '--smoke')
    assert again.returncode == 0 and 'after the last epoch' in again.stdout
    assert shell('report', run, '-o', 'page.html').returncode == 0
    page = (tmp_path/'page.html').read_text()
    assert 'digits' in page and 'src="http' not in page
    digits = Path(shell('fetch', 'digits').stdout.strip())
    summary = json.loads(shell('evaluate', run, digits, '--json').stdout)
    assert summary['n'] == 1797 and summary['classes'] == 10 and 0 < summary['accuracy'] <= 1
    image = tmp_path/'any-size.png'
    Image.open(next(digits.rglob('*.png'))).resize((40, 30)).save(image)
    name, pred, p = shell('predict', run, image).stdout.strip().split('\t')
    assert name == str(image) and pred in map(str, range(10)) and 0 < float(p) <= 1

def test_evaluate_gives_the_runs_own_figure(shell, tmp_path):
    import shutil
    from visionkit.all import StratifiedSplitter, get_source
    from fastai.vision.all import get_image_files
    assert shell('run', 'digits', '--smoke').returncode == 0
    files = sorted(get_image_files(get_source('digits')))[::4]   # what a smoke run takes
    for i in StratifiedSplitter(.2, seed=42)(files)[1]:
        target = tmp_path/'held-out'/files[i].parent.name/files[i].name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(files[i], target)
    run = tmp_path/'runs'/'digits-0-smoke'
    accuracy = json.loads((run/'result.json').read_text())['metrics']['accuracy_last']
    assert json.loads(shell('evaluate', run, tmp_path/'held-out', '--json').stdout)['accuracy'] == accuracy

def test_fast_answers(shell):
    "`--help` and `list` do not import torch, and answer in under a second of processor time"
    code = "import sys, resource; from visionkit.cli import main\ntry: main({!r})\nexcept SystemExit: pass\n" \
           "u = resource.getrusage(resource.RUSAGE_SELF); print(u.ru_utime + u.ru_stime, 'torch' in sys.modules)"
    for words in (['--help'], ['list'],
                  *([c, '--help'] for c in 'list fetch run report evaluate predict labels scoreboard'.split())):
        seconds, torch = subprocess.run([sys.executable, '-c', code.format(words)], capture_output=True,
                                        text=True).stdout.splitlines()[-1].split()
        assert torch == 'False' and float(seconds) < 1, words

def test_unknown_recipe(shell): fails(shell('run', 'mnist-stp6'), "did you mean 'mnist-step6'?")

def test_out_below_a_file(shell, tmp_path):
    (tmp_path/'file').write_text('')
    fails(shell('run', 'digits', '--smoke', '--out', tmp_path/'file'/'runs'), 'cannot be a folder')

def test_folder_of_another_recipe(shell, tmp_path):
    run = tmp_path/'runs'/'digits-0-smoke'
    run.mkdir(parents=True)
    (run/'recipe.json').write_text(json.dumps(
        dict(recipe='mnist-step1', recipe_hash='0', seed=0, fold=None, smoke=True)))
    fails(shell('run', 'digits', '--smoke'), 'mnist-step1', 'choose another --out')

def test_damaged_run(shell, tmp_path):
    run = tmp_path/'runs'/'digits-0-smoke'
    run.mkdir(parents=True)
    (run/'recipe.json').write_text('{"recipe": ')
    fails(shell('run', 'digits', '--smoke'), 'recipe.json is missing or damaged')

def test_folds_never_train_on_a_test_set(shell):
    fails(shell('run', 'mnist-step1', '--fold', 0), 'has a test set of its own')

def test_truncated_checkpoint(shell, tmp_path):
    assert shell('run', 'digits', '--smoke').returncode == 0
    run = tmp_path/'runs'/'digits-0-smoke'
    (run/'result.json').unlink()
    (run/'checkpoint').write_bytes((run/'checkpoint').read_bytes()[:5000])
    fails(shell('run', 'digits', '--smoke'), 'no readable checkpoint')
    assert (run/'checkpoint').stat().st_size == 5000

def test_no_archive_and_no_network(shell, tmp_path):
    env = dict(os.environ, VISIONKIT_CACHE=str(tmp_path/'cache'), FASTAI_HOME=str(tmp_path/'fastai'),
               HOME=str(tmp_path), VISIONKIT_ARCHIVES='', http_proxy='http://127.0.0.1:9',
               https_proxy='http://127.0.0.1:9')
    fails(shell('run', 'mnist-step1', env=env), 'mnist_png.tgz', 'VISIONKIT_ARCHIVES')
    assert not list((tmp_path/'runs').rglob('recipe.json')) # no data, no run

def test_not_a_run(shell, tmp_path):
    fails(shell('report', tmp_path))
    fails(shell('evaluate', tmp_path, tmp_path), 'no finished run')

def test_interrupt_and_resume(shell, tmp_path):
    words = [sys.executable, '-c', MAIN, 'run', 'digits']
    # A shell that runs tests in the background has SIGINT ignored, and its children inherit that
    listen = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
                               preexec_fn=listen)
    history = tmp_path/'runs'/'digits-0'/'history.csv'
    while not history.exists() and process.poll() is None: time.sleep(.1)
    process.send_signal(signal.SIGINT)
    error = process.communicate()[1]
    assert process.returncode == 130 and 'run the same line again' in error
    before = history.read_text().splitlines()
    assert 2 <= len(before) < 31
    assert shell('run', 'digits').returncode == 0
    assert len(history.read_text().splitlines()) == 31 and history.read_text().splitlines()[:len(before)] == before
    result = json.loads((tmp_path/'runs'/'digits-0'/'result.json').read_text())
    assert not result['smoke'] and result['metrics']['accuracy_last'] >= .98

def test_two_processes_do_not_share_a_run(shell, tmp_path):
    from filelock import FileLock
    run = tmp_path/'runs'/'digits-0-smoke'
    run.mkdir(parents=True)
    with FileLock(run/'.lock'): fails(shell('run', 'digits', '--smoke'), 'in use by another process')

def a_folder(tmp_path, per_class=30, wrong=.3):
    "Class folders of digits; the share `wrong` of each class lies in the folder of the next"
    import shutil
    from visionkit.all import get_source
    for c, folder in enumerate(sorted(get_source('digits').iterdir())):
        for i, f in enumerate(sorted(folder.iterdir())[:per_class]):
            target = tmp_path/'mine'/str((c + (i % 10 < 10*wrong)) % 10)/f.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(f, target)
    return tmp_path/'mine'

def test_labels(shell, tmp_path):
    import pandas as pd
    folder = a_folder(tmp_path)
    before = sorted(str(f) for f in folder.rglob('*.png'))
    done = shell('labels', folder, '--out', 'report')
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path/'report'/'noise.json').read_text())
    assert found['n'] == 300 and len(found['matrix']) == 10 and found['kind'] in ('asymmetric', 'symmetric', 'unknown')
    issues = pd.read_csv(tmp_path/'report'/'issues.csv', dtype=dict(given=str, suggested=str))
    assert (list(issues.columns) == 'path,given,suggested,p_given,p_suggested,score,verdict'.split(',')
            and len(issues) == 300)
    assert (folder/issues.path[0]).is_file()
    page = (tmp_path/'report'/'issues.html').read_text()
    assert 'p wrong' in page and 'http' not in page
    assert sorted(str(f) for f in folder.rglob('*.png')) == before   # nothing is moved or deleted
    again = shell('labels', folder, '--out', 'report')
    assert again.returncode == 0 and again.stdout.splitlines()[0] == done.stdout.splitlines()[0]
    (tmp_path/'trust.csv').write_text('path,label\nnowhere.png,3\n')
    fails(shell('labels', folder, '--out', 'report', '--trusted', 'trust.csv'), 'nowhere.png', 'is not in')
    next(folder.rglob('*.png')).rename(folder/'0'/'renamed.png')
    fails(shell('labels', folder, '--out', 'report'), 'other images, labels, stages or networks')

def test_labels_errors(shell, tmp_path):
    fails(shell('labels', 'nowhere'), 'nowhere', 'no such folder')
    (tmp_path/'one'/'class').mkdir(parents=True)
    Image.new('L', (8, 8)).save(tmp_path/'one'/'class'/'a.png')
    fails(shell('labels', 'one'), 'at least two class folders')
    (tmp_path/'one'/'other').mkdir()
    Image.new('L', (8, 8)).save(tmp_path/'one'/'other'/'b.png')
    fails(shell('labels', 'one'), 'too few for 3 folds')
    Image.new('L', (8, 8)).save(os.fsencode(tmp_path/'one'/'other') + b'/caf\xe9.png')
    fails(shell('labels', 'one'), 'is not UTF-8: rename it')

def test_labels_of_few_images(shell, tmp_path):
    for c in 'ab':
        (tmp_path/'few'/c).mkdir(parents=True)
        for i in range(6): Image.new('L', (16, 16), 20*i + 100*(c == 'b')).save(tmp_path/'few'/c/f'{i}.png')
    done = shell('labels', 'few')
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path/'labels-few'/'noise.json').read_text())['n'] == 12

def test_a_recipe_of_ones_own_in_place_of_another():
    "Also where it is registered before visionkit's own are read"
    code = ("from visionkit.recipes.core import *; from visionkit.core import *; "
            "mine = register(Recipe('digits', 'mine', 'digits', 'digits', Spec('nn'), 0, (Stage(),))); "
            "assert get_recipe('digits') is mine and len(recipes()) > 20")
    subprocess.run([sys.executable, '-c', code], check=True)
