"""What corrected labels are worth: train on given, corrected and true labels, validate on labels that nobody changed.

A share of the training labels of clothing is moved (the sets of benchmarks/labels.py), `label_preds` and `diagnose`
find the wrong ones. "sure" takes every row with the verdict "relabel"; "corrected" gives the true label to every row with
the verdict "relabel" or "look", as a person would who looks at them. Then the same training runs on the four tables, for
each seed, and predicts clothing's own validation images. results/benchmarks/cleaning.json gets the accuracies and the
shares of wrong labels. Run it again to go on where it stopped."""
import argparse, json
from labels import given_labels, predictions

KINDS = 'given', 'sure', 'corrected', 'true'

def corrected(preds, true):
    "(labels after every \"relabel\", labels after a look at all that are marked, the diagnosis, the rows marked)"
    from visionkit.all import diagnose, label_issues
    diagnosis = diagnose(preds)
    issues = label_issues(preds, diagnosis).set_index('path').loc[preds.df.path].reset_index()
    marked = issues.verdict.isin(['relabel', 'look'])
    sure = issues.suggested.where(issues.verdict == 'relabel', issues.given)
    return sure.values, issues.given.mask(marked, true).values, diagnosis, int(marked.sum())

def accuracy(table, validation, seed, args, name):
    "Accuracy on `validation` of a network that was trained on `table`"
    from visionkit.all import evaluate, train_folder
    run = train_folder(table, out=args.out, name=f'cleaning-{name}', seed=seed, hold_out=False, epochs=args.epochs,
                       size=args.size, bars=False)
    return evaluate(run.path, validation).accuracy, run.result['seconds']['train']

def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--noise', default='uniform', help='the set of labels (default uniform)')
    p.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    p.add_argument('--kinds', nargs='+', choices=KINDS, default=KINDS, help='tables to train on (default all)')
    p.add_argument('--epochs', type=int, default=3, help='of each training (default 3)')
    p.add_argument('--size', type=int, default=64, help='pixels (default 64)')
    p.add_argument('--label-size', type=int, default=96, help='pixels of the networks that find the wrong labels')
    p.add_argument('--label-epochs', type=int, default=4)
    p.add_argument('--out', default='runs', help='where runs go (default runs)')
    return p.parse_args()

def main():
    from visionkit.all import atomic_write, get_source, results_dir, run_info
    args = arguments()
    items, true = given_labels(args.noise)
    tables = dict(given=items, true=items.assign(label=true))
    found = {}
    if {'sure', 'corrected'} & {*args.kinds}:
        preds = predictions(args.noise, args.out, size=args.label_size, epochs=args.label_epochs)
        sure, looked, diagnosis, marked = corrected(preds, true)
        tables.update(sure=items.assign(label=sure), corrected=items.assign(label=looked))
        about = diagnosis.to_json() # with None for an unknown rate
        found = dict(kind=about['kind'], rate=about['rate'], interval=about['interval'], marked=marked,
                     label_seconds=preds.seconds)
    rows = []
    for seed in args.seeds:
        trained = {} # labels → accuracy and seconds: without a row of the verdict "relabel", two tables are the same
        for kind in args.kinds:
            labels = tuple(tables[kind].label)
            if labels not in trained:
                trained[labels] = accuracy(tables[kind], get_source('clothing')/'validation', seed, args, kind)
            score, seconds = trained[labels]
            rows.append(dict(labels=kind, seed=seed, accuracy=round(score, 4), seconds=seconds))
            print(rows[-1], flush=True)
    if set(args.kinds) != set(KINDS): return
    wrong = {kind: round(float((tables[kind].label != true).mean()), 4) for kind in KINDS}
    info = run_info()
    result = dict(data='clothing', noise=args.noise, images=len(items), **found, wrong=wrong, rows=rows,
                  epochs=args.epochs, size=args.size, label_size=args.label_size, label_epochs=args.label_epochs,
                  hardware=info['hardware'], versions=info['versions'], commit=info['commit'])
    with atomic_write(results_dir()/'benchmarks'/'cleaning.json', 'w') as f: json.dump(result, f, indent=1)

if __name__ == '__main__': main()
