"""What a redesign must not change: fingerprints of recipes, the scoreboard, diagnoses, help, weights.

`python tests/test_gold.py` records tests/gold.json anew, or with a word one part: `figures` after a new result, `weights`
on another machine. Where another part changes, the commit says why."""
import hashlib, json, os, re, sys, tempfile
from pathlib import Path
import numpy as np, pytest, torch
from safetensors.torch import load_file
from conftest import main # it puts tools/ on the path
from warm import capture
from visionkit.all import Predictions, corrupt, diagnose, noise_matrix, recipes, scoreboard, simulated_preds

GOLD = Path(__file__).with_name('gold.json')
COMMANDS = 'list fetch train run sweep report evaluate predict export inspect labels scoreboard'.split()
# A plain run, a plateau schedule, a diagnosis before training, a teacher; and, slower, starting weights of another run
SMOKE_RUNS = [f'{name} --smoke' for name in 'digits eva-s4 noisy-digits mnist-taught8k'.split()]
SLOW_RUNS = ['mnist-pretrained --smoke', 'digits']
NEED_TRUST = ('permuted', 'pair .6', 'symmetric 2 .7', 'one flipped .8', 'complementary 3', 'complementary', 'people')

@pytest.fixture(scope='module')
def gold(): return json.loads(GOLD.read_text(encoding='utf-8'))

# Recipes and scoreboard

def hashes(): return {name: r.recipe_hash for name, r in recipes().items()}

def plain(x):
    "`x` as JSON has it: numbers to six digits, None for what is missing"
    if isinstance(x, dict): return {k: plain(v) for k, v in x.items()}
    if isinstance(x, (float, np.floating)): return None if np.isnan(x) else round(float(x), 6)
    return x.item() if isinstance(x, np.generic) else x

def figures():
    "recipe → its row of the scoreboard, without the prose"
    board = scoreboard(recipes()).rename(columns=dict(published_value='seed_value'))
    # The interval follows from mean, sd and n
    other = ['title', 'story', 'published_metric', 'published_source', 'interval', 'date']
    return {r['recipe']: plain(r) for r in board.drop(columns=other).to_dict('records')}

def test_recipe_hashes(gold): assert hashes() == gold['hashes']

def test_scoreboard_row_by_row(gold):
    now = figures()
    assert list(now) == list(gold['figures'])
    for name, row in gold['figures'].items(): assert now[name] == row, name

# Diagnoses: the cases of the page on label noise, and the kinds of noise of results/diagnose, whose networks' answers
# are not stored, on random numbers

def trust(preds, truth, n=5):
    "`n` images of each class with their true label"
    return {preds.df.path[i]: preds.vocab[c] for c in range(len(preds.vocab)) for i in np.flatnonzero(truth == c)[:n]}

def around(row): return np.stack([np.roll(row, t) for t in range(len(row))])

def one_flipped(kept):
    "Class 3 keeps the share `kept` of its labels, the others are called 5"
    T = np.eye(10)
    T[3, 3], T[3, 5] = kept, 1 - kept
    return T

