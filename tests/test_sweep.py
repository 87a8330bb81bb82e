"Sweeps: workers killed and started again, several at once, on SQLite and on PostgreSQL."
import errno, glob, os, re, shutil, signal, subprocess, tempfile, time
from dataclasses import replace
from pathlib import Path
import pandas as pd, pytest
from safetensors.torch import load_file
from warm import capture, job
from visionkit.all import InputError, get_recipe, sweep
from visionkit.cli import main
from visionkit.study import get_optuna

SPACE = {'lr': {'low': 1e-3, 'high': .1, 'log': True}, 'bs': [32, 64]}

def a_recipe(epochs=2):
    "The digits on a few images, for some epochs"
    smoke = get_recipe('digits').smoke()
    return replace(smoke, stages=(replace(smoke.stages[0], epochs=epochs),))

def worker(out, trials, storage=None, die_at=0, settings={}):
    "Train trials in this process, which kills itself as the epoch `die_at` of those that it trains begins"
    import visionkit.sweep
    class Mortal(visionkit.sweep.ReportEpochs):
        seen = 0
        def before_epoch(self):
            Mortal.seen += 1
            if Mortal.seen == die_at: os.kill(os.getpid(), signal.SIGKILL)
            super().before_epoch()
    visionkit.sweep.ReportEpochs = Mortal
    sweep(a_recipe(), SPACE, trials, storage, out, **settings)

def taught_worker(out, trials):
    "Train trials of a recipe with a teacher, which its workers share"
    from visionkit.recipe import TaughtBy
    sweep(replace(a_recipe(), before=(TaughtBy('digits'),)), SPACE, trials, out=out)

def outcome(out):
    table = pd.read_csv(out/'sweeps'/'digits-smoke-0'/'trials.csv')
    return table.drop(columns='seconds')

def a_study(out): return get_optuna().load_study(
    study_name='digits-smoke-0', storage=f'sqlite:///{out}/sweeps/digits-smoke-0/study.db')

def together(folder, *workers, target=worker):
    "Run workers at once, each in a process of its own; returns the numbers of the trials of each"
    files = [(folder/f'out{i}', folder/f'err{i}') for i in range(len(workers))]
    running = [job(target, *words, files=f) for words, f in zip(workers, files)]
    for p in running: p.start()
    for p in running: p.join()
    assert [p.exitcode for p in running] == [0]*len(running), [err.read_text() for _, err in files]
    return [list(map(int, re.findall(r'^trial (\d+):', out.read_text(), re.M))) for out, _ in files]

@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory):
    out = tmp_path_factory.mktemp('undisturbed')
    worker(out, 3)
    return out

def test_a_killed_worker_resumes_its_trial(undisturbed, tmp_path):
    for trials, die_at in ((3, 2), (3, 3)): # in the second epoch of trial 0, in the second of trial 1
        assert capture(worker, tmp_path, trials, None, die_at).returncode == -signal.SIGKILL
    running = [t.number for t in a_study(tmp_path).trials if t.state.name == 'RUNNING']
    assert len(running) == 1 and (tmp_path/'sweeps'/'digits-smoke-0'/str(running[0])/'checkpoint').exists()
    worker(tmp_path, 3)
    pd.testing.assert_frame_equal(outcome(tmp_path), outcome(undisturbed))
    for k in range(3):
        ours, theirs = (load_file(out/'sweeps'/'digits-smoke-0'/str(k)/'model.safetensors') for out in (tmp_path, undisturbed))
        assert all((ours[name] == theirs[name]).all() for name in theirs)

def test_two_workers_train_each_trial_once(tmp_path):
    out = tmp_path/'runs'
    printed = together(tmp_path, (out, 5), (out, 5))
    assert sorted(sum(printed, [])) == [*range(5)] and all(printed)
    table = outcome(out)
    assert list(table.trial) == [*range(5)] and set(table.state) == {'complete'} and table.lr.nunique() == 5
    assert {p.name for p in (out/'sweeps'/'digits-smoke-0').iterdir() if p.is_dir()} == {*'01234'}

