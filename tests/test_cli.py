"The command from end to end, as a shell sees it."
import json, os, signal, subprocess, sys, time
from pathlib import Path
import pytest
from PIL import Image
from visionkit.cli import main
from warm import capture, job, script

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
                  *([c, '--help'] for c in 'list fetch train run sweep report evaluate predict export inspect labels scoreboard'.split())):
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
    fails(shell('run', 'digits', '--smoke'), 'is not a readable checkpoint')
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

def listening(words):
    "The command in a process that SIGINT reaches, also if a shell in the background, which ignores it, runs the tests"
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return main(words)

def test_interrupt_and_resume(shell, tmp_path):
    errors = tmp_path/'errors'
    process = job(listening, ['run', 'digits'], cwd=tmp_path, files=(os.devnull, errors))
    process.start()
    history = tmp_path/'runs'/'digits-0'/'history.csv'
    while not history.exists() and process.is_alive(): time.sleep(.1)
    os.kill(process.pid, signal.SIGINT)
    process.join()
    assert process.exitcode == 130 and 'run the same line again' in errors.read_text()
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
    cost, *rest = done.stdout.splitlines()
    assert cost.startswith('3 networks (small, weights none), 40 epochs at 16 pixels: about')
    assert again.returncode == 0 and again.stdout.splitlines() == rest # the second time nothing is trained
    next(folder.rglob('*.png')).rename(folder/'0'/'renamed.png')
    fails(shell('labels', folder, '--out', 'report'), 'other images, labels, stages or networks')

def test_labels_errors(shell, tmp_path):
    fails(shell('labels', 'nowhere'), 'nowhere', 'no such folder')
    (tmp_path/'one'/'class').mkdir(parents=True)
    Image.new('L', (8, 8)).save(tmp_path/'one'/'class'/'a.png')
    fails(shell('labels', 'one'), 'at least two class folders')
    (tmp_path/'one'/'other').mkdir()
    Image.new('L', (8, 8)).save(tmp_path/'one'/'other'/'b.png')
    fails(shell('labels', 'one'), "class 'class' has 1 image, too few for 3 folds", 'add images to it')
    Image.new('L', (8, 8)).save(os.fsencode(tmp_path/'one'/'other') + b'/caf\xe9.png')
    fails(shell('labels', 'one'), 'is not UTF-8: rename it')

def test_labels_of_few_images(shell, tmp_path):
    for c in 'ab':
        (tmp_path/'few'/c).mkdir(parents=True)
        for i in range(6): Image.new('L', (16, 16), 20*i + 110*(c == 'b')).save(tmp_path/'few'/c/f'{i}.png')
    done = shell('labels', 'few')
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path/'labels-few'/'noise.json').read_text())
    assert (found['n'], found['kind'], found['rate'], found['interval']) == (12, 'unknown', None, [0, 1])
    assert '12 images are too few' in done.stdout and 'standard deviations' not in done.stdout

def test_a_recipe_of_ones_own_in_place_of_another():
    "Also where it is registered before visionkit's own are read"
    code = ("from visionkit.plan import *; from visionkit.recipe import *; "
            "mine = register(Recipe('digits', 'mine', 'digits', ImageSet('digits'), Spec('nn'), 0, (Stage(),))); "
            "assert get_recipe('digits') is mine and len(recipes()) > 20")
    assert capture(script, code).returncode == 0

@pytest.fixture
def no_training(monkeypatch):
    "What is wrong with the input must come to light before any network is trained"
    import visionkit.folds
    monkeypatch.setattr(visionkit.folds, '_fold', lambda *args: pytest.fail('trained first'))

@pytest.fixture
def command(capsys, tmp_path, monkeypatch):
    "Run a command in this process; returns (exit status, standard output, standard error)"
    monkeypatch.chdir(tmp_path)
    def run(*words):
        status = main(list(map(str, words)))
        done = capsys.readouterr()
        return status, done.out, done.err
    return run

def two_classes(folder, n=6, names=('cat', 'dog')):
    "`n` flat images of each class"
    for c, name in enumerate(names):
        (folder/name).mkdir(parents=True)
        for i in range(n): Image.new('L', (16, 16), 20*i + 100*c).save(folder/name/f'{i}.png')
    return folder

GOOD = [(f'{c}/{i}.png', c) for c in ('cat', 'dog') for i in range(5)]

