"`export_run`: every family of networks, the proof, the format, and what is refused."
import json, subprocess, sys
from dataclasses import replace
from pathlib import Path
import numpy as np, onnx, onnxruntime, pytest, torch
from fastai.vision.learner import create_body, create_head
from PIL import Image
from torch import nn
from warm import capture, script
import visionkit.export as room
from visionkit.all import (CenterResize, InputError, Spec, export_run, get_recipe, get_source, n_params, named,
                           network, predict, recipes, register, registry, reproduce, save_weights, to_json)
from visionkit.experiment import recipe_model

def untrained(recipe, folder):
    "The folder of a run of `recipe` that has random weights, and digits to prove it with"
    recipe = recipe.smoke()
    model = recipe_model(recipe)
    with torch.no_grad(): # norms that normalise nothing would hide a wrong order of layers
        for l in model.modules():
            if hasattr(l, 'running_var'): l.running_mean.normal_(0, .1), l.running_var.uniform_(.5, 2)
    folder.mkdir(parents=True)
    about = dict(recipe=recipe.name, smoke=True, settings=to_json(recipe))
    (folder/'recipe.json').write_text(json.dumps(about))
    stats = [[np.full((1, recipe.data.n_in, 1, 1), v, dtype='float32').tolist() for v in (.4, .3)]]
    save_weights(model, folder/'model.safetensors', dict(vocab=list('0123456789'), stats=stats))
    return folder

