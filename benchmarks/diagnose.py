"""Wrong labels that we made ourselves: what `diagnose` makes of them, and how well `label_issues` ranks them
beside cleanlab.

For each data set and kind of noise the labels of the training images are drawn anew, networks are trained out of fold
(`oof_preds`, as in `visionkit labels`), and a line goes to results/diagnose/<data>.csv: the share of wrong labels
drawn, the verdict, the rate with its interval, average precision of the ranking, ours and cleanlab's on the same
probabilities, share of right suggestions, seconds. Run it again to go on where it stopped."""
import argparse, warnings
warnings.filterwarnings('ignore')
from pathlib import Path

def kinds(k):
    "name → P(given | true) for `k` classes"
    import numpy as np
    from visionkit.transition import noise_matrix
    biased = np.full((k, k), .3/(k - 2))
    for i in range(k): biased[i, i], biased[i, (i + 3) % k] = 0, .7
    return {'none': np.eye(k),
            **{f'symmetric {r}': noise_matrix('symmetric', k, r/100) for r in (5, 10, 20, 40, 60, 80)},
            **{f'pair {r}': noise_matrix('pair', k, r/100) for r in (20, 40)},
            'complementary': noise_matrix('complementary', k), 'complementary biased': biased}

def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--data', nargs='+', default=['mnist', 'fashion_mnist'],
                   help='data sets with a training folder (default: mnist fashion_mnist)')
    p.add_argument('--kinds', nargs='+', help='some of the kinds of noise, as the table names them (default: all)')
    p.add_argument('--n', type=int, help='only so many images, drawn with a fixed seed')
    p.add_argument('--out', default='runs', help='folder for what can be resumed (default runs)')
    return p.parse_args()

def measure(name, kind, T, n, out):
    "One line of the table"
    import numpy as np, pandas as pd
    from cleanlab.rank import get_label_quality_scores
    from sklearn.metrics import average_precision_score
    from visionkit.all import (corrupt, diagnose, get_source, image_items, label_issues, label_learner, oof_preds,
                               run_info, sources)
    files = image_items(get_source(name)/sources[name].train)
    if n: files = [files[i] for i in sorted(np.random.default_rng(0).permutation(len(files))[:n])]
    classes = sorted({f.parent.name for f in files})
    true = np.array([classes.index(f.parent.name) for f in files])
    given = corrupt(true, T, seed=1)
    items = pd.DataFrame(dict(path=[str(f) for f in files], label=[classes[i] for i in given]))
    preds = oof_preds(items, label_learner, out=Path(out)/f'diagnose-{name}-{kind}{n or ""}'.replace(' ', '-'))
    found = diagnose(preds)
    issues = label_issues(preds, found)
    # Scores near 1 tie, ranks do not
    issues = issues.assign(rank=range(len(issues), 0, -1)).set_index('path').loc[preds.df.path]
    wrong = given != true
    precision = lambda score: average_precision_score(wrong, score) if wrong.any() and not wrong.all() else None
    info = run_info()
    return dict(noise=kind, n=len(files), wrong=wrong.mean(), verdict=found.kind, rate=found.rate,
                low=found.interval[0], high=found.interval[1], ap=precision(issues['rank']),
                ap_cleanlab=precision(-get_label_quality_scores(given, preds.probs.numpy())),
                suggested_right=(issues.suggested.values == np.array(classes)[true]).mean(), seconds=found.seconds,
                cpu=info['hardware']['cpu'], commit=info['commit'])

def main():
    args = arguments()
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

if __name__ == '__main__': main()
