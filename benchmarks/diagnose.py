"""What `diagnose` and `label_issues` make of folders whose wrong labels are known.

Without `--data`: simulated folders. An image is a row of scores, hard or clear; its true class is drawn from them, so
the networks are calibrated, until they are made over- or under-confident; its label is drawn by a kind of noise.
results/diagnose/simulated.json gets the bars (see `BARS`) by group of folders, and a row a folder.
With `--data`: the labels of a data set are drawn anew, networks are trained out of fold as in `visionkit labels`, and a
line a kind of noise goes to results/diagnose/<data>.csv. Run it again to go on where it stopped.
Both beside cleanlab's ranking of the same probabilities."""
import argparse, itertools, json, time, warnings
warnings.filterwarnings('ignore')
from dataclasses import asdict, dataclass, replace
from pathlib import Path
import numpy as np

# What is asked for, on every set of its kind; `smoke` asks the same of a few small folders
BARS = dict(covered='truth inside the interval, share of sets: .95',
            narrow='interval at most ten points wide, of 2,000 images and networks right on nine in ten, share: 1',
            sure_and_wrong='a kind or an interval that is wrong, share of sets: .02',
            harmed='sets with more wrong labels after every "relabel": 0',
            relabel_right='sets whose "relabel" rows are wrong labels nine times in ten, share: 1',
            precision='average precision less cleanlab\'s, the worst: -.002')

# Simulated folders

@dataclass
class Folder:
    "A simulated folder of images: who is in it, how hard the images are, how good the networks, which labels are wrong"
    name:str # group of sets that it belongs to
    noise:str='none' # see `wrong_labels`
    rate:float=0. # share of wrong labels, where the kind leaves it open
    k:int=10 # classes
    n:int=2000 # images
    skill:float=.95 # accuracy of the networks on the true classes
    spread:float=.6 # sd of the images' difficulty, as a logarithm: 0 all alike
    imbalance:float=1. # the largest class has so many times the images of the smallest
    alike:float=0. # similarity of the classes 2i and 2i + 1: 0 none, 1 no difference
    trust:float=1. # 1 calibrated networks; more: over-confident; less: under-confident
    wobble:float=.3 # sd of what else is wrong with a network's scores
    copies:int=1 # files of each image
    seed:int=0

def posteriors(f, rng):
    "(n,k) probabilities of the true class: what can be seen of it, at the skill of the networks"
    weights = np.geomspace(f.imbalance, 1, f.k)
    center = rng.choice(f.k, f.n, p=weights/weights.sum())
    shape = np.eye(f.k)
    for i in range(0, f.k - 1, 2): shape[i, i + 1] = shape[i + 1, i] = f.alike
    scale, noise = np.exp(f.spread*rng.normal(size=(f.n, 1))), rng.normal(size=(f.n, f.k))
    def at(s):
        scores = s*scale*shape[center] + np.sqrt(s)*noise
        p = np.exp(scores - scores.max(1, keepdims=True))
        return p/p.sum(1, keepdims=True)
    low, high = 0., 60.
    for _ in range(30): # the mean of the largest probability is the accuracy
        mid = (low + high)/2
        low, high = (mid, high) if at(mid).max(1).mean() < f.skill else (low, mid)
    return at(high)

def draw(p, rng):
    u = rng.random((len(p), 1))*p.sum(1, keepdims=True)
    return (p.cumsum(1) < u).sum(1).clip(max=p.shape[1] - 1)

