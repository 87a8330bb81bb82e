"""Training images per second, end to end: `fit_stages` with its defaults against plain fastai.

Both train the 6.57 million-parameter residual network on the same CIFAR-10 PNGs with fastai's Adam and one cycle. Plain
fastai is `Learner.fit_one_cycle` on its default loader in float32. Each has a process of its own, since `fit_stages`
has its process keep freed memory. Rounds alternate, the first one warms up, and the ratio is the median over the rest:
seconds alone say little on a shared machine.
"""
import argparse, statistics, time
from multiprocessing import get_context
from fastai.vision.all import *
from visionkit.all import *

class TrainTime(Callback):
    "Seconds spent in the training part of the last epoch"
    order = -20
    def before_train(self): self.started = time.perf_counter()
    def after_train(self): self.seconds = time.perf_counter() - self.started

def learner(files, bs, dl_type, workers):
    "A learner on `files`, of which the last batch is held out"
    block = DataBlock((ImageBlock, CategoryBlock), get_y=parent_label,
                      splitter=IndexSplitter(range(len(files)-bs, len(files))),
                      batch_tfms=Normalize.from_stats(*cifar_stats))
    dls = DataLoaders.from_dblock(block, files, bs=bs, num_workers=workers,
                                  **(dict(dl_type=dl_type) if dl_type else {}))
    return Learner(dls, custom_resnet(), loss_func=CrossEntropyLossFlat(), cbs=TrainTime())

def trainer(name, args, pipe):
    "Train an epoch and send its images/s, each time something comes through `pipe`"
    files = random.Random(0).sample(sorted(get_image_files(get_source('cifar10')/'train')), args.n + args.bs)
    if name == 'plain fastai':
        learn = learner(files, args.bs, None, defaults.cpus if args.workers is None else args.workers)
        fit = lambda: learn.fit_one_cycle(1, 1e-3)
    else:
        learn = learner(files, args.bs, CachedDL, None)
        fit = lambda: learn.fit_stages([Stage(bs=args.bs, epochs=1, lr=1e-3)])
    while pipe.recv():
        with learn.no_bar(), learn.no_logging(): fit()
        pipe.send(args.n/learn.train_time.seconds)

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--n', type=int, default=2048, help='training images an epoch (default 2048)')
    p.add_argument('--bs', type=int, default=128, help='batch size (default 128)')
    p.add_argument('--rounds', type=int, default=3, help='measured rounds of each (default 3)')
    p.add_argument('--workers', type=int, help="fastai's loader processes (default: fastai's choice)")
    args, context = p.parse_args(), get_context('spawn')
    rates, pipes = {'plain fastai': [], 'fit_stages': []}, {}
    for name in rates:
        pipes[name], theirs = context.Pipe()
        # No daemon: fastai's loader starts processes of its own
        context.Process(target=trainer, args=(name, args, theirs)).start()
        theirs.close()
    for i in range(args.rounds + 1):
        for name, pipe in pipes.items():
            pipe.send(True)
            rate = pipe.recv()
            if i: rates[name].append(rate)
            print(f'round {i} {name:13} {rate:7.1f} images/s{"" if i else " (warm-up, not counted)"}', flush=True)
    for pipe in pipes.values(): pipe.send(False)
    ratio = statistics.median(a/b for a, b in zip(rates['fit_stages'], rates['plain fastai']))
    print(f'fit_stages is {ratio:.2f} times as fast as plain fastai '
          f'(float32; ours: {fast_dtype()}, channels last; {torch.get_num_threads()} threads)')

if __name__ == '__main__': main()
