"Reports and scoreboards on files that a notebook cell has no room for: hostile, damaged, unfinished, large."
import base64, io, json, re, subprocess, sys
from types import SimpleNamespace
from html.parser import HTMLParser
import pandas as pd, pytest
from visionkit.core import InputError
from visionkit.plan import Spec, Stage
from visionkit import report
from visionkit.figures import result_problems
from visionkit.report import html_report
from visionkit.runs import Run, load_runs, plot_history
from visionkit.scoreboard import scoreboard, scoreboard_check, scoreboard_md

PNG = ('iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==')
HARDWARE = dict(cpu='AMD EPYC 7B13', cores=2, gpu=None, ram=8.)

@pytest.fixture
def no_pictures(monkeypatch):
    "Drawing takes most of the time of a page; here only what stands around the pictures is looked at"
    monkeypatch.setattr(report, '_drawn', lambda draw, size, dark, layout=None: 'data:image/png;base64,')

def history(n=4, groups=1, last=.9, stages=2):
    return [dict(stage=1 + i*stages//n, epoch=i+1, train_loss=1/(i+1), train_accuracy=.5 + i/100, valid_loss=1.1/(i+1),
                 accuracy=last if i == n-1 else .6 + i/100, lr=[.01/(g+1) for g in range(groups)], mom=.9, seconds=2.5)
            for i in range(n)]

def result(last=.9, vocab=('a', 'b'), **kw):
    n, h = len(vocab), history(last=last)
    row = lambda i: [90 if i == j else 10 if j == (i+1) % n else 0 for j in range(n)]
    worst = dict(true=vocab[0], pred=vocab[1], p_true=.01, p_pred=.98, loss=4.6)
    return {**dict(
        recipe='toy', title='A toy', recipe_hash='abc', seed=0, fold=None, smoke=False, params=30_000, epochs=4,
        metrics=dict(accuracy_last=last, accuracy_best=max(r['accuracy'] for r in h), loss_last=h[-1]['valid_loss']),
        seed_figure=dict(value=.95, metric='test accuracy, last epoch', source='its log'),
        history=h, seconds=dict(train=10., total=12.), vocab=list(vocab),
        confusion=[row(i) for i in range(n)] if last == .9 else None,
        worst=[dict(worst, index=i, path=f'{vocab[0]}/{i}.png') for i in range(25)],
        hardware=HARDWARE, versions=dict(torch='2.14.1'), commit='0123456789abcdef', dirty=False,
        started='2026-01-01T00:00:00+00:00'), **kw}

def run_folder(path, res=None, rows=None, about=None, thumbs=None):
    path.mkdir(parents=True)
    settings = dict(params=30_000, stages=[dict(epochs=4), dict(epochs=2)], data=dict(source='digits'))
    (path/'recipe.json').write_text(json.dumps(about or dict(recipe='toy', seed=3, smoke=False, settings=settings)))
    if rows: pd.DataFrame(rows).assign(lr=[json.dumps(r['lr']) for r in rows]).to_csv(path/'history.csv', index=False)
    if res: (path/'result.json').write_text(json.dumps(res))
    if thumbs: (path/'thumbs.json').write_text(json.dumps(thumbs))
    return path

def test_best_of_five_runs_is_no_best_epoch(tmp_path):
    def compared(metric):
        path = tmp_path/'0.json'
        path.write_text(json.dumps(result(seed_figure=dict(value=.95, metric=metric))))
        return Run(path).compared[0]
    assert compared('test accuracy, last epoch, best of five') == 'accuracy_last'
    assert compared('validation accuracy, best epoch') == 'accuracy_best'

class Page(HTMLParser):
    "Tags, attributes and text; fails on a tag that is not closed in order"
    void = {'meta', 'img', 'br', 'source'}
    def __init__(self, html):
        super().__init__()
        self.tags, self.attrs, self.words, self.open = [], [], [], []
        self.feed(html)
        assert not self.open
    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attrs += attrs
        if tag not in self.void: self.open.append(tag)
    def handle_endtag(self, tag): assert self.open.pop() == tag
    def handle_data(self, data): self.words.append(data)
    @property
    def text(self): return ' '.join(' '.join(self.words).split())

def page(runs, out): return Page(html_report(runs, out/'report.html').read_text(encoding='utf-8'))