def test_two_workers_share_a_teacher(tmp_path):
    out = tmp_path/'runs'
    printed = together(tmp_path, (out, 2), (out, 2), target=taught_worker)
    assert sorted(sum(printed, [])) == [0, 1] and set(outcome(out).state) == {'complete'}
    assert len(list((out/'sweeps'/'digits-smoke-0').glob('digits-0-smoke*/result.json'))) == 1

def test_a_dead_worker_elsewhere(tmp_path, monkeypatch):
    "Its trial fails when it has given no sign of life for long, and another one takes its place"
    import visionkit.study
    shared, here, there = f'sqlite:///{tmp_path}/study.db', tmp_path/'here', tmp_path/'there'
    assert capture(worker, there, 2, shared, 2).returncode == -signal.SIGKILL
    worker(here, 2, shared)
    assert list(outcome(here).state) == ['running', 'complete'] # it may still be alive
    monkeypatch.setattr(visionkit.study, 'grace_seconds', 1)
    time.sleep(2)
    worker(here, 2, shared)
    table = outcome(here)
    assert list(table.state) == ['fail', 'complete', 'complete'] and table.error.isna().all()
    assert list(table.here) == [False, True, True]
    worker(there, 2, shared)
    assert len(outcome(here)) == 3

def test_a_trial_below_the_median_is_pruned(tmp_path):
    from visionkit.space import read_space
    from visionkit.study import open_sweep, task_of
    optuna = get_optuna()
    begun = open_sweep(task_of(a_recipe(), {}), read_space(SPACE), None, tmp_path)
    perfect = optuna.trial.create_trial(value=1., intermediate_values={500: 1., 1000: 1.})
    for _ in range(5): begun.study.add_trial(perfect)
    worker(tmp_path, 6)
    table = outcome(tmp_path)
    assert (table.state[5], table.epochs[5]) == ('pruned', 1)
    assert len(pd.read_csv(begun.folder/'5'/'history.csv')) == 1 and not (begun.folder/'5'/'result.json').exists()

def test_a_full_disk_fails_no_trial(tmp_path, monkeypatch):
    def full(*args, **kwargs): raise OSError(errno.ENOSPC, 'No space left on device')
    with monkeypatch.context() as m:
        m.setattr('visionkit.experiment.save_weights', full)
        with pytest.raises(OSError): worker(tmp_path, 1)
    worker(tmp_path, 1)
    assert list(outcome(tmp_path).state) == ['complete']

def test_a_result_after_a_long_pause_is_dropped(tmp_path, monkeypatch, capsys):
    "The trial was marked as failed in the meantime, and another one takes its place"
    import visionkit.sweep
    whole, paused = visionkit.sweep.run_candidate, []
    def run_candidate(*args, **kwargs):
        run = whole(*args, **kwargs)
        if not paused:
            paused.append(a_study(tmp_path))
            paused[0].tell(0, state=get_optuna().trial.TrialState.FAIL)
        return run
    monkeypatch.setattr('visionkit.sweep.run_candidate', run_candidate)
    worker(tmp_path, 1)
    assert 'trial 0: result dropped' in capsys.readouterr().out
    assert list(outcome(tmp_path).state) == ['fail', 'complete']

def test_values_that_fail_after_a_long_pause(tmp_path, monkeypatch, capsys):
    def run_candidate(*args, **kwargs):
        monkeypatch.undo()
        a_study(tmp_path).tell(0, state=get_optuna().trial.TrialState.FAIL)
        raise ValueError('values that do not fit')
    monkeypatch.setattr('visionkit.sweep.run_candidate', run_candidate)
    worker(tmp_path, 1)
    assert 'trial 0: result dropped' in capsys.readouterr().out
    assert list(outcome(tmp_path).state) == ['fail', 'complete']

