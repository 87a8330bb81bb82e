"Two processes train as one, on the same images: curve, kills, resume, one writer, one decoding."
import json, os, shutil, subprocess, sys, time
from pathlib import Path
import pandas as pd, pytest
from warm import capture, module, script
from visionkit.cli import main

CURVE = '''
import json, os, sys
from fastai.vision.all import *
from visionkit.all import *
from visionkit.processes import alone
out, drop_last, norm = Path(sys.argv[1]), sys.argv[2] != 'keep', sys.argv[2] == 'norm'
set_seed(0)
block = image_block(8, 1, splitter=StratifiedSplitter(.2, seed=42), batch_tfms=[Normalize()])
dls = block.dataloaders(get_source('digits'), bs=64, dl_type=CachedDL, drop_last=drop_last)
net = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, padding=1), nn.ReLU(),
                    nn.Flatten(), nn.Linear(512, 10))
if norm: net = nn.Sequential(nn.BatchNorm2d(1), net[0], nn.BatchNorm2d(16), net[1:3], nn.BatchNorm2d(32), net[3:])
learn = Learner(dls, net, metrics=[accuracy, F1Score(average='macro')])
stage = Stage(bs=64, epochs=2, lr=1e-2)
with learn.no_bar(), learn.no_logging(): learn.fit_stages(stage, out=out/'run', precision=False, run=False)
losses = [float(l) for l in learn.recorder.losses]
with alone(): judged = learn.validate()
(out/f"{os.environ.get('RANK', 0)}.json").write_text(json.dumps(dict(
    judged=[*judged], losses=losses, history=learn.history.drop(columns=['seconds', 'lr']).to_dict('records'),
    weights=[p.detach().flatten().tolist() for p in net.parameters()], buffers=[b.tolist() for b in net.buffers()])))
'''

# `visionkit WORDS`, noting who writes to `runs/` and who decodes; the ranks in KILL kill themselves in epoch EPOCH
LOGGED = '''
import os, signal, sys
from fastai.vision.all import *
from visionkit import store
from visionkit.cli import main
rank, kill, epoch = os.environ['RANK'], os.environ.get('KILL', ''), int(os.environ.get('EPOCH', 0))
def note(text):
    with open('log', 'a') as f: f.write(f'{rank} {text}\\n')
class KillAt(Callback):
    def before_backward(self):
        if self.epoch == epoch and self.iter == 1 and rank in kill:
            note('killed')
            os.kill(os.getpid(), signal.SIGKILL)
defaults.callbacks.append(KillAt)
sys.addaudithook(lambda event, args: event == 'os.rename' and 'runs/' in str(args[1]) and note('writes'))
decode = store._write_rows
def write(*args):
    note('decodes')
    return decode(*args)
store._write_rows = write
if status := main(): sys.exit(status)
'''

TORCHRUN = ['torch.distributed.run', '--standalone', '--nproc-per-node', '2']
ACCELERATE = ['accelerate.commands.accelerate_cli', 'launch', '--multi_gpu',
              '--num_processes', '2', '--main_process_port', '0']
WORDS = 'train photos --epochs 3 --arch shufflenet_v2_x0_5 --weights none --size 32'.split()

def launch(launcher, *words, cwd, **env):
    "Run a launcher's line to its end, five minutes at most; the processes that it starts are new ones"
    env = {**os.environ, 'VISIONKIT_CACHE': str(cwd/'cache'), **env}
    return capture(module, *launcher, *map(str, words), cwd=cwd, environ=env, timeout=300)

def two(code, words, env):
    "Run `code` in two processes as torchrun would, forked from this one, which has imported torch already"
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch
    os.environ.update(env)
    config = LaunchConfig(1, 1, 2, run_id='test', rdzv_backend='c10d', rdzv_endpoint='localhost:0', start_method='fork',
                          max_restarts=0)
    elastic_launch(config, script)(code, *words)

def fork(code, *words, cwd, **env):
    return capture(two, code, words, dict(env, VISIONKIT_CACHE=str(cwd/'cache')), cwd=cwd)

def history(run): return pd.read_csv(run/'history.csv').drop(columns='seconds')

