"Training as it is used: interrupted, resumed, beside other runs, with callbacks of all sorts, and by mistake."
import importlib, os, sys, warnings
from types import ModuleType
from pathlib import Path
import pandas as pd, pytest, torch
from fastai.vision.all import *
from warm import capture
from visionkit.cli import main
from visionkit.all import *
from visionkit.checkpoint import plain

for name in [n for n in globals() if n.startswith('test')]: del globals()[name] # functions that pytest takes for tests

def make_folder(path):
    "Three class folders of 12 images of 16 pixels"
    for k, c in enumerate('abc'):
        (path/c).mkdir(parents=True)
        for i in range(12):
            pixels = np.random.default_rng(i).integers(0, 60, (16, 16, 3)) + 60*k
            Image.fromarray(pixels.astype('uint8')).save(path/c/f'{i}.png')
    return path

@pytest.fixture(scope='module')
def images(tmp_path_factory): return make_folder(tmp_path_factory.mktemp('images'))

@pytest.fixture
def make(images, tmp_path, monkeypatch):
    "A function that makes a quiet learner from a fixed seed, in an empty folder; `make.dls_at` are its loaders"
    monkeypatch.chdir(tmp_path)
    block = image_block(16, splitter=StratifiedSplitter(.25))
    def dls_at(stage): return block.dataloaders(images, bs=4, dl_type=CachedDL)
    def net(): return nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
                                    nn.Flatten(), nn.Linear(8, 3))
    def new(seed=0, **kwargs):
        set_seed(seed)
        learn = Learner(dls_at(None), net(), **{**dict(metrics=accuracy, path=tmp_path), **kwargs})
        learn.remove_cb(ProgressCallback)
        learn.logger = noop
        return learn
    new.dls_at = dls_at
    return new

def weights(learn): return {k: v.clone() for k, v in learn.model.state_dict().items()}
def same(a, b): return all(torch.equal(v, b[k]) for k, v in a.items())

def alike(a, b):
    "Are the plain values equal, to the last bit?"
    if isinstance(a, dict): return a.keys() == b.keys() and all(alike(v, b[k]) for k, v in a.items())
    if isinstance(a, (list, tuple)): return len(a) == len(b) and all(map(alike, a, b))
    return torch.equal(a, b) if isinstance(a, Tensor) else a == b

class PowerCut(Callback):
    "Stop in the third epoch"
    def before_batch(self):
        if self.training and self.epoch == 2 and self.iter == 1: raise KeyboardInterrupt

class Script(Metric):
    "A metric whose value after each epoch is known beforehand"
    def __init__(self, name, values): self._name, self.values = name, values
    def reset(self): pass
    def accumulate(self, learn): self.i = getattr(learn, 'epoch', 0)
    value = property(lambda self: self.values[self.i % len(self.values)])
    name = property(lambda self: self._name)

def interrupted(learn, *args, **kwargs):
    with pytest.raises(KeyboardInterrupt), learn.added_cbs(PowerCut()): learn.fit_stages(*args, **kwargs)

# What callbacks keep in files

savers = dict(best=lambda: SaveModelCallback('acc'), with_opt=lambda: SaveModelCallback('acc', with_opt=True),
              each=lambda: SaveModelCallback('acc', every_epoch=True),
              end=lambda: SaveModelCallback('acc', at_end=True),
              two=lambda: (SaveModelCallback('acc', fname='high'), SaveModelCallback('low', np.less, fname='low')),
              early=lambda: (SaveModelCallback('acc'), EarlyStoppingCallback('acc', patience=2)))

@pytest.mark.parametrize('which,where', [
    ('best', 'stage'), ('best', 'learner'), ('with_opt', 'stage'), ('each', 'learner'), ('end', 'stage'),
    ('two', 'learner'), ('early', 'stage')])