def digits(n=5): return sorted(get_source('digits').rglob('*.png'))[::1797//n][:n]

FAST = ['digits', 'characters-fast', 'cifar-best', 'eva-s5-f3', 'mnist-best1k']
FAMILIES = FAST + [pytest.param(n, marks=pytest.mark.slow) for n in '''characters cifar-era cifar-tsai cifar-s7 cifar-s8
cifar-s11 cifar-small mnist-step0 mnist-step6 mnist-teacher eva-s4 eva-s5-f1 noisy-digits-cnn noisy-digits-resnet18
fair-gbn32'''.split()]

@pytest.mark.parametrize('name', FAMILIES)
def test_every_family(name, tmp_path):
    run = untrained(get_recipe(name), tmp_path/'run')
    done = export_run(run, tmp_path/'m.onnx', digits())
    assert done.n_images == 5 and done.difference < 1e-4
    onnx.checker.check_model(onnx.load(tmp_path/'m.onnx'), full_check=True)

def test_no_family_is_left_out():
    "Each function that builds the network of a recipe is tried above"
    tried = {get_recipe(n if isinstance(n, str) else n.values[0]).model.name for n in FAMILIES}
    ladder = {f'mnist_step{i}' for i in range(1, 6)} | {'eva_f2'} # layers of their neighbours
    assert {r.model.name for r in recipes().values()} - ladder <= tried

@named
def fastai_net(n_out=10): return nn.Sequential(create_body(network('resnet18'), pretrained=False), create_head(512, n_out))

@pytest.fixture
def with_model():
    "A function from a `Spec` to a recipe that has it as its network; it is forgotten after the test"
    def make(spec, name='mine', **kwargs):
        return register(replace(get_recipe('digits'), name=name, model=spec, params=n_params(spec.build()), **kwargs))
    yield make
    registry.pop('mine', None)

@pytest.mark.parametrize('spec, n_in', [(Spec('fastai_net'), 3), (Spec('network', 'tf_efficientnet_lite0', 10), 3),
                                        (Spec('network', 'mobilenet_v3_small', 10, 1), 1)])
def test_heads_and_named_architectures(spec, n_in, with_model, tmp_path):
    "fastai's head pools by maximum and mean"
    images = replace(get_recipe('digits').data, n_in=n_in)
    recipe = with_model(spec, data=images, stages=(replace(get_recipe('digits').stages[-1], size=40),))
    run = untrained(recipe, tmp_path/'run')
    assert export_run(run, tmp_path/'m.onnx', digits()).difference < 1e-4

# A trained run

@pytest.fixture(scope='module')
def run(tmp_path_factory): return reproduce('digits', smoke=True, out=tmp_path_factory.mktemp('runs'), bars=False).path

def test_the_file_answers_as_predict(run, tmp_path):
    export_run(run, tmp_path/'m.onnx')
    session = onnxruntime.InferenceSession(tmp_path/'m.onnx')
    about = session.get_modelmeta().custom_metadata_map
    assert json.loads(about['classes']) == list('0123456789')
    assert (about['size'], about['mode'], about['resize']) == ('[8, 8]', 'L', 'squish')
    entry, = session.get_inputs()
    assert (entry.name, entry.type, entry.shape) == ('images', 'tensor(uint8)', ['n', 8, 8, 1])
    files, table = digits(7), predict(run, digits(7))
    for part in (files, files[:1]): # any number at once
        pixels = np.stack([np.asarray(Image.open(f))[..., None] for f in part])
        probs = session.run(None, {'images': pixels})[0]
        np.testing.assert_allclose(probs.max(1), table.p[:len(part)], atol=1e-5)
        np.testing.assert_allclose(probs.sum(1), 1, atol=1e-5)

def test_real_images_and_thumbnails(run, tmp_path, monkeypatch):
    "Validation images where they are here, else the thumbnails of the report"
    taken = []
    monkeypatch.setattr(room, 'run_loader', lambda r, m, files: taken.append(files) or loader(r, m, files))
    from visionkit.inference import run_loader as loader
    assert export_run(run, tmp_path/'m.onnx').n_images == 32
    monkeypatch.setattr(room, 'has_source', lambda name: False)
    monkeypatch.chdir(tmp_path)
    assert export_run(run, tmp_path/'m.onnx').n_images == 25
    assert all(f.is_file() for f in taken[0]) and all(o.startswith(b'\x89PNG') for o in taken[1])

def test_no_paths_of_this_machine_in_the_file(run, tmp_path):
    for name in ('m.onnx', 'm.pt2'):
        export_run(run, tmp_path/name, digits())
        data = (tmp_path/name).read_bytes()
        assert str(Path(room.__file__).parent).encode() not in data and b'site-packages' not in data, name

def test_program_of_torch(run, tmp_path):
    "It loads without visionkit"
    done = export_run(run, tmp_path/'m.pt2', digits())
    assert done.difference < 1e-5
    code = ("import sys, json, torch; sys.modules['visionkit'] = None; about = {'visionkit.json': ''}\n"
            "m = torch.export.load(sys.argv[1], extra_files=about).module()\n"
            "print(m(torch.zeros(3, 8, 8, 1, dtype=torch.uint8)).shape[1], json.loads(about['visionkit.json'])['mode'])")
    shown = capture(script, code, str(tmp_path/'m.pt2'))
    assert shown.stdout.split() == ['10', 'L'], shown.stderr

# The cell of the page that needs numpy, Pillow and onnxruntime alone

def page_cell():
    nb = json.loads((Path(__file__).parent.parent/'nbs'/'26_export.ipynb').read_text(encoding='utf-8'))
    return next(s for s in (''.join(c['source']) for c in nb['cells']) if 'class Classifier' in s)

def test_the_cell_runs_alone(run, tmp_path):
    assert len(page_cell().splitlines()) <= 26
    export_run(run, tmp_path/'m.onnx', digits())
    alone = "import sys\nfor m in ('torch', 'fastai', 'torchvision', 'visionkit', 'pandas'): sys.modules[m] = None\n"
    use = "\nc = Classifier(sys.argv[1])\nfor p in c(sys.argv[2:]): print(c.classes[p.argmax()], p.max())"
    words = [sys.executable, '-c', alone + page_cell() + use, tmp_path/'m.onnx', *digits()]
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True)
    assert not done.returncode, done.stderr
    answers = [line.split() for line in done.stdout.splitlines()]
    table = predict(run, digits())
    assert [a[0] for a in answers] == list(table.pred)
    np.testing.assert_allclose([float(a[1]) for a in answers], table.p, atol=1e-5)

