"A run killed at any moment and started again by the same line ends as one undisturbed: weights, history, bit for bit."
import os, platform, sys
import pandas as pd, pytest
from warm import capture, script
from safetensors.torch import load_file

# One training in four stages; `when` says where this process kills itself
TRAIN = '''
import os, signal, sys
from fastai.vision.all import *
from visionkit.all import *
out, when = sys.argv[1:]
die = lambda: os.kill(os.getpid(), signal.SIGKILL)

class KillAt(Callback):
    def __init__(self, step): self.step = step
    def before_backward(self):
        self.step -= 1
        if not self.step: die()

def half_written(writes):
    "Die in the middle of writing a file"
    real = os.fsync
    def fsync(fd):
        nonlocal writes
        writes -= 1
        if writes: return real(fd)
        os.ftruncate(fd, os.fstat(fd).st_size//2); die()
    os.fsync = fsync

def dls_at(stage):
    if when == 'between stages' and stage.mixup: die()
    block = image_block(stage.size, 1, splitter=StratifiedSplitter(.2, seed=1),
                        batch_tfms=[BatchAffine(degrees=10), Normalize()])
    return block.dataloaders(get_source('digits'), bs=stage.bs, dl_type=CachedDL)

groups = lambda m: [params(m[:2]), params(m[2:])]
stages = [Stage(8, bs=128, epochs=2, lr=1e-2, opt=Spec('torch.optim.Adam'),
                cbs=(Spec('GradientAccumulation', 256),)),
          Stage(10, bs=256, epochs=2, lr=slice(1e-3, 1e-2), mixup=.4, sched=Plateau(patience=0)),
          Stage(10, bs=256, epochs=1, lr=1e-3, freeze=True, opt=Spec('torch.optim.SGD', momentum=.9)),
          Stage(10, bs=256, epochs=3, lr=.1, opt=Spec('Muon'), cbs=(Spec('EMA', .9), Spec('ProgressiveResize', 6, 8)))]
set_seed(3)
learn = Learner(dls_at(stages[0]), digits_net(), splitter=groups, metrics=accuracy)
if when == 'mid-epoch': learn.add_cb(KillAt(16))
if when == 'second stage': learn.add_cb(KillAt(7))
if when == 'last stage': learn.add_cb(KillAt(6*(1 + 1 + 2) + 1))
if when == 'mid-write': half_written(4) # two checkpoints and one history are whole
with learn.no_bar(), learn.no_logging(): learn.fit_stages(stages, dls_at, out=out)
save_weights(learn.model, Path(out)/'model.safetensors')
'''

def train(out, when='never'): return capture(script, TRAIN, str(out), when)

def history(out): return pd.read_csv(out/'history.csv').drop(columns='seconds')

@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory):
    out = tmp_path_factory.mktemp('undisturbed')
    done = train(out)
    assert done.returncode == 0, done.stderr
    assert list(history(out).stage) == [1, 1, 2, 2, 3, 4, 4, 4]
    return out

def test_killed_five_times(undisturbed, tmp_path):
    for when in ('mid-write', 'mid-epoch', 'between stages', 'second stage', 'last stage'):
        assert train(tmp_path, when).returncode == -9, when
    done = train(tmp_path)
    assert done.returncode == 0, done.stderr
    pd.testing.assert_frame_equal(history(tmp_path), history(undisturbed), check_exact=True)
    ours, theirs = load_file(tmp_path/'model.safetensors'), load_file(undisturbed/'model.safetensors')
    assert all((ours[k] == theirs[k]).all() for k in theirs)

FULL = '''
import resource, sys
from fastai.vision.all import *
from visionkit.all import *
from visionkit.checkpoint import write_history
dls = image_block(None, 1, splitter=StratifiedSplitter(.2)).dataloaders(get_source('digits'), bs=256, dl_type=CachedDL)
dls.one_batch()
def train(out, kb=None):
    learn = Learner(dls, nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), metrics=accuracy)
    if kb: resource.setrlimit(resource.RLIMIT_FSIZE, (kb*1024, resource.RLIM_INFINITY)) # no file may be larger
    try:
        with learn.no_bar(), learn.no_logging(): learn.fit_stages(Stage(bs=256, epochs=2), out=out)
        return 'fits'
    except Exception as e: return f'{type(e).__name__} {e}'
    finally: resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
out = Path(sys.argv[1])
assert train(out/'whole') == 'fits'
whole = (out/'whole'/'checkpoint').stat().st_size//1024
for kb in range(1, whole, 3): print(train(out/str(kb), kb))
shutil.copytree(out/'whole', out/'kept')
learn = Learner(dls, nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), metrics=accuracy)
for write in (lambda f: save_weights(nn.Linear(999, 9), f), lambda f: write_history(f, [dict(a='x'*9999)]),
              lambda f: Predictions.from_learner(learn).to_csv(f), lambda f: html_report(out/'whole', f)):
    learn.remove_cb(ProgressCallback)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, resource.RLIM_INFINITY))
    try: line = f'written {write(out/"kept"/"file")}'
    except Exception as e: line = f'{type(e).__name__} {e}'
    finally: resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(line)
print([p.name for p in (out/'kept').iterdir() if p.name.startswith('.') and p.name != '.lock'])
'''

@pytest.mark.skipif(sys.platform == 'win32', reason='no limit on the size of a file')
def test_no_room_for_a_file(tmp_path):
    "Whatever room there is, one line names the file; the same for each file that the project writes"
    done = capture(script, FULL, str(tmp_path))
    assert done.returncode == 0, done.stderr
    *errors, left = done.stdout.splitlines()
    assert len(errors) > 6 and left == '[]'
    for e in errors[:-4]: assert e.startswith('InputError') and 'cannot be written (File too large): make room' in e, e
    for e in errors[-4:]: assert e.startswith('WriteError') and 'file cannot be written (File too large)' in e, e

def test_full_disk_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    import errno, torch
    from fastai.vision.all import Learner, accuracy
    from visionkit.all import CachedDL, InputError, Stage, StratifiedSplitter, digits_net, get_source, image_block
    dls = image_block(None, 1, splitter=StratifiedSplitter(.2)).dataloaders(
        get_source('digits'), bs=256, dl_type=CachedDL)
    dls.one_batch()
    learn, real, writes = Learner(dls, digits_net(), metrics=accuracy), os.fsync, []
    def full(fd):
        writes.append(fd)
        if len(writes) == 4: raise OSError(errno.ENOSPC, 'No space left on device')
        real(fd)
    monkeypatch.setattr(os, 'fsync', full)
    with learn.no_bar(), learn.no_logging(), pytest.raises(
            InputError, match='No space left.*last good checkpoint is kept'):
        learn.fit_stages([Stage(bs=256, epochs=3)], out=tmp_path)
    state = torch.load(tmp_path/'checkpoint', weights_only=True)
    assert state['epoch'] == 1 and not list(tmp_path.glob('.checkpoint*'))

@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason="only glibc's allocator is told to keep memory")
def test_memory_is_kept():
    code = """if True:
    import os, sys, torch
    from visionkit.core import reuse_memory
    resident = lambda: int(open('/proc/self/statm').read().split()[1])*os.sysconf('SC_PAGE_SIZE')
    reuse_memory()
    x = torch.ones(50_000_000)
    used = resident()
    del x
    print(used - resident())"""
    freed = lambda **env: int(capture(script, code, environ={**os.environ, **env}).stdout)
    assert freed() < 50e6
    assert freed(VISIONKIT_REUSE_MEMORY='0') > 150e6  # 200 MB given back