def test_a_resumed_run_ends_with_its_own_best_weights(make, which, where):
    def learner(values, seed):
        cbs = savers[which]() if where == 'learner' else ()
        return make(seed, metrics=[Script('acc', values), Script('low', [.5, .2, .9, .8])], cbs=cbs)
    def stages(): return [Stage(bs=4, epochs=4, lr=1e-2, cbs=savers[which]() if where == 'stage' else ())]
    def run(out, values=(.1, .9, .3, .4), seed=0):
        learn = learner(values, seed)
        learn.fit_stages(stages(), make.dls_at, out=out)
        return weights(learn)
    whole = run('whole')
    for out in ('other', 'gone'):
        interrupted(learner((.1, .9, .3, .4), 0), stages(), make.dls_at, out=out)
        if out == 'other': other = run('another run', (.1, .2, .3, .99), seed=9)
        else: shutil.rmtree('models')
        assert same(run(out), whole) and same(run(out), whole), out # also once more, when all is done
    assert not same(other, whole)

def test_best_weights_of_an_earlier_stage(make):
    "A learner's `SaveModelCallback(reset_on_fit=False)` holds the best of all stages"
    def learner(): return make(metrics=Script('acc', [.9, .1]), cbs=SaveModelCallback('acc', reset_on_fit=False))
    plan = [Stage(bs=4, epochs=2, lr=1e-2), Stage(bs=4, epochs=4, lr=1e-2, sched=Constant())]
    whole = learner()
    whole.fit_stages(plan, make.dls_at, out='whole')
    interrupted(learner(), plan, make.dls_at, out='run')
    shutil.rmtree('models')
    again = learner()
    again.fit_stages(plan, make.dls_at, out='run')
    assert same(weights(again), weights(whole))

@pytest.mark.parametrize('append', [False, True])
def test_a_log_goes_on_where_the_checkpoint_was(make, append):
    def run(name, cut=False):
        learn = make(cbs=CSVLogger(f'{name}.csv', append=append))
        if cut: return interrupted(learn, plan, make.dls_at, out=name)
        learn.fit_stages(plan, make.dls_at, out=name)
    def log(name): return [l.rpartition(',')[0] for l in Path(f'{name}.csv').read_text().splitlines()] # but for times
    plan = [Stage(bs=4, epochs=4, lr=1e-2)]
    run('whole')
    for lost in (False, True):
        run(f'run{lost}', cut=True)
        if lost: Path(f'run{lost}.csv').unlink()
        run(f'run{lost}')
        assert log(f'run{lost}') == log('whole') and len(log('whole')) == 5
    run('mixed', cut=True)
    with open('mixed.csv', 'a') as f: f.write('epoch,train_loss\n0,.5\n1,.4\n')
    before = Path('mixed.csv').read_text()
    if append:
        with pytest.raises(InputError, match='mixed.csv has lines that this run did not write'): run('mixed')
        assert Path('mixed.csv').read_text().startswith(before)

def test_a_logger_that_takes_the_runs_own_history(make):
    learn = make(cbs=CSVLogger('run/history.csv'))
    with pytest.raises(InputError, match='would both write'): learn.fit_stages(Stage(bs=4), make.dls_at, out='run')

def test_ones_own_callback_that_reads_back(make):
    class Best(Callback):
        "Keeps the best weights, and what was best, outside the checkpoint"
        order, best = Recorder.order + 1, float('inf')
        def after_epoch(self):
            if self.recorder.values[-1][1] >= self.best: return
            self.best = self.recorder.values[-1][1]
            torch.save(self.model.state_dict(), 'mine.pth')
        def after_fit(self): self.model.load_state_dict(torch.load('mine.pth', weights_only=True))
    class Known(Best):
        def state_dict(self): return dict(best=self.best, weights=torch.load('mine.pth', weights_only=True))
        def load_state_dict(self, sd):
            self.best = sd['best']
            torch.save(sd['weights'], 'mine.pth')
    learn = make(cbs=Best())
    before = weights(learn)
    with pytest.raises(InputError, match='Best loads something that is in no checkpoint'):
        learn.fit_stages(Stage(bs=4), make.dls_at, out='run')
    assert same(before, weights(learn)) and not Path('run').exists()
    make(cbs=Best()).fit_stages(Stage(bs=4), make.dls_at) # without a checkpoint there is nothing to go on from
    make(cbs=Known()).fit_stages(Stage(bs=4), make.dls_at, out='run')