@pytest.mark.parametrize('rows, words', [
    (GOOD + [('cat/5.png', 'wolf')], "'wolf' is not a class"), (GOOD[:9], "4 trusted images of 'dog'"),
    ([], "0 trusted images of 'cat'"), (GOOD + [('cat/0.png', 'dog')], 'cat/0.png has two labels: cat and dog'),
    (GOOD + [('nowhere.png', 'cat')], 'nowhere.png is not among'), (GOOD + [('../cat/0.png', 'cat')], 'is not among'),
    ([(p, 'cat') for p in ('cat/0.png', './cat/0.png', 'cat//0.png', 'cat/../cat/0.png', 'FULL/cat/0.png')] + GOOD[5:],
     "1 trusted images of 'cat'")])
def test_trusted_is_checked_before_the_training(command, no_training, tmp_path, rows, words):
    folder = two_classes(tmp_path/'mine')
    text = ''.join(f'{p.replace("FULL", str(folder))},{c}\n' for p, c in rows)
    (tmp_path/'trust.csv').write_text('path,label\n' + text)
    status, out, error = command('labels', folder, '--trusted', 'trust.csv')
    assert status == 2 and words in error and len(error.splitlines()) == 1

@pytest.mark.parametrize('text', ['', 'path\ncat/0.png\n', 'file,label\nx,cat\n', 'path,label\n"cat/0.png,cat\n',
                                  'path,label\ncat/0.png\n', 'path,label\ncat/0.png,cat,dog\n', '\udcff'])
def test_trusted_that_is_no_table(command, no_training, tmp_path, text):
    two_classes(tmp_path/'mine')
    (tmp_path/'trust.csv').write_bytes(text.encode('utf-8', 'surrogateescape'))
    status, out, error = command('labels', 'mine', '--trusted', 'trust.csv')
    assert status == 2 and 'trust.csv' in error and len(error.splitlines()) == 1

def test_other_inputs_of_labels_are_checked_before_the_training(command, no_training, tmp_path):
    two_classes(tmp_path/'mine')
    for name in ('noise.json', 'issues.csv', 'issues.html'):
        (tmp_path/name/name).mkdir(parents=True)
        status, out, error = command('labels', 'mine', '--out', name)
        assert status == 2 and f'{name}/{name} is a folder' in error

def test_an_unreadable_image_is_named_before_the_training(command, tmp_path, monkeypatch):
    from fastai.vision.all import Learner
    two_classes(tmp_path/'mine', 40)
    (tmp_path/'mine'/'cat'/'9.png').write_bytes(b'no image')
    monkeypatch.setattr(Learner, 'fit_stages', lambda *args: pytest.fail('trained first'))
    status, out, error = command('labels', 'mine')
    assert status == 2 and '9.png' in error

def test_a_table_as_folder_and_its_own_issues_as_trusted(tmp_path):
    from visionkit.data import image_items
    from visionkit.folds import named_items, trusted_images
    folder = two_classes(tmp_path/'mine')
    rows = [(f'mine/{p}', c) for p, c in GOOD] + [(str(folder/p), c) for p, c in GOOD]
    (tmp_path/'list.csv').write_text('path,label\n' + ''.join(f'{p},{c}\n' for p, c in rows))
    items, labels, names, root = named_items(tmp_path/'list.csv')
    assert len(items) == 10 # one file under two spellings is one image
    for spell in (lambda p: p, lambda p: str(folder.parent/p), lambda p: f'./mine/../{p}'):
        trusted = {spell(f'mine/{p}'): c for p, c in GOOD}
        at, true = trusted_images({**trusted, **dict(zip(names, labels))}, names, ['cat', 'dog'], items, root)
        assert sorted(at) == list(range(10)) and [labels[i] for i in at] == [['cat', 'dog'][c] for c in true]
    (tmp_path/'list.csv').write_text(f'path,label\nmine/cat/0.png,cat\n{folder}/cat/0.png,dog\n')
    with pytest.raises(ValueError, match='is listed twice, with two labels'): image_items(tmp_path/'list.csv')

def fake_fold(learn_at, source, splitter, stages, out):
    "In place of a training: each held-out image is judged by the number in its name"
    import torch
    from visionkit.data import image_items
    items = image_items(source)
    held = [items[i] for i in splitter(items)[1]]
    share = torch.tensor([len(o.name) % 7/10 + .1 for o in held])
    return held, torch.stack([share, 1 - share], 1), ['=1+1', 'dog'], 0.