def test_everything_in_one_page(tmp_path):
    run = run_folder(tmp_path/'toy-0', result(), history(), thumbs={'a/0.png': PNG})
    p = page(run, tmp_path)
    words = ('90.00 %', '95.00 %', '−5.00', 'test accuracy, last epoch', 'its log', '30,000', '10.0 s', 'AMD EPYC',
             'torch 2.14.1', '0123456789ab', 'Most confused pairs', 'Top losses', '98.0 %', '1.0 %')
    assert [w for w in words if w not in p.text] == []
    assert p.tags.count('picture') == 5 and p.tags.count('figure') == 25
    assert [v for k, v in p.attrs if k == 'src' and PNG in v]

def test_nothing_is_fetched_or_executed(tmp_path):
    runs = [run_folder(tmp_path/'toy-0', result()), run_folder(tmp_path/'toy-1', result(seed=1, history=[]))]
    p = page(runs, tmp_path)
    links = [v for k, v in p.attrs if k in ('src', 'srcset', 'href', 'action', 'data', 'background', 'poster')]
    assert links and all(v.startswith(('data:image/png;base64,', '#run')) for v in links)
    assert not {'script', 'link', 'iframe', 'object', 'embed', 'base', 'form'} & set(p.tags)
    assert not [k for k, v in p.attrs if k.startswith('on')] and 'url(' not in (tmp_path/'report.html').read_text()
    ids = {v for k, v in p.attrs if k == 'id'}
    assert {v[1:] for k, v in p.attrs if k == 'href'} <= ids

def test_hostile_text_stays_text(tmp_path):
    evil = '<script>alert(1)</script>"\'><img src=x onerror=alert(1)>'
    res = result(vocab=(evil, 'b' + evil), title=evil, recipe=evil, commit=evil, started=evil, recipe_hash=evil,
                 seed_figure=dict(value=.9, metric=evil, source=evil), versions={evil: evil},
                 hardware=dict(HARDWARE, cpu=evil, gpu=evil))
    forged = ['"><script>alert(1)</script>', base64.b64encode(b'<svg onload=alert(1)>').decode(), 7]
    thumbs = {w['path']: t for w, t in zip(res['worst'], forged)}
    about = dict(recipe=evil, settings=dict(data=dict(source=evil)))
    p = page([run_folder(tmp_path/'toy-0', res, thumbs=thumbs, about=about), run_folder(tmp_path/'toy-1')], tmp_path)
    assert 'script' not in p.tags and not [k for k, _ in p.attrs if k.startswith('on')]
    assert evil.split('"')[0] in p.text
    assert p.tags.count('img') == 6   # the curves of each and of both, and the heat map: no forged thumbnail

def test_class_names_are_no_formulas(tmp_path):
    page(run_folder(tmp_path/'toy-0', result(vocab=('$x^$', '$\\frac$', 'b$'))), tmp_path)

def test_many_classes_get_pairs_only(tmp_path, no_pictures):
    p = page(run_folder(tmp_path/'toy-0', result(vocab=[f'c{i}' for i in range(62)])), tmp_path)
    assert 'Most confused pairs' in p.text and 'c0 c1 10' in p.text
    assert not [v for k, v in p.attrs if k == 'alt' and v == 'confusion matrix']

def test_killed_run_reports_what_it_has(tmp_path, no_pictures):
    run = run_folder(tmp_path/'toy-3', rows=history(3))
    p = page(run, tmp_path)
    assert 'unfinished: 3 of 6 epochs' in p.text and 'accuracy after epoch 3' in p.text and '90.00 %' in p.text
    assert 'Confusion' not in p.text
    assert p.tags.count('picture') == 4

def test_run_without_an_epoch(tmp_path):
    p = page(run_folder(tmp_path/'toy-3'), tmp_path)
    assert 'unfinished: 0 of 6 epochs' in p.text and 'No epoch is finished yet' in p.text

def test_run_that_holds_nothing_out(tmp_path, no_pictures):
    rows = [{k: v for k, v in r.items() if k not in ('valid_loss', 'accuracy')} for r in history()]
    res = result(fold='all', history=rows, metrics=dict(train_loss_last=.2), confusion=None, worst=[], seed_figure=None)
    p = page(run_folder(tmp_path/'toy-0-all', res, about=dict(recipe='toy', seed=0, fold='all')), tmp_path)
    assert 'without a validation set' in p.text and 'accuracy, last epoch' not in p.text