# The learning rate finder

class FailAt(Callback):
    "Raise `error` at the 12th batch"
    n = 0
    def __init__(self, error): self.error = error
    def before_batch(self):
        self.n += 1
        if self.n == 12: raise self.error

@pytest.mark.parametrize('fitted', [False, True])
@pytest.mark.parametrize('error', [None, KeyboardInterrupt, OSError('not a readable image')])
def test_find_lr_leaves_the_learner_as_it_was(make, fitted, error):
    learn = make(cbs=[MixUp(.4), EMA(.9), CSVLogger('log.csv'), AutoPrecision(torch.bfloat16)])
    if fitted: learn.fit(1)
    if error: learn.add_cb(FailAt(error))
    learn.path = Path('/proc/self') # nobody can write there
    def state():
        opt = learn.opt and deepcopy(learn.opt.state_dict())
        return plain([weights(learn), [p.grad is None for p in learn.model.parameters()], learn.model.training, opt,
                      get_rng_state(), [dl.rng.getstate() for dl in learn.dls.loaders],
                      [getattr(learn, k, None) for k in ('epoch', 'train_iter', 'n_epoch')],
                      len(getattr(learn.recorder, 'losses', []))])
    before, cbs, loss = state(), list(learn.cbs), learn.loss_func
    log, attributes = Path('log.csv').read_text() if fitted else None, [sorted(vars(cb)) for cb in cbs]
    if error:
        with pytest.raises((KeyboardInterrupt, OSError)): learn.find_lr(num_it=40)
    else: learn.find_lr(num_it=20)
    assert alike(state(), before)
    assert list(learn.cbs) == cbs and learn.loss_func is loss and not torch.is_autocast_enabled('cpu')
    assert not error or learn.fail_at.n == 0
    assert [sorted(vars(cb)) for cb in cbs] == attributes
    if fitted: assert Path('log.csv').read_text() == log

@pytest.mark.parametrize('bad', [dict(start_lr=1., end_lr=.1), dict(start_lr=0), dict(num_it=0), dict(num_it='9')])
def test_find_lr_arguments(make, bad):
    with pytest.raises(InputError): make().find_lr(**bad)

# Loggers of fastai over stages

@pytest.fixture
def tensorboard(monkeypatch):
    "fastai's `TensorBoardCallback` with a writer that keeps what it is given: (folder, name, step) in `.log`"
    class Writer:
        log = []
        def __init__(self, log_dir=None): self.log_dir = log_dir or f'runs/{len(self.log)}'
        def add_scalar(self, name, value, step): self.log.append((self.log_dir, name, step))
        def close(self): pass
    names = ['tensorboard', 'torch.utils.tensorboard', 'fastai.callback.tensorboard']
    for name in names: monkeypatch.delitem(sys.modules, name, raising=False)
    for name in names[:2]: monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules[names[1]].SummaryWriter = Writer
    made = importlib.import_module(names[2])
    yield SimpleNamespace(log=Writer.log, make=partial(made.TensorBoardCallback, trace_model=False, log_preds=False))
    del sys.modules[names[2]]

two_stages = [Stage(bs=4, epochs=2), Stage(bs=4, epochs=4)]

def steps(log, name): return [step for _, n, step in log if n == name]

