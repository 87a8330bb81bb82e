"""The gain and the cost of an ensemble and of test-time augmentation for `characters-fast`.

For each of its five folds a network of each seed is trained (or found under --out, where `visionkit run` left it). The
validation images are predicted by each network, by each with test-time augmentation (fastai's `Learner.tta`), and by
the mean of all probabilities. A line for each goes to results/characters-fast/votes.csv: fold, seed (empty: all of them together),
networks, looks (views of each image), accuracy, seconds of training, judging (seconds of prediction)."""
import argparse, time

def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--seeds', type=int, nargs='+', default=[0, 1], help='of the networks (default: 0 1)')
    p.add_argument('--folds', type=int, nargs='+', default=range(5), help='some of the folds (default: all five)')
    p.add_argument('--looks', type=int, default=8, help='augmented views of each image, 2 or more (default 8)')
    p.add_argument('--out', default='runs', help='folder of the runs (default runs)')
    return p.parse_args()

def judge(run, looks):
    "((probabilities, seconds) of one view, the same of all augmented views, true classes)"
    from fastai.vision.all import set_seed
    from visionkit.all import Predictions, kfolds, load_weights, quiet
    from visionkit.recipes.characters import characters_fast
    from visionkit.assemble import recipe_learner, run_items
    folds = kfolds(5, seed=characters_fast.data.split.kwargs['seed'])
    learn = quiet(recipe_learner(characters_fast, run_items(characters_fast, folds[run.fold])))
    load_weights(learn.model, run.path/'model.safetensors')
    set_seed(run.seed) # of the augmented views
    seen = []
    for n in (0, looks):
        began = time.time()
        preds = Predictions.from_learner(learn, tta=n)
        seen.append((preds.probs, time.time() - began))
    return *seen, preds.targs

def rows_of(fold, seeds, looks, out):
    "The table's lines for one fold"
    from visionkit.experiment import reproduce
    runs = [reproduce('characters-fast', s, out=out, fold=fold) for s in seeds]
    judged = [judge(r, looks) for r in runs]
    y, train = judged[0][2], [r.result['seconds']['train'] for r in runs]
    right = lambda probs: round(float((probs.argmax(1) == y).double().mean()), 5)
    for i, n in enumerate((1, looks)):
        each = [j[i] for j in judged]
        for s, (probs, took), t in zip(seeds, each, train):
            yield dict(fold=fold, seed=s, networks=1, looks=n, accuracy=right(probs), train=t, judging=round(took, 1))
        together = sum(probs for probs, _ in each)/len(each)
        yield dict(fold=fold, seed=None, networks=len(seeds), looks=n, accuracy=right(together),
                   train=round(sum(train), 1), judging=round(sum(took for _, took in each), 1))

def main():
    args = arguments()
    import pandas as pd
    from visionkit.all import atomic_write, results_dir
    path = results_dir()/'characters-fast'/'votes.csv'
    for fold in args.folds:
        new = pd.DataFrame(rows_of(fold, args.seeds, args.looks, args.out)).astype(dict(seed='Int64'))
        old = pd.read_csv(path, dtype=dict(seed='Int64')) if path.exists() else new[:0]
        table = pd.concat([old[old.fold != fold], new]).sort_values('fold', kind='stable')
        with atomic_write(path, 'w') as f: table.to_csv(f, index=False)
        print(new.to_string(index=False), flush=True)

if __name__ == '__main__': main()