def test_heartbeats_survive_an_error_of_the_database(tmp_path, monkeypatch):
    from visionkit.space import read_space
    from visionkit.study import open_sweep, task_of
    tried, beats = open_sweep(task_of(a_recipe(), {}), read_space(SPACE), None, tmp_path), []
    def beat(trial):
        beats.append(trial)
        if len(beats) == 1: raise get_optuna().exceptions.StorageInternalError('lost')
    number = tried.study.ask().number
    monkeypatch.setattr('visionkit.sweep.beat_seconds', .01)
    monkeypatch.setattr(tried.storage, 'record_heartbeat', beat)
    with tried._heartbeats(number):
        deadline = time.time() + 10
        while len(beats) < 3 and time.time() < deadline: time.sleep(.01)
    assert len(beats) >= 3

def test_a_lost_database_is_one_line(tmp_path):
    tried = sweep(a_recipe(), SPACE, 1, out=tmp_path)
    assert tried.best_line.startswith('best: trial 0')
    tried.storage.remove_session()
    tried.storage.engine.dispose()
    (tried.folder/'study.db').unlink()
    for ask in (lambda: tried.best_line, tried.table):
        with pytest.raises(InputError, match='study.db fails'): ask()

def opener(out, storage, rank):
    "Open sweeps at the same moments as the other worker, with another plan than it; print the plan that holds"
    from visionkit.space import read_space
    from visionkit.study import Task, open_sweep
    items, recipe = pd.DataFrame(dict(path=['a'], label=['b'], split=['train'])), replace(a_recipe(), drop_last=bool(rank))
    def plan():
        (out.parent/f'{k} ready {rank}').touch()
        for _ in range(5000): # it may have ended
            if (out.parent/f"{k} ready {1 - rank}").exists(): break
            time.sleep(.001)
        return recipe, items
    for k in range(10):
        opened = open_sweep(Task(f'race{k}', 0, {}, plan), read_space(SPACE), storage, out)
        opened.check_plan()
        print(opened.recipe.drop_last)

def test_two_plans_at_the_same_moment(tmp_path):
    "The first worker to create the study stores its plan, and the other one takes it"
    shared = f'sqlite:///{tmp_path}/study.db'
    together(tmp_path, *((tmp_path/f'place{rank}', shared, rank) for rank in (0, 1)), target=opener)
    first, second = ((tmp_path/f'out{i}').read_text() for i in (0, 1))
    assert first == second and len(first.split()) == 10

# The command

def test_the_command_on_a_folder(shell, tmp_path):
    from visionkit.all import get_source
    for c in '0123':
        for i, f in enumerate(sorted((get_source('digits')/c).iterdir())[:25]):
            target = tmp_path/'mine'/('train' if i < 20 else 'test')/c/f.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(f, target)
    (tmp_path/'space.json').write_text('{"lr": {"low": 0.001, "high": 0.01, "log": true}}')
    line = 'sweep mine --space space.json --trials 1 --epochs 1 --arch resnet18 --weights none --size 32'.split()
    done = shell(*line)
    assert done.returncode == 0, done.stderr
    assert re.search(r'^trial 0: lr=0.00\d+: accuracy ', done.stdout, re.M) and '\nbest: trial 0' in done.stdout
    trial = tmp_path/'runs'/'sweeps'/'mine-0'/'0'
    assert len(pd.read_csv(trial/'items.csv')) == 80 and '/test/' not in (trial/'items.csv').read_text()
    assert shell('evaluate', trial, 'mine/test').returncode == 0 # a run as any other
    again = shell(*line)
    assert again.returncode == 0 and not re.search('^trial', again.stdout, re.M)
    assert 'different value for its settings' in shell(*line[:-1], '48').stderr
    (tmp_path/'space.json').write_text('{"lr": [0.001, 0.01]}')
    assert 'different value for its search space' in shell(*line).stderr

