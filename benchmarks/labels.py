"""`visionkit labels` on photographs whose wrong labels are known: the networks that it trains today beside small ones.

Labels of the training images of clothing: as they are; a fifth moved to any other class (uniform); a fifth moved to the
most similar class (asymmetric). results/diagnose/labels.json gets a row a set and a network: verdict, rate, interval,
the rows marked "relabel", the share of wrong labels before and after taking all of them, the same after a person has
corrected all rows marked "relabel" or "look" (flagged), and the average precision.
Run it again to go on where it stopped."""
import argparse, json
from pathlib import Path
import numpy as np, pandas as pd

SETS = 'clean', 'uniform', 'asymmetric'
SIMILAR = dict(dress='skirt', hat='shoes', longsleeve='t-shirt', outwear='longsleeve', pants='shorts',
               shirt='longsleeve', shoes='hat', shorts='pants', skirt='shorts')
SIMILAR['t-shirt'] = 'shirt'

def given_labels(name, rate=.2):
    "(table of path and given label, true labels) of the training images"
    from visionkit.all import corrupt, get_source, image_items, noise_matrix
    files = image_items(get_source('clothing')/'train')
    classes = sorted({f.parent.name for f in files})
    true = np.array([classes.index(f.parent.name) for f in files])
    eye = np.eye(len(classes))
    similar = eye[[classes.index(SIMILAR[c]) for c in classes]]
    T = dict(clean=eye, uniform=noise_matrix('symmetric', len(classes), rate), asymmetric=(1 - rate)*eye + rate*similar)
    given = corrupt(true, T[name], seed=1)
    return pd.DataFrame(dict(path=list(map(str, files)), label=[classes[i] for i in given])), np.array(classes)[true]

def predictions(name, out, size=None, epochs=None, small=False):
    "Out-of-fold predictions of a set: by the networks that `labels` trains, or small ones from random weights"
    from visionkit.all import label_learner, label_preds, oof_preds
    items, _ = given_labels(name)
    folder = Path(out)/f'labels-clothing-{name}-{"small" if small else f"planned{size or str()}"}'
    if small: return oof_preds(items, label_learner, out=folder)
    return label_preds(items, folder, size=size, epochs=epochs, bars=False)

def row(name, preds, network):
    "What `diagnose` and `label_issues` make of a set"
    from visionkit.all import diagnose, label_issues
    from cleanlab.rank import get_label_quality_scores
    from sklearn.metrics import average_precision_score
    _, true = given_labels(name)
    d = diagnose(preds)
    issues = label_issues(preds, d)
    rank = pd.Series(-issues.index.values, index=issues.path).loc[preds.df.path].values
    issues = issues.set_index('path').loc[preds.df.path]
    wrong, taken = issues.given.values != true, issues.verdict.values == 'relabel'
    flagged = taken | (issues.verdict.values == 'look')
    after = np.where(taken, issues.suggested.values, issues.given.values)
    theirs = -get_label_quality_scores(preds.targs.numpy(), preds.probs.double().numpy())
    precision = lambda scores: float(average_precision_score(wrong, scores)) if wrong.any() else None
    return dict(set=name, network=network, images=len(true), wrong=float(wrong.mean()),
                right=float((preds.df.pred.values == true).mean()), verdict=d.kind,
                rate=None if np.isnan(d.rate) else d.rate, low=d.interval[0],
                high=d.interval[1], relabel=int(taken.sum()), flagged=int(flagged.sum()),
                relabel_wrong=float(wrong[taken].mean()) if taken.any() else None,
                relabel_right=float((after == true)[taken].mean()) if taken.any() else None,
                wrong_after=float((after != true).mean()), flagged_wrong=float(wrong[flagged].mean()) if flagged.any() else None,
                wrong_after_look=float((wrong & ~flagged).mean()), ap=precision(rank), ap_cleanlab=precision(theirs),
                seconds=preds.seconds)

def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--sets', nargs='+', choices=SETS, default=SETS, help='sets of labels (default all)')
    p.add_argument('--networks', nargs='+', choices=('planned', 'small'), default=['planned', 'small'])
    p.add_argument('--size', type=int, default=96, help='pixels of the planned networks (default 96)')
    p.add_argument('--epochs', type=int, default=4, help='of the planned networks (default 4)')
    p.add_argument('--out', default='runs', help='folder for what can be resumed (default runs)')
    return p.parse_args()

def main():
    from visionkit.all import atomic_write, results_dir, run_info
    args, path = arguments(), results_dir()/'diagnose'/'labels.json'
    rows = json.loads(path.read_text())['rows'] if path.exists() else []
    for network in args.networks:
        for name in args.sets:
            small = dict(small=True) if network == 'small' else dict(size=args.size, epochs=args.epochs)
            new = row(name, predictions(name, args.out, **small), network)
            print(new, flush=True)
            rows = [r for r in rows if (r['set'], r['network']) != (name, network)] + [new]
            info = run_info()
            with atomic_write(path, 'w') as f:
                json.dump(dict(data='clothing', size=args.size, epochs=args.epochs, rows=rows, hardware=info['hardware'],
                               versions=info['versions'], commit=info['commit']), f, indent=1)

if __name__ == '__main__': main()