def matrix(f, rng):
    "P(given | true) of noise that depends on the class alone"
    from visionkit.transition import noise_matrix
    k, r, eye = f.k, f.rate, np.eye(f.k)
    if f.noise in ('symmetric', 'pair', 'complementary'): return noise_matrix(f.noise, k, r)
    T = eye.copy()
    if f.noise == 'one class': T[k//2, k//2], T[k//2, (k//2 + 1) % k] = 1 - r, r
    elif f.noise == 'one class, all over': T[k//2] = (1 - r)*eye[k//2] + r*(1 - eye[k//2])/(k - 1)
    elif f.noise == 'swapped': T[:2, :2] = [[1 - r, r], [r, 1 - r]]
    elif f.noise == 'super-class':
        for i in range(0, k - 1, 2): T[i:i + 2, i:i + 2] = [[1 - r, r], [r, 1 - r]]
    elif f.noise == 'renamed': T[0, :2] = [.03, .97]
    elif f.noise == 'shuffled': T[:3, :3] = 1/3
    elif f.noise == 'uneven':
        for t in range(k): T[t] = (1 - r)*eye[t] + r*rng.dirichlet(np.full(k, .3))
    elif f.noise == 'permuted': T = np.roll(eye, 1, axis=1)
    elif f.noise == 'random': T = np.full((k, k), 1/k)
    return T

def wrong_labels(f, p, true, rng):
    "(given labels, calibrated probabilities of them)"
    if f.noise != 'hard images':
        T = matrix(f, rng)
        return draw(T[true], rng), p @ T
    # The less clear an image the more often it has the label of what it looks like next
    doubt = 1 - p.max(1)
    share = np.clip(doubt*f.rate/doubt.mean(), 0, .5)[:, None]
    others = lambda t: np.where(np.eye(f.k, dtype=bool)[t], 0, p + 1e-9)
    moved = rng.random(f.n) < share[:, 0]
    given = np.where(moved, draw(others(true), rng), true)
    q = (1 - share)*p
    for t in range(f.k):
        o = others(np.full(f.n, t))
        q += share*p[:, t:t + 1]*o/o.sum(1, keepdims=True)
    return given, q

def simulate(f):
    "(`Predictions` out of fold, true classes)"
    from visionkit.interpret import Predictions
    rng = np.random.default_rng(f.seed)
    p = posteriors(f, rng)
    true = draw(p, rng)
    image = np.repeat(np.arange(f.n//f.copies), f.copies)
    p, true = p[image], true[image]
    given, q = wrong_labels(f, p, true, rng)
    scores = f.trust*(np.log(q + 1e-9) + f.wobble*rng.normal(size=q.shape))
    q = np.exp(scores - scores.max(1, keepdims=True))
    preds = Predictions((q/q.sum(1, keepdims=True))[image*f.copies], given, [f'c{i:03d}' for i in range(f.k)])
    preds.copies = image*f.copies
    return preds, true

# (classes, images, skill)
USUAL = (10, 2000, .95), (10, 600, .8), (40, 3000, .9)
NOISY = (10, 2000, .97), (25, 3000, .92), (4, 400, .9), (10, 1000, .8), (62, 2480, .6), (4, 180, .6), (120, 3000, .9)
HARD = ((62, 744, .4), (62, 2480, .56), (62, 2480, .72), (120, 1200, .17), (120, 3000, .5), (4, 180, .56),
        (10, 1000, .7), (2, 1200, .85), (2, 300, .7), (25, 600, .8), (10, 2000, .15))
LOOKS = (0., 1, 0), (.6, 1, 0), (.6, 3, .5), (.3, .5, .8) # spread, trust, alike
LOST = ('one class', .8), ('one class', .6), ('renamed', 0), ('shuffled', 0)
SOME = ('none', 0), ('symmetric', .2), ('pair', .2)

def folders():
    "What real folders are like"
    pairs = itertools.product
    def group(name, noises, shapes, **how):
        return (Folder(name, noise, rate, *shape, **how) for (noise, rate), shape in pairs(noises, shapes))
    yield from group('clean', [('none', 0)], pairs((2, 10, 40), (300, 3000), (.9, .97, .995)))
    for shape, (spread, trust, alike) in pairs(HARD, LOOKS):
        yield from group('hard, clean', [('none', 0)], [shape], spread=spread, trust=trust, alike=alike)
    for kind in ('symmetric', 'pair', 'uneven'): yield from group(kind, pairs([kind], (.05, .1, .2, .4)), NOISY)
    yield from group('two classes', pairs(('symmetric', 'one class'), (.1, .3)), pairs([2], (300, 2000), (.8, .95)))
    parts = pairs(('one class', 'one class, all over', 'swapped', 'super-class'), (.1, .3, .45))
    yield from group('part', parts, ((10, 2000, .95), (10, 600, .85), (40, 3000, .9)), alike=.4)
    yield from group('lost class', LOST, ((10, 1800, .97), (25, 2500, .9), (10, 600, .8)))
    rare = ('none', 0), ('symmetric', .1), ('pair', .2), ('one class', .3)
    yield from group('imbalanced', rare, ((10, 2000, .95), (25, 3000, .9), (5, 400, .85)), imbalance=20)
    yield from group('hard images', pairs(['hard images'], (.03, .08, .15)), (*USUAL, (4, 400, .8), (62, 2480, .65)))
    for trust in (.4, 3):
        yield from group('uncalibrated', (*SOME, ('one class', .4)), USUAL, trust=trust, wobble=.6)
    for copies in (2, 3): yield from group('copies', SOME, ((10, 2000, .95), (10, 900, .85)), copies=copies)
    yield from group('beyond', pairs(('complementary', 'permuted', 'random'), [1.]), USUAL)

# A kind that is right, where it is not "asymmetric". Exchanged names look clean; next to no noise is clean as well
RIGHT = {"none": {'clean'}, 'symmetric': {'symmetric'}, 'complementary': {'complementary'}, 'permuted': {'clean'},
         'hard images': {'clean', 'asymmetric'}}

def kinds_right(f, rate, diagnosis):
    right = RIGHT.get(f.noise, {'asymmetric'})
    if f.noise == 'symmetric' and f.k == 2: right = right | {'asymmetric'} # two shares that differ by chance
    return right | {'clean'} if rate < .06 and rate <= diagnosis.interval[1] else right

def precisions(preds, issues, wrong):
    "Average precision of the ranking, ours and cleanlab's; None where nothing or everything is wrong"
    from cleanlab.rank import get_label_quality_scores
    from sklearn.metrics import average_precision_score
    if not wrong.any() or wrong.all(): return None, None
    rank = np.empty(len(wrong))
    rank[issues['at']] = np.arange(len(wrong), 0, -1) # scores near 1 tie, ranks do not
    scores = get_label_quality_scores(preds.targs.numpy(), preds.probs.double().numpy())
    return average_precision_score(wrong, rank), average_precision_score(wrong, -scores)

def judge(f):
    "A row of the table"
    from visionkit.diagnose import diagnose
    from visionkit.noise import label_issues
    preds, true = simulate(f)
    given, began = preds.targs.numpy(), time.time()
    d = diagnose(preds)
    issues = label_issues(preds, d)
    seconds = time.time() - began
    issues['at'] = issues.path.astype(int)
    names, wrong = np.array(preds.vocab, dtype=object), given != true
    rate, taken = float(wrong.mean()), issues[issues.verdict == 'relabel']
    after = names[given]
    after[taken['at']] = taken.suggested
    covered = f.noise == 'permuted' or d.interval[0] <= rate <= d.interval[1] # only trusted images could show it
    sure = d.kind not in ('unknown', 'random') # "random, or not learned" leaves both open
    ours, theirs = precisions(preds, issues, wrong)
    right = float((preds.probs.argmax(1).numpy() == true).mean())
    return dict(asdict(f), wrong=rate, agree=preds.accuracy, right=right, verdict=d.kind, estimate=d.rate,
                low=d.interval[0], high=d.interval[1], covered=covered,
                sure_and_wrong=bool(sure and (d.kind not in kinds_right(f, rate, d) or not covered)),
                relabel=len(taken), relabel_wrong=float(wrong[taken['at']].mean()) if len(taken) else None,
                harm=float((after != names[true]).mean()) - rate, ap=ours, ap_cleanlab=theirs, seconds=seconds)

def bars(t):
    "Each bar of `BARS` over the rows of `t`"
    good = t[(t.n//t.copies >= 2000) & (t.right >= .9) & ~t.noise.isin(['random', 'permuted', 'complementary'])]
    taken = t[(t.wrong > 0) & (t.relabel > 0) & (t.noise != 'permuted')]
    share = lambda values: round(float(values.mean()), 4) if len(values) else None
    gap = (t.ap - t.ap_cleanlab).dropna()
    return dict(sets=len(t), covered=share(t.covered), narrow=share(good.high - good.low <= .1 + 1e-9),
                sets_narrow=len(good), sure_and_wrong=share(t.sure_and_wrong), harmed=int((t.harm > 1e-12).sum()),
                relabel_right=share(taken.relabel_wrong >= .9), sets_relabel=len(taken),
                relabelled=int(t.relabel.sum()),
                precision=round(float(gap.min()), 4) if len(gap) else None, kind_known=share(t.verdict != 'unknown'))

def simulated(smoke, seeds):
    "Judge all folders, or every twentieth of them at most 600 images large"
    import pandas as pd
    from visionkit.all import atomic_write, results_dir, run_info
    every = [replace(f, seed=1000*i + s) for i, f in enumerate(folders()) for s in seeds]
    if smoke: every = [f for f in every if f.n <= 600][::6]
    t = pd.DataFrame([judge(f) for f in every])
    groups = {name: bars(rows) for name, rows in [*t.groupby('name', sort=False), ('all', t)]}
    print(pd.DataFrame(groups).T.to_string())
    if smoke: return groups['all']
    rows = t.drop(columns=['sure_and_wrong']).assign(sure_and_wrong=t.sure_and_wrong).round(4)
    info, path = run_info(), results_dir()/'diagnose'/'simulated.json'
    with atomic_write(path, 'w') as f:
        json.dump(dict(bars=BARS, seeds=list(seeds), groups=groups, hardware=info['hardware'],
                       versions=info['versions'], commit=info['commit'],
                       rows=json.loads(rows.to_json(orient='records'))), f, indent=1)
    return groups['all']

# Real images, labels drawn anew

def kinds(k):
    "name → P(given | true) for `k` classes"
    from visionkit.transition import noise_matrix
    biased = np.full((k, k), .3/(k - 2))
    for i in range(k): biased[i, i], biased[i, (i + 3) % k] = 0, .7
    return {'none': np.eye(k),
            **{f'symmetric {r}': noise_matrix('symmetric', k, r/100) for r in (5, 10, 20, 40, 60, 80)},
            **{f'pair {r}': noise_matrix('pair', k, r/100) for r in (20, 40)},
            'complementary': noise_matrix('complementary', k), 'complementary biased': biased}

def measure(name, kind, T, n, out):
    "One line of the table"
    import pandas as pd
    from visionkit.all import (corrupt, diagnose, get_source, image_items, label_issues, label_learner, oof_preds,
                               run_info, sources)
    files = image_items(get_source(name)/sources[name].train)
    if n: files = [files[i] for i in sorted(np.random.default_rng(0).permutation(len(files))[:n])]
    classes = sorted({f.parent.name for f in files})
    true = np.array([classes.index(f.parent.name) for f in files])
    given = corrupt(true, T, seed=1)
    items = pd.DataFrame(dict(path=[str(f) for f in files], label=[classes[i] for i in given]))
    preds = oof_preds(items, label_learner, out=Path(out)/f'diagnose-{name}-{kind}{n or ""}'.replace(' ', '-'))
    d = diagnose(preds)
    issues = label_issues(preds, d)
    issues['at'] = issues.path.map({p: i for i, p in enumerate(preds.df.path)})
    wrong = given != true
    ours, theirs = precisions(preds, issues, wrong)
    names, taken = np.array(classes, dtype=object), issues[issues.verdict == 'relabel']
    suggested = issues.set_index('at').suggested.sort_index().values
    info = run_info()
    return dict(noise=kind, n=len(files), wrong=wrong.mean(), verdict=d.kind, rate=d.rate, low=d.interval[0],
                high=d.interval[1], ap=ours, ap_cleanlab=theirs, suggested_right=(suggested == names[true]).mean(),
                relabel=len(taken), relabel_wrong=wrong[taken['at']].mean() if len(taken) else None, seconds=d.seconds,
                cpu=info['hardware']['cpu'], commit=info['commit'])

def real(args):
    import pandas as pd
    from visionkit.all import atomic_write, results_dir, sources
    for name in args.data:
        path, every = results_dir()/'diagnose'/f'{name}.csv', kinds(sources[name].classes)
        for kind in args.kinds or every:
            row = measure(name, kind, every[kind], args.n, args.out)
            print(name, row, flush=True)
            old = pd.read_csv(path).to_dict('records') if path.exists() else []
            rows = [r for r in old if (r['noise'], r['n']) != (kind, row['n'])] + [row]
            path.parent.mkdir(exist_ok=True)
            with atomic_write(path, 'w') as f: pd.DataFrame(rows).round(5).to_csv(f, index=False)

def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--smoke', action='store_true', help='a few small folders, in seconds; nothing is written')
    p.add_argument('--seeds', type=int, nargs='+', default=[10],
                   help='of the simulated folders (default 10: none that a number of `Limits` was set by)')
    p.add_argument('--data', nargs='+', help='data sets with a training folder, such as mnist fashion_mnist')
    p.add_argument('--kinds', nargs='+', help='some of the kinds of noise, as the table names them (default: all)')
    p.add_argument('--n', type=int, help='only so many images, drawn with a fixed seed')
    p.add_argument('--out', default='runs', help='folder for what can be resumed (default runs)')
    return p.parse_args()

def main():
    args = arguments()
    if args.data: real(args)
    else: simulated(args.smoke, args.seeds)

if __name__ == '__main__': main()