@pytest.mark.parametrize('log_dir', [None, 'logs'])
def test_tensorboard_counts_steps_on(make, tensorboard, log_dir):
    learn = make(cbs=tensorboard.make(log_dir))
    learn.fit_stages(two_stages, make.dls_at)
    n = len(learn.dls.train)
    assert [*dict.fromkeys(steps(tensorboard.log, 'train_loss'))] == [*range(1, 6*n + 1)]
    assert steps(tensorboard.log, 'accuracy') == [*range(n, 6*n + 1, n)]
    folders = {folder for folder, *_ in tensorboard.log}
    tensorboard.log.append(())
    learn.fit_stages(two_stages, make.dls_at) # another training
    again = tensorboard.log[tensorboard.log.index(()) + 1:]
    assert steps(again, 'accuracy') == [*range(n, 6*n + 1, n)]
    assert len(folders) == 1 and ({folder for folder, *_ in again} == folders) == (log_dir is not None)

def test_tensorboard_counts_on_in_a_resumed_run(make, tensorboard):
    interrupted(make(cbs=tensorboard.make('logs')), two_stages, make.dls_at, out='run') # in the fifth epoch
    tensorboard.log.clear()
    learn = make(cbs=tensorboard.make('logs'))
    learn.fit_stages(two_stages, make.dls_at, out='run')
    n = len(learn.dls.train)
    assert steps(tensorboard.log, 'accuracy') == [5*n, 6*n] and steps(tensorboard.log, 'train_loss')[0] == 4*n + 1

@pytest.mark.parametrize('append', [False, True])
@pytest.mark.parametrize('cut', [False, True])
def test_a_log_has_all_stages(make, append, cut):
    def learner(): return make(cbs=CSVLogger('log.csv', append=append))
    if cut: interrupted(learner(), two_stages, make.dls_at, out='run')
    learn = learner()
    learn.fit_stages(two_stages, make.dls_at, out='run')
    log = pd.read_csv('log.csv')
    assert log.epoch.tolist() == [*range(6)]
    assert np.allclose(log.accuracy, learn.history.accuracy)
    if cut or append: return
    learn.fit_stages(two_stages, make.dls_at, out='another') # another training begins the file anew
    assert pd.read_csv('log.csv').epoch.tolist() == [*range(6)]

def test_a_stage_that_ends_early_is_counted_as_long_as_it_was(make, tensorboard):
    early = Stage(bs=4, epochs=6, cbs=EarlyStoppingCallback(min_delta=9., patience=1))
    learn = make(cbs=[tensorboard.make('logs'), CSVLogger('log.csv')])
    for out in ('run', 'run'): learn.fit_stages([early, Stage(bs=4)], make.dls_at, out=out)
    assert steps(tensorboard.log, 'accuracy') == [len(learn.dls.train)*k for k in (1, 2, 3)]
    assert pd.read_csv('log.csv').epoch.tolist() == [0, 1, 2]

# The history

class Recall(Metric):
    "Mean recall, under the name accuracy"
    name = 'accuracy'
    def reset(self): self.pred, self.targ = [], []
    def accumulate(self, learn):
        self.pred += learn.pred.argmax(1).tolist()
        self.targ += learn.y.tolist()
    @property
    def value(self):
        right = pd.Series([p == t for p, t in zip(self.pred, self.targ)])
        return float(right.groupby(self.targ).mean().mean())

def test_history_of_metrics_on_training_images(make):
    learn = make(metrics=[accuracy, error_rate, Recall()])
    learn.recorder.train_metrics = True
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        row = learn.fit_stages(Stage(bs=4), make.dls_at).iloc[0]
        judged = learn.validate()
    assert np.allclose([row.valid_loss, row.accuracy, row.error_rate, row.accuracy_2], judged[-4:], atol=1e-7)
    assert abs(row.train_accuracy + row.train_error_rate - 1) < 1e-6 and row.train_accuracy_2 <= 1

@pytest.mark.parametrize('name', 'lr mom seconds stage epoch train_loss train_accuracy valid_loss time'.split())
def test_history_of_a_metric_by_another_columns_name(make, name):
    learn = make(metrics=[accuracy, Script(name, [.125])])
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter('always')
        h = learn.fit_stages(Stage(bs=4), make.dls_at)
    column = name if name == 'time' else f'{name}_2'
    assert h[column].tolist() == [.125] and abs(h.accuracy[0] - learn.validate()[1]) < 1e-7
    assert any(column in str(w.message) for w in said) == (name != 'time')
    assert h.lr[0] != .125 and h.epoch[0] == 1