def test_names_come_back_from_issues(command, tmp_path, monkeypatch):
    "A class that a spreadsheet would run, and names with line breaks, tabs and colours"
    import pandas as pd, visionkit.folds
    from visionkit.data import relabel
    monkeypatch.setattr(visionkit.folds, '_fold', fake_fold)
    folder = two_classes(tmp_path/'mine', 6, ('=1+1', 'dog'))
    for i, name in enumerate(['\r', '\n', '\t', '\x1b[31m', ',";']):
        (folder/'dog'/f'{i}.png').rename(folder/'dog'/f'{i}{name}.png')
    status, out, error = command('labels', folder, '--out', 'out')
    assert status == 0 and '\x1b' not in out + error
    plain = pd.read_csv(tmp_path/'out'/'issues.csv')
    assert len(plain) == 12 and not plain.given.str.match('[=+@-]').any()
    table = relabel(folder, tmp_path/'out'/'issues.csv', 'given')
    assert set(table.path) == {str(f) for f in folder.rglob('*.png')} and set(table.label) == {'=1+1', 'dog'}
    # Once more from a spreadsheet of another country
    plain.to_csv(tmp_path/'out'/'issues.csv', index=False, sep=';', lineterminator='\r\n', encoding='utf-8-sig')
    pd.testing.assert_frame_equal(relabel(folder, tmp_path/'out'/'issues.csv', 'given'), table)

@pytest.mark.parametrize('change', [
    lambda t, m: t.pop('index'), lambda t, m: t['index'].fill_(999), lambda t, m: t['index'].fill_(-1),
    lambda t, m: t['index'].fill_(0), lambda t, m: t.update(index=t['index'].flip(0).contiguous()),
    lambda t, m: t.update(probs=t['probs'][:, :1].contiguous()), lambda t, m: t['probs'].fill_(float('nan')),
    lambda t, m: t['probs'].mul_(.5), lambda t, m: m.pop('seconds'), lambda t, m: m.update(seconds='x'),
    lambda t, m: m.clear()])
def test_edited_folds_are_refused_before_the_training(tmp_path, monkeypatch, change):
    import visionkit.folds
    from safetensors import safe_open
    from safetensors.torch import load_file, save
    from visionkit.core import InputError
    from visionkit.folds import oof_preds
    folder, file = two_classes(tmp_path/'mine', 6, ('=1+1', 'dog')), tmp_path/'oof'/'fold1.safetensors'
    monkeypatch.setattr(visionkit.folds, '_fold', fake_fold)
    first = oof_preds(folder, out=tmp_path/'oof')
    with safe_open(file, 'np') as f: meta = f.metadata()
    data = load_file(file)
    file.write_bytes(save(data, metadata=meta)) # saved again as it was: read
    (tmp_path/'oof'/'fold0.safetensors').unlink()
    assert oof_preds(folder, out=tmp_path/'oof').probs.equal(first.probs)
    change(data, meta)
    file.write_bytes(save(data, metadata=meta))
    (tmp_path/'oof'/'fold0.safetensors').unlink()
    monkeypatch.setattr(visionkit.folds, '_fold', lambda *args: pytest.fail('trained first'))
    with pytest.raises(InputError, match='fold1.safetensors'): oof_preds(folder, out=tmp_path/'oof')

def test_a_learner_must_hold_out_what_it_is_told(tmp_path, monkeypatch):
    import visionkit.folds
    from visionkit.core import InputError
    def careless(*args):
        held, p, names, seconds = fake_fold(*args)
        return held[1:], p[1:], names, seconds
    monkeypatch.setattr(visionkit.folds, '_fold', careless)
    with pytest.raises(InputError, match='3 images were in no fold'):
        visionkit.folds.oof_preds(two_classes(tmp_path/'mine', 6, ('=1+1', 'dog')))

@pytest.fixture(scope='module')
def smoke_run(tmp_path_factory):
    from visionkit.experiment import reproduce
    return reproduce('digits', smoke=True, out=tmp_path_factory.mktemp('runs'), bars=False).path