def test_errors_of_the_command(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    def fails(words, *expected):
        "Exit status 2 and one line"
        assert main(words) == 2
        error = capsys.readouterr().err
        assert len(error.splitlines()) == 1 and all(w in error for w in expected), error
    fails(['sweep', 'digits', '--space', 'nowhere.json'], 'nowhere.json holds no search space')
    for text, *words in (('[1]', 'holds no search space'), ('{}', 'is empty'), ('{"lr": 3}', 'search space, lr: give a list'),
                         ('{"data": [1, 2]}', 'search space, data: a recipe has no such field'),
                         ('{"lr": {"low": 0, "high": 1}}', 'search space, lr: lr=0: give a number above 0'),
                         ('{"bs": [32, "many"]}', "search space, bs: bs='many'"),
                         ('{"loss": [{"call": "eval"}, {"call": "BatchFocalLoss"}]}', "registered as 'eval'")):
        (tmp_path/'space.json').write_text(text)
        fails(['sweep', 'digits', '--space', 'space.json', '--trials', '1'], *words)
    (tmp_path/'space.json').write_text('{"lr": [0.01, 0.02]}')
    line = 'sweep digits --space space.json'.split()
    fails([*line, '--trials', '0'], 'trials=0')
    fails([*line, '--minutes', '5'], 'minutes is for the plan of a folder')
    fails(['sweep', 'mnist-step1', *line[2:]], 'no `tune` split')
    fails(['sweep', 'photos/mine', *line[2:]], 'photos/mine: no such folder')
    fails([*line, '--storage', 'redis://x'], 'the database redis://x fails')
    fails([*line, '--storage', 'postgresql:me:secret@host'], 'the storage is not the URL of a database')
    fails([*line, '--storage', 'postgresql+psycopg://me:secret@127.0.0.1:9/db'], '//me:***@127.0.0.1:9/db fails')
    assert not list((tmp_path/'runs').rglob('recipe.json'))

# PostgreSQL, as Debian and Ubuntu install it

def program(name):
    "The newest program of PostgreSQL called `name`, or None"
    return shutil.which(name) or next(iter(sorted(glob.glob(f'/usr/lib/postgresql/*/bin/{name}'), reverse=True)), None)

@pytest.fixture(scope='module')
def postgres():
    "URL of a database server in a temporary folder; it runs as an unprivileged user and is reached by a socket alone"
    if not program('initdb'): pytest.skip('PostgreSQL is not installed: initdb is missing')
    pytest.importorskip('psycopg')
    folder = Path(tempfile.mkdtemp(dir='/tmp'))
    user = dict(user='nobody') if os.geteuid() == 0 else {}
    if user: shutil.chown(folder, 'nobody')
    def run(name, *words):
        subprocess.run([program(name), *words], check=True, cwd=folder, stdout=subprocess.DEVNULL, **user)
    control = ['-D', f'{folder}/data', '-w']
    run('initdb', '-D', f'{folder}/data', '-A', 'trust', '-U', 'visionkit', '--no-sync', '--no-locale', '-E', 'UTF8')
    run('pg_ctl', *control, '-l', f'{folder}/log', '-o', f"-c listen_addresses='' -c fsync=off -k {folder}", 'start')
    try: yield f'postgresql+psycopg://visionkit@/postgres?host={folder}'
    finally:
        run('pg_ctl', *control, '-m', 'immediate', 'stop')
        shutil.rmtree(folder)

def test_workers_of_two_folders_on_postgresql(postgres, tmp_path):
    here, there = tmp_path/'here', tmp_path/'there'
    printed = together(tmp_path, (here, 5, postgres), (here, 5, postgres), (there, 5, postgres))
    assert sorted(sum(printed, [])) == [*range(5)]
    table = sweep(a_recipe(), SPACE, 5, postgres, here).table()
    assert (table.state == 'complete').sum() == 5 and table.lr.nunique() == 5
    folders = [p for out in (here, there) for p in (out/'sweeps'/'digits-smoke-0').iterdir() if p.is_dir()]
    assert len(folders) == 5

def test_a_killed_worker_resumes_its_trial_on_postgresql(postgres, undisturbed, tmp_path):
    words = dict(name='killed')
    assert capture(worker, tmp_path, 1, postgres, 2, words).returncode == -signal.SIGKILL
    tried = sweep(a_recipe(), SPACE, 1, postgres, tmp_path, **words)
    assert len(tried.table()) == 1
    theirs = undisturbed/'sweeps'/'digits-smoke-0'/'0'/'model.safetensors'
    ours, theirs = load_file(tried.folder/'0'/'model.safetensors'), load_file(theirs)
    assert all((ours[k] == theirs[k]).all() for k in theirs)