def test_history_rounds_an_accuracy_only(make):
    learn = make(metrics=Recall())
    h = learn.fit_stages(Stage(bs=4, lr=1e-9), make.dls_at)
    assert h.accuracy[0] == learn.validate()[1]
    thirds = make(metrics=Script('accuracy', [.12345]))
    assert thirds.fit_stages(Stage(bs=4), make.dls_at).accuracy[0] == .12345

# Stages checked before the first batch

class Seen(Callback):
    n = 0
    def before_batch(self): Seen.n += 1

class OneHot(nn.Module):
    "A loss that can mix labels only as `y_int` says, and takes no `reduction`"
    y_int = True
    def forward(self, pred, targ): return F.cross_entropy(pred, targ)

bad_plans = {
    'cannot mix CrossEntropyLoss': dict(mixup=.4, loss=nn.CrossEntropyLoss()),
    'cannot mix cross_entropy': dict(cbs=CutMix(1.), loss=F.cross_entropy),
    'cannot mix OneHot': dict(mixup=.4, loss=OneHot()),
    'CutMix and MixUp together': dict(mixup=.4, cbs=CutMix(1.)),
    'MixUp and MixUp together': dict(mixup=.4, cbs=(MixUp(.4),)),
    'EMA and EMA together': dict(cbs=(EMA(), EMA(.9))),
    'MixedPrecision and AutoPrecision together': dict(cbs=(MixedPrecision(), AutoPrecision())),
    "monitors 'acuracy'.*did you mean 'accuracy'": dict(cbs=SaveModelCallback('acuracy')),
    "monitors 'f1', which is not recorded": dict(sched=Plateau(monitor='f1')),
    'is not a fastai callback': dict(cbs=Spec('CrossEntropyLossFlat')),
    r'EMA\(dekay=0.9\) cannot be made': dict(cbs=Spec('EMA', dekay=.9)),
    'needs a learner with several parameter groups': dict(freeze=True),
    'makes no optimiser': dict(opt=Spec('torch.optim.SGD', momemtum=.9)),
    'is an optimiser of torch': dict(opt=lambda p, lr: torch.optim.SGD(p[0], lr)),
    'cannot be made': dict(loss=Spec('CrossEntropyLossFlat', weigt=1))}

@pytest.mark.parametrize('message', [m for m in bad_plans])
def test_a_plan_is_refused_before_its_first_stage(make, message):
    learn, Seen.n = make(cbs=Seen()), 0
    with pytest.raises(InputError, match=message):
        learn.fit_stages([Stage(bs=4), Stage(bs=4, **bad_plans[message])], make.dls_at, out='run')
    assert Seen.n == 0 and not Path('run').exists()

@pytest.mark.parametrize('args,message', [
    (([],), 'a list of them'), (('all',), 'a list of them'), (([dict(bs=4)],), 'a list of them'),
    ((Stage(bs=4), 5), 'give a function'), ((Stage(bs=4), lambda s: [1]), 'is not DataLoaders'),
    ((Stage(bs=4), None, None, 'bf16'), 'precision='), ((Stage(bs=4), None, 5), "out='5': that is no path")])
def test_arguments_of_fit_stages(make, args, message):
    with pytest.raises(InputError, match=message): make().fit_stages(*args)

def test_nothing_held_out(make, images):
    "What watches held-out images is refused where there are none; all else trains"
    block = image_block(16, splitter=lambda items: (list(range(len(items))), []))
    dls = block.dataloaders(images, bs=4, dl_type=CachedDL)
    for bad in (dict(sched=Plateau()), dict(cbs=SaveModelCallback()), dict(cbs=EarlyStoppingCallback('accuracy'))):
        with pytest.raises(InputError, match='there are no validation images'):
            _fit_on(make, dls, bad)
    _fit_on(make, dls, dict(sched=Plateau(monitor='train_loss')))
    one = DataLoaders(dls.train)
    with pytest.raises(InputError, match='DataLoaders of one loader'): _fit_on(make, one, {})