def test_smoke_run_is_not_held_against_the_seed(tmp_path, no_pictures):
    p = page(run_folder(tmp_path/'toy-0-smoke', result(smoke=True)), tmp_path)
    assert 'smoke run' in p.text and '95.00 %' not in p.text and '−5.00' not in p.text

def test_diverged_run(tmp_path):
    rows = history()
    for r in rows[1:]: r.update(train_loss=float('nan'), valid_loss=float('inf'))
    res = result(history=rows)
    res['metrics']['loss_last'] = float('nan')
    assert '90.00 %' in page(run_folder(tmp_path/'toy-0', res, rows), tmp_path).text

def test_single_epoch_and_many_groups(tmp_path):
    fig = plot_history(history(1, groups=3, stages=1))
    assert [len(a.lines) for a in fig.axes] == [2, 2, 3, 1]

def test_history_cut_anywhere_in_its_last_line(tmp_path):
    run = run_folder(tmp_path/'toy-3', rows=history(4))
    text = (run/'history.csv').read_text()
    for cut in range(1, len(text.splitlines()[-1])):
        (run/'history.csv').write_text(text[:-cut])
        assert len(Run(run).history) in (3, 4)

def test_bad_input_is_one_line(tmp_path, no_pictures):
    good, plain = run_folder(tmp_path/'runs'/'toy-0', result()), tmp_path/'notes.txt'
    plain.write_text('hello')
    (tmp_path/'list.json').write_text('[1, 2]')
    (tmp_path/'other.json').write_text('{"a": 1}')
    broken = run_folder(tmp_path/'broken')
    (broken/'recipe.json').write_bytes(b'\xff\xfe{')
    damaged = run_folder(tmp_path/'damaged', result(seconds='long', worst=[1]))
    for bad in (damaged, tmp_path/'nowhere', tmp_path, plain, tmp_path/'list.json', tmp_path/'other.json', broken):
        with pytest.raises(InputError) as e: load_runs(bad)
        assert '\n' not in str(e.value) and bad.name in str(e.value)
    for out in (tmp_path, plain/'x.html', '/proc/nowhere/report.html'):
        with pytest.raises(InputError) as e: html_report(good, out)
        assert '\n' not in str(e.value)

def test_a_folder_of_runs(tmp_path, no_pictures):
    for i in range(3): run_folder(tmp_path/'runs'/f'toy-{i}', result(seed=i))
    (tmp_path/'runs'/'notes').mkdir()
    runs = load_runs(tmp_path/'runs', tmp_path/'runs'/'toy-1')
    assert [r.seed for r in runs] == [0, 1, 2]
    assert page(runs, tmp_path).tags.count('section') == 3

def test_report_and_scoreboard_do_without_torch():
    code = 'import sys, visionkit.report, visionkit.scoreboard; sys.exit("torch" in sys.modules or "fastai" in sys.modules)'
    assert subprocess.run([sys.executable, '-c', code]).returncode == 0

class Toy:
    name, title, story, params, epochs, recipe_hash = 'toy', 'A | toy', 'toys', 30_000, 4, 'abc'
    data = SimpleNamespace(source='digits')
    seed_figure = dict(value=.95, metric='last | best', source='its log')
    loss, stages = Spec('CrossEntropyLossFlat'), (Stage(epochs=2), Stage(epochs=2))

def store(path, name, content):
    (path/name).parent.mkdir(parents=True, exist_ok=True)
    (path/name).write_text(content if isinstance(content, str) else json.dumps(content))

def test_scoreboard_of_nothing(tmp_path):
    assert scoreboard({}, tmp_path).empty and scoreboard_check({}, tmp_path) == []
    assert len(scoreboard_md({}, tmp_path).splitlines()) == 2
    assert scoreboard({'toy': Toy}, tmp_path/'nowhere').status[0] == 'not run'

def test_markdown_cells_hold_together(tmp_path):
    store(tmp_path, 'toy/0.json', result())
    lines = scoreboard_md({'toy': Toy}, tmp_path).splitlines()
    assert len({len(re.findall(r'(?<!\\)\|', l)) for l in lines}) == 1
    assert '| 90.00 % (n = 1) |' in lines[2]

@pytest.mark.parametrize('change', [dict(recipe_hash='old'), dict(params=1), dict(epochs=9), dict(history=history(3)),
                                    dict(metrics=dict(accuracy_last=.99))])