def test_edited_weights_and_recipes(command, smoke_run, tmp_path):
    "`predict` reads them right or says in one line what is wrong; no name in them is looked up"
    import shutil
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file
    from visionkit.sources import get_source
    image = next((get_source('digits')/'3').glob('*.png'))
    weights = load_file(smoke_run/'model.safetensors')
    with safe_open(smoke_run/'model.safetensors', 'pt') as f: meta = json.loads(f.metadata()['visionkit'])
    about = json.loads((smoke_run/'recipe.json').read_text())
    run = tmp_path/'run'
    shutil.copytree(smoke_run, run)
    def told(tensors=weights, meta=meta, about=about):
        save_file(tensors, run/'model.safetensors', meta if meta is None else {'visionkit': json.dumps(meta)})
        (run/'recipe.json').write_text(json.dumps(about))
        return command('predict', run, image)
    right = told()
    assert right[0] == 0 and len(right[1].splitlines()) == 1
    bad_meta = [None, {}, [], dict(stats=meta['stats']), dict(meta, vocab=meta['vocab'][1:]), dict(meta, vocab=[1]*10),
                dict(meta, vocab='0123456789'), dict(meta, vocab=['0']*10), dict(meta, stats=3),
                dict(meta, stats=[[1, 2]]), dict(meta, stats=[[[[[[0.]]]], [[[[0.]]]]]]),
                dict(meta, stats=[[[[[['x']]]], [[[[1.]]]]]])]
    bad_weights = [{k: v for k, v in weights.items() if not k.endswith(".weight")},
                   {k: v[:1].clone() if v.ndim else v for k, v in weights.items()},
                   {k: v*float('nan') if v.is_floating_point() else v for k, v in weights.items()}]
    settings = about['settings']
    bad_about = [dict(about, recipe=r) for r in (None, ['x'], 'os.system', {})] + [
        dict(about, settings=s) for s in (None, [], {}, dict(settings, stages=[]), dict(settings, stages=True),
                                          dict(settings, model={'call': 'os.system', 'args': ['touch pwned']}),
                                          dict(settings, loss={'call': 'builtins.exec', 'args': ['1/0']}))]
    for kwargs in ([dict(meta=m) for m in bad_meta] + [dict(tensors=w) for w in bad_weights]
                   + [dict(about=a) for a in bad_about]):
        status, out, error = told(**kwargs)
        assert (status, out, len(error.splitlines())) == (2, '', 1), (kwargs.keys(), out, error)
    assert told() == right
    for encoding in ('utf-8-sig', 'utf-16'):
        (run/'recipe.json').write_text(json.dumps(about, indent=4).replace('\n', '\r\n'), encoding=encoding)
        assert command('predict', run, image) == right
    for text in ('', '[', '['*100_000, '3'):
        (run/'recipe.json').write_text(text)
        status, out, error = command('predict', run, image)
        assert status == 2 and 'recipe.json' in error and len(error.splitlines()) == 1

@pytest.mark.parametrize('change', [
    lambda s: s.pop('marks'), lambda s: s.update(rng={}), lambda s: s.update(history='x'), lambda s: s.update(smooth=3),
    lambda s: s.update(epoch='1'), lambda s: s.update(stage=9), lambda s: s['rng'].update(numpy=3),
    lambda s: s.update(stats=[1]), lambda s: s.update(loaders=[1]), lambda s: s['opt'].clear()])
def test_edited_checkpoint(command, smoke_run, tmp_path, change):
    import shutil, torch
    run = tmp_path/'runs'/smoke_run.name
    shutil.copytree(smoke_run, run)
    (run/'result.json').unlink()
    state = torch.load(run/'checkpoint', weights_only=True)
    state.update(stage=0, epoch=0)
    change(state)
    torch.save(state, run/'checkpoint')
    status, out, error = command('run', 'digits', '--smoke')
    assert status == 2 and 'checkpoint' in error and len(error.splitlines()) == 1

def test_a_run_whose_output_is_in_the_way(command, smoke_run, tmp_path):
    import shutil
    run = tmp_path/'runs'/smoke_run.name
    for name in ('model.safetensors', 'report.html', 'predictions.csv'):
        shutil.rmtree(tmp_path/'runs', ignore_errors=True)
        (run/name).mkdir(parents=True)
        status, out, error = command('run', 'digits', '--smoke')
        assert status == 2 and f'{name} is a folder' in error and not (run/'history.csv').exists()