def matrices():
    "name → (P(given | true), how `simulated_preds` draws)"
    skewed = dict(weights=np.array([6, 1, 1, 1, 1, 1, 1, 1, 1, 6])/20)
    biased = noise_matrix('complementary', 10)*np.linspace(.2, 3, 10)
    few = around([0, .25, .003, .08, .25, .004, .08, .25, .003, .08])
    return {**{f'symmetric {r}': (noise_matrix('symmetric', 10, r), {}) for r in (.05, .1, .2, .4, .6, .8)},
            **{f'pair {r}': (noise_matrix('pair', 10, r), {}) for r in (.05, .2, .4, .45)},
            'clean': (np.eye(10), {}), 'clean 2': (np.eye(2), {}),
            'complementary': (noise_matrix('complementary', 10), {}),
            'complementary biased': (biased/biased.sum(1, keepdims=True), {}),
            'complementary few': (few/few.sum(1, keepdims=True), {}),
            'complementary favour': (around([0, .7, *[.3/8]*8]), {}),
            'complementary 3': (noise_matrix('complementary', 3), {}),
            'random': (np.full((10, 10), .1), {}), 'random 62': (np.full((62, 62), 1/62), dict(n=7705)),
            'symmetric 2': (noise_matrix('symmetric', 2, .3), {}),
            'symmetric 2 .7': (noise_matrix('symmetric', 2, .7), {}),
            'asymmetric 2': (np.array([[1, 0], [.3, .7]]), {}),
            'symmetric 3': (noise_matrix('symmetric', 3, .3), {}), 'pair 3': (noise_matrix('pair', 3, .3), {}),
            'symmetric skewed': (noise_matrix('symmetric', 10, .3), skewed),
            'pair skewed': (noise_matrix('pair', 10, .3), skewed),
            'complementary skewed': (noise_matrix('complementary', 10), skewed),
            'permuted': (np.roll(np.eye(10), 3, axis=1), {}), 'pair .6': (noise_matrix('pair', 10, .6), {}),
            'one flipped .4': (one_flipped(.6), {}), 'one flipped .8': (one_flipped(.2), {}),
            'people': (around([.92, .045, 0, .02, .015, 0, 0, 0, 0, 0]), dict(doubt=.2, people=.1))}

def large_cases():
    "name → `Predictions` of a hundred classes"
    for kind in ('symmetric', 'pair'): yield f'{kind} 100', simulated_preds(noise_matrix(kind, 100, .3), n=50_000)[0]

def digits_cases():
    "name → `Predictions` of two classifiers that know little of the embedded digits"
    from sklearn.datasets import load_digits
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict
    from sklearn.neighbors import KNeighborsClassifier
    pixels, digit = load_digits(return_X_y=True)
    answers = lambda classifier, x, y: cross_val_predict(classifier, x, y, cv=3, method='predict_proba')
    blurred = answers(LogisticRegression(max_iter=1000), PCA(3).fit_transform(pixels), digit)
    yield 'blurred digits', Predictions(blurred.round(4), digit, range(10)) # an optimiser's last digits vary
    for rate in (.1, .4):
        labels = corrupt(digit, noise_matrix('symmetric', 10, rate))
        yield f'votes {rate}', Predictions(answers(KNeighborsClassifier(10), pixels, labels), labels, range(10))

def weak_cases():
    "name → (`Predictions` of networks that tell little or nothing, true classes)"
    rng = np.random.default_rng(0)
    truth, nothing = rng.integers(4, size=400), rng.dirichlet(np.full(4, 50.), 400)
    yield 'nothing, right', Predictions(nothing, truth, range(4)), truth
    yield 'nothing, drawn', Predictions(nothing, rng.integers(4, size=400), range(4)), truth
    yield 'nothing, shifted', Predictions(nothing, (truth + 1) % 4, range(4)), truth
    truth = rng.integers(10, size=2000)
    for signal in (.05, .12):
        weak = rng.dirichlet(np.ones(10), 2000) + signal*np.eye(10)[truth]
        yield f'weak {signal}', Predictions(weak/weak.sum(1, keepdims=True), truth, range(10)), truth
    truth, blind = np.repeat(range(5), 2000), np.eye(5)
    blind[3:, 3:] = .5
    probs = (blind[truth] + 1e-4)*np.exp(rng.normal(0, .15, (10_000, 5)))
    yield 'two look alike', Predictions(probs/probs.sum(1, keepdims=True), truth, range(5)), truth

def quick_cases():
    "name → (`Predictions`, trusted images or None)"
    for name, (T, how) in matrices().items():
        preds, truth = simulated_preds(T, **how)
        yield name, preds, None
        if name in NEED_TRUST: yield f'{name}, trusted', preds, trust(preds, truth)
    for name, preds in digits_cases(): yield name, preds, None
    for name, preds, truth in weak_cases():
        yield name, preds, None
        for n in (5, 50): yield f'{name}, {n} trusted', preds, trust(preds, truth, n)