@pytest.mark.parametrize('drop', ['drop', 'keep'])
def test_curve_is_that_of_one_process(tmp_path, drop):
    "Without batch norm and augmentation, in float32; with `keep` the last batch of 29 is filled up to 30"
    for n in '12': (tmp_path/n).mkdir()
    assert capture(script, CURVE, '1', drop, cwd=tmp_path).returncode == 0
    done = fork(CURVE, '2', drop, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    one, first, second = (json.loads((tmp_path/f).read_text()) for f in ('1/0.json', '2/0.json', '2/1.json'))
    tolerance = 1e-5 if drop == 'drop' else 1e-2
    assert len(one['losses']) == len(first['losses']) == 2*(22 if drop == 'drop' else 23)
    assert max(abs(a - b) for a, b in zip(one['losses'], first['losses'])) < tolerance
    assert first['weights'] == second['weights'] and first['history'] == second['history']
    for a, b in zip(one['history'], first['history']): assert a == pytest.approx(b, abs=tolerance)
    last = first['history'][-1] # judged by two; by one alone, on the same weights:
    assert [last[k] for k in ('valid_loss', 'accuracy', 'f1_score')] == pytest.approx(first['judged'], abs=1e-6)

def test_batch_norm(tmp_path):
    """Both processes have the same weights and running statistics, of the images of both. The mean of the first layer,
    which no weight changes, is exactly that of one process; accuracies differ by less than their noise"""
    for n in '12': (tmp_path/n).mkdir()
    assert capture(script, CURVE, '1', 'norm', cwd=tmp_path).returncode == 0
    done = fork(CURVE, '2', 'norm', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    one, first, second = (json.loads((tmp_path/f).read_text()) for f in ('1/0.json', '2/0.json', '2/1.json'))
    assert first['weights'] == second['weights'] and first['buffers'] == second['buffers']
    (mean, var, _), (mean2, var2, _) = one['buffers'][:3], first['buffers'][:3]
    assert mean2 == pytest.approx(mean, abs=1e-6) and var2 == pytest.approx(var, rel=.02)
    a, b = (o['history'][-1]['accuracy'] for o in (one, first))
    noise = 1.96*(2*a*(1 - a)/360)**.5 # half the 95 % interval of the difference, on 360 validation images
    assert a > .9 and abs(a - b) < noise, (a, b, noise)
    assert first['judged'][1] == pytest.approx(b, abs=1e-6)

@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    "A folder with 24 digits of each class"
    from visionkit.sources import get_source
    folder = tmp_path_factory.mktemp('folder')
    for c in range(10):
        (folder/'photos'/str(c)).mkdir(parents=True)
        for p in sorted((get_source('digits')/str(c)).iterdir())[:24]: shutil.copy(p, folder/'photos'/str(c))
    return folder

@pytest.fixture(scope='module')
def undisturbed(photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp('undisturbed')
    (folder/'photos').symlink_to(photos/'photos')
    done = launch(ACCELERATE, '-m', 'visionkit', *WORDS, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert json.loads((folder/'runs'/'photos-0'/'result.json').read_text())['processes'] == 2
    assert done.stdout.count('report: ') == 1
    return folder/'runs'/'photos-0'

def test_killed_twice(undisturbed, photos, tmp_path):
    "Both processes killed, then one of them: one line, and the same words go on to the same weights"
    (tmp_path/'photos').symlink_to(photos/'photos')
    (tmp_path/'logged.py').write_text(LOGGED)
    assert fork(LOGGED, *WORDS, cwd=tmp_path, KILL='01', EPOCH='1').returncode
    refused = capture(main, WORDS, cwd=tmp_path)
    assert refused.returncode == 2 and 'was made by 2 processes, and 1 cannot draw' in refused.stderr

    done = launch(TORCHRUN, 'logged.py', *WORDS, cwd=tmp_path, KILL='1', EPOCH='2')
    assert done.returncode and time.time() - (tmp_path/'log').stat().st_mtime < 60 # its last line is of the kill
    assert sum('run the same line again to resume' in l for l in done.stderr.splitlines()) == 1, done.stderr
    assert len(history(tmp_path/'runs'/'photos-0')) == 2

    done = fork(LOGGED, *WORDS, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    same_run(tmp_path/'runs'/'photos-0', undisturbed)
    log = (tmp_path/'log').read_text().splitlines()
    killed = [l for l in log if 'killed' in l]
    assert sorted(killed[:2]) == ['0 killed', '1 killed'] and killed[2:] == ['1 killed']
    assert '0 writes' in log and '1 writes' not in log
    assert sum('decodes' in l for l in log) == 1 # the training images; the 48 others are too few for a file

def test_predictions_are_those_of_one_process(undisturbed):
    "Each validation image once, and as one process predicts it by the same weights"
    from visionkit.inference import evaluate
    items = pd.read_csv(undisturbed/'items.csv', dtype=str)
    one = evaluate(undisturbed, items.loc[items.split == 'valid', ['path', 'label']].reset_index(drop=True)).df
    two = pd.read_csv(undisturbed/'predictions.csv', dtype=dict(true=str, pred=str))
    for table in (one, two): table.index = ['/'.join(Path(p).parts[-2:]) for p in table.path]
    assert two.index.is_unique and sorted(two.index) == sorted(one.index)
    one = one.loc[two.index]
    assert (one.pred == two.pred).all() and one.p_true.to_numpy() == pytest.approx(two.p_true.to_numpy(), abs=1e-6)

def same_run(ours, theirs):
    from safetensors.torch import load_file
    pd.testing.assert_frame_equal(history(ours), history(theirs), check_exact=True)
    a, b = load_file(ours/'model.safetensors'), load_file(theirs/'model.safetensors')
    assert all((a[k] == b[k]).all() for k in b)

def test_an_error_leaves_nothing_changed(monkeypatch):
    "In the middle of an epoch: batch norm layers and the size of accumulated batches are those from before"
    from fastai.vision.all import Callback, GradientAccumulation, Learner, nn, noop, torch
    from fastai.data.all import DataLoaders
    from visionkit import distributed
    class Fails(Callback):
        def before_epoch(self):
            assert isinstance(self.learn.model[1], nn.SyncBatchNorm) and self.gradient_accumulation.n_acc == 32
            raise RuntimeError('in the middle')
    def convert(model):
        layers = {'1': model[1]}
        nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return layers
    pretended = dict(process_count=lambda: 2, separate_generators=noop, wait=lambda: None, from_first=lambda f: f(),
                     synchronize_norms=convert, DistributedDataParallel=lambda model, device: model)
    for name, f in pretended.items(): monkeypatch.setattr(distributed, name, f)
    data = [(torch.rand(2), torch.rand(1)) for _ in range(8)]
    accumulation = GradientAccumulation(64)
    learn = Learner(DataLoaders.from_dsets(data, data, bs=4, device='cpu'), nn.Sequential(nn.Linear(2, 1), nn.BatchNorm1d(1)),
                    loss_func=nn.MSELoss(), cbs=accumulation)
    norm = learn.model[1]
    with pytest.raises(RuntimeError, match='in the middle'):
        with distributed.in_parallel(learn), learn.added_cbs([*distributed.parallel_cbs(), Fails()]): learn.fit(1)
    assert learn.model[1] is norm and accumulation.n_acc == 64

@pytest.mark.parametrize('words, line', [(['list'], 'visionkit list is for one process'),
                                         (['train', 'photos', '--folds', '3'], 'visionkit train --folds is for one')])
def test_other_commands_are_refused(words, line, monkeypatch, tmp_path):
    monkeypatch.setenv('WORLD_SIZE', '2')
    done = capture(main, words, cwd=tmp_path)
    assert done.returncode == 2 and line in done.stderr

def test_accelerate_starts_one_process(tmp_path):
    "On CPUs, `accelerate launch --cpu` starts one process whatever `--num_processes` says: this is noticed"
    cpu = [w for w in ACCELERATE if w != '--multi_gpu'] + ['--cpu', '-m', 'visionkit']
    done = launch(cpu, *WORDS, cwd=tmp_path)
    assert done.returncode and 'visionkit: with --cpu, accelerate leaves several processes to MPI' in done.stderr

@pytest.fixture
def hosts(tmp_path):
    "Two network namespaces that see each other alone: (namespace, its end of the cable, a folder)"
    if not shutil.which('ip') or os.geteuid(): pytest.skip('network namespaces need root and the command ip')
    def ip(*words): return subprocess.run(['ip', *words], capture_output=True, text=True)
    if (made := ip('netns', 'add', 'vk0')).returncode: pytest.skip(f'no network namespaces here: {made.stderr.strip()}')
    try:
        ip('netns', 'add', 'vk1')
        ip('link', 'add', 'vkend0', 'netns', 'vk0', 'type', 'veth', 'peer', 'name', 'vkend1', 'netns', 'vk1')
        for i in '01':
            ip('-n', f'vk{i}', 'addr', 'add', f'10.123.0.{int(i) + 1}/24', 'dev', f'vkend{i}')
            for device in ('lo', f'vkend{i}'): ip('-n', f'vk{i}', 'link', 'set', device, 'up')
            (tmp_path/i).mkdir()
        yield [(f'vk{i}', f'vkend{i}', tmp_path/i) for i in '01']
    finally:
        for i in '01': ip('netns', 'del', f'vk{i}')

@pytest.mark.slow
@pytest.mark.skipif(sys.platform != 'linux', reason='network namespaces are of Linux')
def test_two_hosts(hosts):
    "The same line on both, each with a cache of its own; the first host alone has the run"
    started = []
    for i, (name, end, folder) in enumerate(hosts):
        command = ['ip', 'netns', 'exec', name, sys.executable, '-m', TORCHRUN[0], '--nnodes', '2', '--node-rank', str(i),
                   '--nproc-per-node', '1', '--master-addr', '10.123.0.1', '--master-port', '29500',
                   '-m', 'visionkit', 'run', 'digits', '--smoke']
        env = {**os.environ, 'VISIONKIT_CACHE': str(folder/'cache'), 'GLOO_SOCKET_IFNAME': end}
        pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(subprocess.Popen(command, cwd=folder, env=env, **pipes))
    outputs = [p.communicate(timeout=300) for p in started]
    assert [p.returncode for p in started] == [0, 0], outputs
    first, second = (folder/'runs'/'digits-0-smoke' for _, _, folder in hosts)
    assert json.loads((first/'result.json').read_text())['processes'] == 2
    assert not second.exists() and 'accuracy' in outputs[0][0] and not outputs[1][0]
