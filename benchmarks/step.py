"""Training images per second, end to end: `fit_stages` with its defaults against plain fastai.

Both train the 6.57 million-parameter residual network on the same CIFAR-10 PNGs with fastai's Adam and one cycle. Plain fastai is
`Learner.fit_one_cycle` on its default loader in float32. Rounds alternate, the first one warms up, and the ratio is the median over the rest: seconds
alone say little on a shared machine. Once `fit_stages` has run, its process keeps freed memory, which speeds up plain fastai's rounds too: the ratio is
on the careful side.
"""
import argparse, statistics, time
from fastai.vision.all import *
from visionkit.all import *

class TrainTime(Callback):
    "Seconds spent in the training part of the last epoch"
    order = -20
    def before_train(self): self.started = time.perf_counter()
    def after_train(self): self.seconds = time.perf_counter() - self.started

def learner(files, bs, dl_type, workers):
    "A learner on `files`, of which the last batch is held out"
    block = DataBlock((ImageBlock, CategoryBlock), get_y=parent_label, splitter=IndexSplitter(range(len(files)-bs, len(files))),
                      batch_tfms=Normalize.from_stats(*cifar_stats))
    dls = DataLoaders.from_dblock(block, files, bs=bs, num_workers=workers, **(dict(dl_type=dl_type) if dl_type else {}))
    return Learner(dls, custom_resnet(), loss_func=CrossEntropyLossFlat(), cbs=TrainTime())

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--n', type=int, default=2048, help='training images an epoch (default 2048)')
    p.add_argument('--bs', type=int, default=128, help='batch size (default 128)')
    p.add_argument('--rounds', type=int, default=3, help='measured rounds of each (default 3)')
    p.add_argument('--workers', type=int, help="fastai's loader processes (default: fastai's choice)")
    args = p.parse_args()
    rng = random.Random(0)
    files = rng.sample(sorted(get_image_files(get_source('cifar10')/'train')), args.n + args.bs)
    plain = learner(files, args.bs, None, defaults.cpus if args.workers is None else args.workers)
    ours = learner(files, args.bs, CachedDL, None)
    runs = {'plain fastai': (plain, lambda: plain.fit_one_cycle(1, 1e-3)),
            'fit_stages': (ours, lambda: ours.fit_stages([Stage(bs=args.bs, epochs=1, lr=1e-3)]))}
    rates = {name: [] for name in runs}
    for i in range(args.rounds + 1):
        for name, (learn, fit) in runs.items():
            with learn.no_bar(), learn.no_logging(): fit()
            if i: rates[name].append(args.n/learn.train_time.seconds)
            print(f'round {i} {name:13} {args.n/learn.train_time.seconds:7.1f} images/s{"" if i else " (warm-up, not counted)"}', flush=True)
    ratio = statistics.median(a/b for a, b in zip(rates['fit_stages'], rates['plain fastai']))
    print(f'fit_stages is {ratio:.2f} times as fast as plain fastai (float32; ours: {fast_dtype()}, channels last; {torch.get_num_threads()} threads)')

if __name__ == '__main__': main()
