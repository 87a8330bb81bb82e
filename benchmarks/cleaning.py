"""What corrected labels are worth: train on given, corrected and true labels, validate on labels that nobody changed.

A share of the training labels of clothing is moved (the sets of benchmarks/labels.py), `label_preds` and `diagnose`
find the wrong ones, and every row with the verdict "relabel" is taken. Then the same training runs on the three tables,
for each seed, and predicts clothing's own validation images. results/benchmarks/cleaning.json gets the accuracies, the
shares of wrong labels, and the suggestions. Run it again to go on where it stopped."""
import argparse, json
from labels import given_labels, predictions

KINDS = 'given', 'corrected', 'true'

def corrected(preds):
    "(labels after every \"relabel\", the diagnosis, the table of issues in the order of `preds`)"
    from visionkit.all import diagnose, label_issues
    diagnosis = diagnose(preds)
    issues = label_issues(preds, diagnosis).set_index('path').loc[preds.df.path].reset_index()
    return issues.suggested.where(issues.verdict == 'relabel', issues.given), diagnosis, issues

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
    if 'corrected' in args.kinds:
        preds = predictions(args.noise, args.out, size=args.label_size, epochs=args.label_epochs)
        labels, diagnosis, issues = corrected(preds)
        tables['corrected'] = items.assign(label=labels.values)
        found = dict(kind=diagnosis.kind, rate=diagnosis.rate, interval=diagnosis.interval,
                     relabel=int((issues.verdict == 'relabel').sum()), label_seconds=preds.seconds)
    rows = []
    for seed in args.seeds:
        for kind in args.kinds:
            score, seconds = accuracy(tables[kind], get_source('clothing')/'validation', seed, args, kind)
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