def verdict(preds, trusted=None):
    d = diagnose(preds, trusted)
    return plain(dict(kind=d.kind, rate=d.rate, low=d.interval[0], high=d.interval[1],
                      diagonal=d.matrix.diagonal().mean(), pairs=len(d.pairs)))

def verdicts(): return {name: verdict(preds, trusted) for name, preds, trusted in quick_cases()}
def large_verdicts(): return {name: verdict(preds) for name, preds in large_cases()}

@pytest.mark.parametrize('part, cases', [('verdicts', verdicts),
                                         pytest.param('large_verdicts', large_verdicts, marks=pytest.mark.slow)])
def test_diagnoses(gold, part, cases):
    now = cases()
    assert list(now) == list(gold[part])
    for name, verdict in gold[part].items():
        assert now[name] == {k: v if isinstance(v, (str, type(None))) else pytest.approx(v, abs=2e-6)
                             for k, v in verdict.items()}, name

# The command line

def help_text(*words):
    "What `--help` prints, as one line; from Python 3.13 on a short option no longer repeats its argument"
    env = dict(os.environ, COLUMNS='500', NO_COLOR='1')
    done = capture(main, [*words, '--help'], environ=env)
    text = ' '.join(done.stdout.split())
    return re.sub(r'(-\w) [A-Z]+, (--\w+ [A-Z]+)', r'\1, \2', text)

@pytest.mark.parametrize('name', ['', *COMMANDS])
def test_help(gold, name): assert help_text(*name.split()) == gold['help'][name]

# Weights, to the bit, on a machine where they were recorded

def machine(result):
    "Floating-point sums depend on it"
    return (f"{result['hardware']['cpu']} ({torch.backends.cpu.get_cpu_capability()}), "
            f"torch {result['versions']['torch']}, {torch.get_num_threads()} thread(s)")

def weights(words, folder):
    "(machine, fingerprint of the weights) of `visionkit run WORDS`"
    done = capture(main, ['run', *words.split(), '--out', 'gold'], cwd=folder)
    assert done.returncode == 0, done.stderr
    run, = (Path(folder)/'gold').glob(f'{words.split()[0]}-[0-9]*')
    digest = hashlib.sha256()
    for name, tensor in sorted(load_file(run/'model.safetensors').items()):
        digest.update(f'{name} {tensor.dtype} {tuple(tensor.shape)}'.encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy())
    return machine(json.loads((run/'result.json').read_text(encoding='utf-8'))), digest.hexdigest()

@pytest.mark.parametrize('words', [*SMOKE_RUNS, *(pytest.param(w, marks=pytest.mark.slow) for w in SLOW_RUNS)])
def test_weights(gold, words, tmp_path):
    on, digest = weights(words, tmp_path)
    if on not in gold['weights']: pytest.skip(f'weights were not recorded on {on}: python tests/test_gold.py weights')
    assert digest == gold['weights'][on][words]

def record(part):
    "Write tests/gold.json, or only its `part`; weights of other machines stay"
    gold = json.loads(GOLD.read_text(encoding='utf-8')) if GOLD.exists() else {}
    parts = dict(hashes=hashes, figures=figures, verdicts=verdicts, large_verdicts=large_verdicts, help=helps,
                 weights=lambda: all_weights(gold.get('weights', {})))
    for name in [part] if part else parts: gold[name] = parts[name]()
    GOLD.write_text(json.dumps(gold, indent=1, ensure_ascii=False) + '\n', encoding='utf-8')

def helps(): return {c: help_text(*c.split()) for c in ['', *COMMANDS]}

def all_weights(known):
    for words in [*SMOKE_RUNS, *SLOW_RUNS]:
        with tempfile.TemporaryDirectory() as folder: on, digest = weights(words, folder)
        known = {**known, on: {**known.get(on, {}), words: digest}}
    return known

if __name__ == '__main__': record(sys.argv[1] if len(sys.argv) > 1 else None)