def test_stale_rows_say_so(tmp_path, change):
    store(tmp_path, 'toy/0.json', result(**change))
    assert scoreboard({'toy': Toy}, tmp_path).status[0].startswith('stale (0.json: ')
    assert '**stale**' in scoreboard_md({'toy': Toy}, tmp_path)
    assert scoreboard_check({'toy': Toy}, tmp_path, strict=True)

def test_stored_rubbish_breaks_nothing(tmp_path):
    damaged = [dict(history='x'), dict(metrics=[]), dict(confusion=[[1, 2]]), dict(metrics=dict(accuracy_last='high')),
               dict(hardware='fast'), dict(seconds=3), dict(history=[{}]*4), dict(fold=[1])]
    rubbish = ['', '[]', 'null', '{}', '{"metrics": 3}', '{"history": [1]}', '"x"']
    rubbish += [json.dumps(result(**d)) for d in damaged]
    for i, text in enumerate(rubbish): store(tmp_path, f'toy/{i}.json', text)
    problems = scoreboard_check({'toy': Toy}, tmp_path)
    for i in range(len(rubbish)): assert [p for p in problems if p.startswith(f'toy/{i}.json ')], (i, rubbish[i][:60])
    assert all('\n' not in p for p in problems)
    scoreboard_md({'toy': Toy}, tmp_path)

def test_loss_is_compared_only_where_it_is_cross_entropy():
    res = result()
    res['metrics']['loss_last'] = 5.
    assert result_problems(res) == [] and 'loss_last' in result_problems(res, ce=True)[0]

def edited(tmp_path, name, change):
    "A finished run with `change` made to the object in the file `name`"
    run = run_folder(tmp_path/f'toy-{len(list(tmp_path.iterdir()))}', result(), history())
    o = json.loads((run/name).read_text())
    change(o)
    (run/name).write_text(json.dumps(o))
    return run

@pytest.mark.parametrize('change', [
    lambda o: o['seconds'].update(total='long'), lambda o: o['worst'][0].update(path=[]),
    lambda o: o['worst'][0].update(loss='high'), lambda o: o['confusion'][0].__setitem__(1, None),
    lambda o: o['confusion'][0].__setitem__(1, float('nan')), lambda o: o['confusion'][0].__setitem__(1, -1),
    lambda o: o.update(confusion=True), lambda o: o.update(confusion=[True]), lambda o: o.update(vocab=['a', 'a']),
    lambda o: o['metrics'].update(accuracy_last=10**400), lambda o: o['metrics'].update(accuracy_last=True),
    lambda o: o['metrics'].update(accuracy_last=9.), lambda o: o.update(epochs='4'), lambda o: o.update(seed=True),
    lambda o: o['history'][0].update(lr={'a': 1}), lambda o: o['history'][0].update(accuracy=[1]),
    lambda o: o['seed_figure'].update(log=[None]), lambda o: o.update(settings=dict(stages=True)),
    lambda o: o.update(settings=dict(seed_figure='high'))])
def test_edited_results_are_refused_in_one_line(tmp_path, no_pictures, change):
    run = edited(tmp_path, 'result.json', change)
    with pytest.raises(InputError, match='is damaged') as e: html_report(run, tmp_path/'x.html')
    assert '\n' not in str(e.value) and run.name in str(e.value) and not (tmp_path/'x.html').exists()

@pytest.mark.parametrize('change', [
    lambda o: o['seconds'].update(total=None), lambda o: o['worst'][0].update(path=None), lambda o: o.pop('hardware'),
    lambda o: o.update(title='\ud800'), lambda o: o['metrics'].update(loss_last=float('nan')), lambda o: o.pop('vocab'),
    lambda o: o.update(versions={}, commit=None, seed_figure={})])
def test_gaps_in_results_are_read(tmp_path, no_pictures, change):
    assert '90.00 %' in page(edited(tmp_path, 'result.json', change), tmp_path).text

@pytest.mark.parametrize('stages', [True, 'x', [1], [dict(epochs='9')], [dict(epochs=0)], [dict(epochs=True)]])
def test_edited_recipe_of_an_unfinished_run(tmp_path, no_pictures, stages):
    run = edited(tmp_path, 'recipe.json', lambda o: o['settings'].update(stages=stages))
    (run/'result.json').unlink()
    with pytest.raises(InputError, match='settings'): Run(run)