def _fit_on(make, dls, fields):
    learn = make()
    learn.dls = dls
    return learn.fit_stages(Stage(bs=4, **fields))

def test_a_loss_that_is_a_class(make):
    with pytest.raises(InputError, match='CrossEntropyLoss is a class'):
        make(loss_func=nn.CrossEntropyLoss).fit_stages(Stage(bs=4), make.dls_at)

def test_what_works(make):
    assert len(make().fit_stages((s for s in [Stage(bs=4)]), make.dls_at)) == 1
    assert len(make().fit_stages(Stage(bs=4), make.dls_at)) == 1
    h = make().fit_stages([Stage(bs=4, opt=Spec('torch.optim.Adagrad')), Stage(bs=4, opt=Spec('SGD'))], make.dls_at)
    assert h.mom.isna().tolist() == [True, False]
    make(cbs=MixUp(.4)).fit_stages(Stage(bs=4, loss=LabelSmoothingCrossEntropyFlat()), make.dls_at)
    learn = make()
    learn.opt_func = OptimWrapper(opt=torch.optim.SGD(learn.model.parameters(), lr=.1))
    learn.fit_stages(Stage(bs=4), make.dls_at)

# What follows a training

@pytest.mark.parametrize('end', ['whole', 'early', 'interrupted'])
def test_no_callback_acts_after_the_training(make, end):
    class Sizes(Callback):
        order = ProgressiveResize.order + 1
        seen = set()
        def before_batch(self): Sizes.seen.add((self.training, self.xb[0].shape[-1]))
    learn = make(cbs=[ProgressiveResize(6, 10), MixUp(.4), AutoPrecision(torch.bfloat16), ValidateLast(2), L1(),
                      Sizes()])
    plain_loss = learn.loss_func
    stage = Stage(bs=4, epochs=5, lr=1e-2)
    if end == 'interrupted': interrupted(learn, stage, make.dls_at)
    else:
        class Stop(Callback):
            def after_epoch(self):
                if self.training is False and end == 'early' and self.epoch == 1: raise CancelFitException
        with learn.added_cbs(Stop()): learn.fit_stages(stage, make.dls_at)
    assert learn.loss_func is plain_loss and not learn.model.training and not learn.training
    assert not torch.is_autocast_enabled('cpu')
    Sizes.seen.clear()
    judged, (probs, _) = learn.validate(), learn.get_preds()
    learn.predict(learn.dls.valid_ds.items[0])
    assert Sizes.seen == {(False, 16)}
    assert torch.allclose(probs.sum(1), torch.ones(len(probs))) # the loss's own activation, not MixUp's
    bare = Learner(learn.dls, learn.model, metrics=accuracy)
    with bare.no_bar(): assert torch.equal(probs, bare.get_preds()[0]) and list(judged) == list(bare.validate())

def test_the_same_learner_goes_on_after_an_interruption(make):
    "As in a notebook: the cell is stopped and run again"
    plan = Stage(bs=4, epochs=4, lr=1e-2, cbs=(CSVLogger('log.csv'), Spec('EMA', .9)))
    whole = make()
    expected = whole.fit_stages(plan, make.dls_at, out='whole')
    learn = make()
    interrupted(learn, plan, make.dls_at, out='run')
    assert learn.logger is noop
    got = learn.fit_stages(plan, make.dls_at, out='run')
    pd.testing.assert_frame_equal(got.drop(columns='seconds'), expected.drop(columns='seconds'), check_exact=True)
    assert same(weights(learn), weights(whole)) and learn.resumed == 2

# fastai's contracts