@pytest.mark.parametrize('method', ['squish', 'crop'])
@pytest.mark.parametrize('shape', [(31, 47), (60, 21), (33, 33), (5, 9)])
def test_the_cell_resizes_as_training_does(method, shape, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype='uint8')
    Image.fromarray(pixels).save(tmp_path/'x.png')
    names = {}
    exec(page_cell(), names)
    classify = object.__new__(names['Classifier'])
    classify.size, classify.mode, classify.crops = (16, 24), 'RGB', method == 'crop'
    from fastai.vision.all import PILImage
    ours = CenterResize((16, 24), method)(PILImage(Image.fromarray(pixels)))
    assert (classify.pixels(tmp_path/'x.png') == np.asarray(ours)).all()

# What is refused

def refused(match, *args, **kwargs):
    with pytest.raises(InputError, match=match) as e: export_run(*args, **kwargs)
    assert '\n' not in str(e.value)

def test_a_wrong_file_is_not_left_behind(run, tmp_path, monkeypatch):
    "A converter that changes the network is found out"
    def wrong(program, example, about):
        data, predict = room._as_onnx(program, example, about)
        return data, lambda pixels: predict(pixels)*.99
    monkeypatch.setitem(room._formats, '.onnx', wrong)
    refused('more than .001: nothing was written', run, tmp_path/'m.onnx', digits())
    monkeypatch.setitem(room._formats, '.onnx', lambda *args: (b'', lambda pixels: np.full((len(pixels), 10), np.nan)))
    refused('differs from torch by inf', run, tmp_path/'m.onnx', digits())
    assert not list(tmp_path.iterdir())

def test_an_older_file_stays(run, tmp_path, monkeypatch):
    (tmp_path/'m.onnx').write_text('mine')
    monkeypatch.setitem(room._formats, '.onnx', lambda *args: (b'', lambda pixels: np.zeros((len(pixels), 10))))
    refused('nothing was written', run, tmp_path/'m.onnx', digits())
    assert (tmp_path/'m.onnx').read_text() == 'mine'

class Chooser(nn.Module):
    "Which layer comes next depends on the pixels"
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(64, 10), nn.Linear(64, 10)
    def forward(self, x): return (self.a if x.mean().item() > 0 else self.b)(x.flatten(1))

@named
def chooser(): return Chooser()

def test_a_network_that_cannot_be_exported(with_model, tmp_path, capfd):
    run = untrained(with_model(Spec('chooser')), tmp_path/'run')
    capfd.readouterr()
    refused(r'the network chooser\(\) cannot be exported: ', run, tmp_path/'m.onnx', digits())
    assert not (tmp_path/'m.onnx').exists() and capfd.readouterr() == ('', '')

@pytest.mark.parametrize('package', ['onnx', 'onnxruntime', 'onnxscript'])
def test_a_missing_extra(package, run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    refused(f'the package {package} is missing: pip install', run, tmp_path/'m.onnx')
    assert export_run(run, tmp_path/'m.pt2', digits()).difference < 1e-5

def test_bad_input(run, tmp_path):
    refused(r'ends in \.onnx or \.pt2', run, tmp_path/'m.txt')
    refused('is a folder', run, tmp_path/'folder.onnx'/'..'/'m.onnx') if (tmp_path/'m.onnx').mkdir() else None
    refused('no finished run', tmp_path, tmp_path/'n.onnx')
    refused('does not exist', run, tmp_path/'n.onnx', tmp_path/'nowhere')
    refused('no images to check', run, tmp_path/'n.onnx', [])
    (tmp_path/'x.png').write_text('no image')
    refused('x.png: not a readable image', run, tmp_path/'n.onnx', tmp_path/'x.png')

def test_command(shell, run, tmp_path):
    done = shell('export', run)
    assert done.returncode == 0 and 'largest difference to torch over 32 images' in done.stdout
    assert (tmp_path/'model.onnx').exists() and done.stdout.count('\n') == 1
    done = shell('export', run, '-o', 'm.doc')
    assert done.returncode == 2 and done.stderr.count('\n') == 1