@pytest.mark.parametrize('change', [
    lambda t: t.replace('\n', '\r\n'), lambda t: t.replace('\n', '\r'), lambda t: '\ufeff' + t,
    lambda t: pd.read_csv(io.StringIO(t)).to_csv(index=False, sep=';'),
    lambda t: pd.read_csv(io.StringIO(t)).to_csv(index=False, sep='\t'),
    lambda t: pd.read_csv(io.StringIO(t))[['seconds', 'lr', 'accuracy', 'epoch', 'stage']].to_csv(index=False)])
def test_history_saved_again_by_another_tool(tmp_path, change):
    run = run_folder(tmp_path/'toy-3', rows=history(4, groups=2))
    text = (run/'history.csv').read_text()
    (run/'history.csv').write_bytes(change(text).encode())
    read = Run(run).history
    assert read.accuracy.tolist() == [.6, .61, .62, .9] and read.lr.tolist()[0] == [.01, .005]
    assert read.epoch.tolist() == [1, 2, 3, 4]

@pytest.mark.parametrize('cell', ['x', '[' * 100_000, '1,2', '[1', '"'])
def test_history_with_a_wrong_cell(tmp_path, cell):
    run = run_folder(tmp_path/'toy-3', rows=history(4))
    text = (run/'history.csv').read_text()
    (run/'history.csv').write_text(text.replace('[0.01]', cell, 1))
    with pytest.raises(InputError, match='history') as e: Run(run)
    assert '\n' not in str(e.value)

def test_output_that_cannot_be_written_is_found_before_the_work(tmp_path, monkeypatch):
    run = run_folder(tmp_path/'toy-0', result())
    monkeypatch.setattr(report, '_section', lambda *args: pytest.fail('worked first'))
    (tmp_path/'file').touch()
    for out in (tmp_path, tmp_path/'file'/'x.html'):
        with pytest.raises(InputError): html_report(run, out)

def photos(folder, n, size=(3000, 2000)):
    from PIL import Image
    folder.mkdir()
    for i in range(n): Image.new('RGB', size, (i, 100, 200)).save(folder/f'{i}.jpg', quality=30)
    return [folder/f'{i}.jpg' for i in range(n)]

def test_pictures_are_decoded_one_at_a_time_and_kept_small(tmp_path):
    "The page of suspects, top losses and contact sheet hold no photograph at full size"
    import weakref, numpy as np, matplotlib.pyplot as plt
    from PIL import Image
    from visionkit.interpret import Predictions
    from visionkit.diagnose import Diagnosis
    from visionkit.noise import contact_sheet, label_issues
    files, decoded, most = photos(tmp_path/'photos', 12), [], []
    def image(i):
        im = Image.open(files[i])
        im.load()
        decoded.append(weakref.ref(im))
        most.append(sum(ref() is not None for ref in decoded))
        return im
    rng = np.random.default_rng(0)
    preds = Predictions(rng.dirichlet((5, 1), 12), np.arange(12) % 2, ['a', 'b'], [f.name for f in files], image)
    found = Diagnosis('clean', 0., (0, .1), ['a', 'b'], np.eye(2), [], [], 12)
    report.label_report(preds, found, label_issues(preds, found), tmp_path/'x.html')
    preds.thumbs(12)
    figures = [preds.plot_top_losses(12), preds.plot_confused_pairs(2, 5), contact_sheet(preds, n=6)]
    assert len(most) > 40 and max(most) <= 2
    for fig in figures:
        assert all(max(im.get_array().shape) <= 256 for ax in fig.axes for im in ax.images)
        plt.close(fig)
    preds.images = files.__getitem__ # a JPEG is decoded small from the start
    assert preds.image(3, 64).size == (64, 43) and preds.image(3).size == (3000, 2000)

def test_class_names_in_any_script(tmp_path):
    import matplotlib.pyplot as plt, warnings
    from visionkit.pictures import drawable
    with plt.rc_context({'font.family': ['cmr10']}): # it has no Cyrillic, and DejaVu Sans, which is installed, has
        names, fonts = drawable(['Кот', 'cat'])
    assert names == ['Кот', 'cat'] and fonts[0] == 'cmr10' and len(fonts) == 2
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter('always')
        page(run_folder(tmp_path/'toy-0', result(vocab=('\U0010fffda', '\U0010fffdb'))), tmp_path)
    assert not [w for w in told if 'Glyph' in str(w.message)] and len(told) <= 1