@pytest.mark.parametrize('opt', [None, Spec('torch.optim.SGD', momentum=.9), Spec('torch.optim.Adagrad'), Spec('Muon')])
def test_what_fastai_does_after_a_training(make, opt):
    learn = make()
    stage = Stage(bs=4, epochs=2, lr=1e-2, opt=opt, mixup=.2, cbs=EMA(.9))
    learn.fit_stages([Stage(bs=4), stage], make.dls_at)
    assert len(learn.recorder.hps['lr']) == 2*len(learn.dls.train)
    assert max(learn.recorder.hps['lr']) <= 1e-2 and ('mom' in learn.recorder.hps) == ('Adagrad' not in str(opt))
    learn.recorder.plot_sched()
    learn.recorder.plot_loss()
    learn.show_results()
    learn.lr_find(num_it=20, show_plot=False)
    before = learn.predict(learn.dls.valid_ds.items[0])[2]
    learn.export('model.pkl')
    with warnings.catch_warnings():
        warnings.simplefilter('ignore') # that a pickle can execute code: ours does not
        assert torch.equal(load_learner('model.pkl').predict(learn.dls.valid_ds.items[0])[2], before)
    learn.fit_stages([Stage(bs=4), stage], make.dls_at)
    learn.fit_flat_cos(1)
    if 'Adagrad' not in str(opt): learn.fit_one_cycle(1)

def test_stages_with_an_optimiser_of_their_own_run_again(make):
    "The learner's own optimiser is what a folder is checked by, also after a stage brought another"
    learn, plan = make(), Stage(bs=4, opt=Spec('torch.optim.SGD'))
    for resumed in (0, 1):
        learn.fit_stages(plan, make.dls_at, out='run')
        assert learn.resumed == resumed

def test_the_recorder_of_a_resumed_run(make):
    plan = Stage(bs=4, epochs=4, lr=1e-2)
    whole, learn = make(), make()
    whole.fit_stages(plan, make.dls_at, out='whole')
    interrupted(make(), plan, make.dls_at, out='run')
    learn.fit_stages(plan, make.dls_at, out='run')
    for a, b in ((learn.recorder, whole.recorder),):
        assert a.hps == b.hps and a.lrs == b.lrs and a.iters == b.iters
        assert [float(l) for l in a.losses] == [float(l) for l in b.losses]
        assert [list(v) for v in a.values] == [list(v) for v in b.values]
    learn.recorder.plot_loss()

# Folders

def test_one_process_a_folder(make):
    from filelock import FileLock
    learn = make()
    Path('run').mkdir()
    with FileLock('run/.lock'), pytest.raises(InputError, match='in use by another process'):
        learn.fit_stages(Stage(bs=4), make.dls_at, out='run')
    with claimed('run'): learn.fit_stages(Stage(bs=4), make.dls_at, out='run') # whoever holds it may train in it
    learn.fit_stages(Stage(bs=4), make.dls_at, out='run')

def test_home(make, monkeypatch, tmp_path):
    monkeypatch.setenv('HOME', str(tmp_path/'home'))
    learn = make()
    learn.fit_stages(Stage(bs=4), make.dls_at, out='~/run')
    save_weights(learn.model, '~/model.safetensors')
    load_weights(learn.model, '~/model.safetensors')
    html_report('~/run', '~/report.html')
    monkeypatch.setenv('VISIONKIT_CACHE', '~/cache')
    assert cache_dir() == tmp_path/'home'/'cache'
    assert {p.name for p in (tmp_path/'home').iterdir()} == {'run', 'model.safetensors', 'report.html'}
    assert not Path('~').exists()

@pytest.mark.parametrize('name', ['VISIONKIT_CACHE', 'VISIONKIT_ARCHIVES'])
def test_home_of_nobody(name, tmp_path):
    env = {**os.environ, 'VISIONKIT_CACHE': str(tmp_path), 'VISIONKIT_ARCHIVES': '', name: '~nobody-here/data'}
    done = capture(main, ['fetch', 'mnist'], environ=env)
    assert done.returncode == 2 and done.stderr.startswith(f"visionkit: {name}='~nobody-here/data'"), done.stderr
    assert len(done.stderr.splitlines()) == 1
