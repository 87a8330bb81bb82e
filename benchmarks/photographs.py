"""Training images per second on photographs: `fit_stages` against plain fastai, same network and size; and a step's parts.

    python benchmarks/photographs.py [PHOTOS] [--n 96] [--rounds 3] [--out FILE] [--smoke]

EfficientNet-Lite0 and ResNet18 at 128 and 224 pixels, forward, backward, optimiser and loader, on JPEGs of 256 pixels that are
made from PHOTOS (default: scikit-learn's two). Plain fastai is `fit_one_cycle` in float32 on its default loader with
`Resize(size, 'squish')`. Ours is `fit_stages` on `CachedDL`, in float32 and by `AutoPrecision`; all three normalise
and mirror. Each has a process of its own, since `fit_stages` has its process keep freed memory. Rounds alternate; the first one warms up.
A further process profiles the steps of `AutoPrecision` with the augmentation of `train_folder`, and one measures matrix products."""
import argparse, gc, os, tempfile, time, warnings
from collections import Counter
from importlib import import_module
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from common import REPORTS, compared, cpu_seconds, in_process, photographs, rounds, write_report

def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('photos', nargs='?', help="a folder of photographs (default: scikit-learn's)")
    p.add_argument('--n', type=int, default=96, help='training images of an epoch at 224 pixels (default 96); at 128 twice')
    p.add_argument('--bs', type=int, default=32, help='batch size (default 32)')
    p.add_argument('--rounds', type=int, default=3, help='measured rounds of each (default 3)')
    p.add_argument('--networks', nargs='+', default=['tf_efficientnet_lite0', 'resnet18'])
    p.add_argument('--sizes', type=int, nargs='+', default=[128, 224])
    p.add_argument('--workers', type=int, help="fastai's loader processes (default: fastai's choice)")
    p.add_argument('--out', default=REPORTS/'photographs.json', help='JSON file to write')
    p.add_argument('--smoke', action='store_true', help='one network, one size, a few images')
    return p.parse_args()

def write_photos(folder, images, n):
    for i, im in enumerate(islice(images, n)):
        file = folder/'ab'[i % 2]/f'{i:04}.jpg'
        file.parent.mkdir(parents=True, exist_ok=True)
        im.resize((256, 256)).save(file, quality=90)

def learner(folder, network, size, setup, augment=None):
    "A learner of `network`; `setup` holds n, bs, workers and the name of the arm"
    from fastai.vision.all import (Callback, CategoryBlock, CrossEntropyLossFlat, DataBlock, Flip, ImageBlock, Learner,
                                   Normalize, Resize, get_image_files, imagenet_stats, parent_label)
    from visionkit.all import CachedDL, architecture, image_block
    class TrainTime(Callback):
        "Seconds of the training part of the last epoch, by the clock and by the processor"
        order = -20
        def before_train(self): self.started = time.perf_counter(), cpu_seconds()
        def after_train(self):
            gc.collect() # ends the processes of the loader
            self.seconds, self.cpu = (now - then for now, then in zip((time.perf_counter(), cpu_seconds()), self.started))
    n, bs, workers, arm = setup
    def split(files):
        order = sorted(range(len(files)), key=lambda i: files[i].name) # classes alternate
        return order[:n], order[n:n+bs]
    tfms = [*(augment or [Flip()]), Normalize.from_stats(*imagenet_stats)]
    if arm == 'fastai':
        block = DataBlock((ImageBlock, CategoryBlock), get_items=lambda p: get_image_files(p).sorted(), get_y=parent_label,
                          splitter=split, item_tfms=Resize(size, method='squish'), batch_tfms=tfms)
        dls = block.dataloaders(folder, bs=bs, **({} if workers is None else dict(num_workers=workers)))
    else: dls = image_block(size, splitter=split, batch_tfms=tfms).dataloaders(folder, bs=bs, dl_type=CachedDL)
    return Learner(dls, architecture(network, 2, 'none').model, loss_func=CrossEntropyLossFlat(), cbs=TrainTime())

def fitter(learn, bs, arm):
    from visionkit.all import AutoPrecision, Stage
    if arm == 'fastai': return lambda: learn.fit_one_cycle(1, 1e-3)
    precision = AutoPrecision('float32' if arm == 'float32' else 'auto')
    return lambda: learn.fit_stages([Stage(bs=bs, epochs=1, lr=1e-3)], precision=precision)

def trainer(pipe, folder, network, size, setup):
    "Train an epoch and send its images a second, by the clock and by the processor, each time something true comes through `pipe`"
    warnings.filterwarnings('ignore')
    learn = learner(folder, network, size, setup)
    fit = fitter(learn, setup[1], setup[-1])
    while pipe.recv():
        with learn.no_bar(), learn.no_logging(): fit()
        n = setup[0]//setup[1]*setup[1]
        pipe.send(dict(rate=n/learn.train_time.seconds, rate_cpu=n/learn.train_time.cpu))

def race(folder, network, size, args, n):
    "Medians and ratios of the three arms"
    context, pipes, processes = get_context('fork'), {}, []
    for arm in ('fastai', 'float32', 'auto'):
        pipes[arm], theirs = context.Pipe()
        setup = n, args.bs, args.workers, arm
        processes.append(context.Process(target=trainer, args=(theirs, folder, network, size, setup)))
        processes[-1].start() # no daemon: fastai's loader starts processes of its own
        theirs.close()
    def rate(pipe):
        pipe.send(True)
        return pipe.recv()
    found = rounds({arm: lambda pipe=pipe: rate(pipe) for arm, pipe in pipes.items()}, args.rounds)
    for pipe in pipes.values(): pipe.send(False)
    for process in processes: process.join()
    return {arm: compared(found, arm, 'fastai') for arm in ('float32', 'auto')}

STEPS = 8 # profiled

# Op → part of a step; what stands nowhere else is 'other operations'
PARTS = dict(convolution='convolution linear addmm mm bmm matmul', normalisation='batch_norm', pooling='pool mean',
             activation='relu threshold hardtanh silu sigmoid clamp', conversion='copy_ to _to_copy contiguous clone')

def part_of(event, ranges):
    "The part of a step that `event` of the profiler belongs to"
    parent = event
    while parent:
        if parent.name in ranges: return parent.name
        parent = parent.cpu_parent
    name = event.name.removeprefix('aten::')
    return next((part for part, words in PARTS.items()
                 if any(w in name if len(w) > 3 else w == name for w in words.split())), 'other operations')

def phases():
    "A callback that gives the profiler the ranges 'loader and augmentation' and 'optimiser'"
    from fastai.vision.all import Callback
    from torch.profiler import record_function
    class Phases(Callback):
        order = 10_000
        def enter(self, name):
            self.range = record_function(name)
            self.range.__enter__()
        def leave(self):
            if getattr(self, 'range', None): self.range.__exit__(None, None, None)
            self.range = None
        def before_batch(self): self.leave()
        def after_batch(self): self.enter('loader and augmentation')
        def after_train(self): self.leave()
        def before_step(self): self.enter('optimiser')
        def after_step(self): self.leave()
    return Phases()

def profile(folder, network, size, setup):
    "Share of the time of training steps that each part takes, by torch.profiler"
    warnings.filterwarnings('ignore')
    import torch
    from torch.profiler import ProfilerActivity
    from visionkit.all import BatchFlip, BatchResizedCrop, ColorJitter
    learn = learner(folder, network, size, setup, [BatchFlip(), BatchResizedCrop((.4, 1.)), ColorJitter(.2, .2, .2)])
    fit = fitter(learn, setup[1], setup[-1])
    with learn.no_bar(), learn.no_logging():
        fit() # decodes, and warms up
        learn.add_cb(phases())
        with torch.profiler.profile(activities=[ProfilerActivity.CPU]) as prof: fit()
    training = learn.train_time.seconds
    spent, ranges = Counter(), ('loader and augmentation', 'optimiser')
    began = min(e.time_range.start for e in prof.events() if e.name in ranges)
    ended = max(e.time_range.end for e in prof.events() if e.name in ranges)
    for e in prof.events():
        if began <= e.time_range.start <= ended: spent[part_of(e, ranges)] += e.self_cpu_time_total/1e6
    spent['Python between operations'] = max(0, (ended - began)/1e6 - sum(spent.values()))
    total = sum(spent.values())
    return dict(ms_an_image=round(1000*training/setup[0], 2),
                shares={part: round(t/total, 4) for part, t in spent.most_common()})

def matmul_rates(dtype, n=2048):
    "GFLOP/s of matrix products in float32 and in `dtype`, by name: an upper bound for convolutions"
    import torch
    def rate(name):
        a, spent = torch.ones(n, n, dtype=getattr(torch, name)), []
        for _ in range(6):
            began = time.perf_counter()
            a @ a
            spent.append(time.perf_counter() - began)
        return round(2*n**3/min(spent)/1e9)
    return {name: rate(name) for name in dict.fromkeys(('float32', dtype))}

def main():
    args = arguments()
    if args.smoke: args.n, args.bs, args.rounds, args.networks, args.sizes, args.workers = 8, 4, 1, ['resnet18'], [32], 0
    import_module('visionkit.all') # before processes are forked: none of this one's threads is in use
    dtype = str(import_module('visionkit.callbacks').fast_dtype()).removeprefix('torch.')
    peaks, races, parts = in_process(matmul_rates, dtype, 256 if args.smoke else 2048), {}, {}
    with tempfile.TemporaryDirectory() as d:
        os.environ['VISIONKIT_CACHE'] = str(Path(d)/'cache')
        folder = Path(d)/'images'
        write_photos(folder, photographs(args.photos), max(2*args.n, STEPS*args.bs) + args.bs)
        for size in args.sizes:
            for network in args.networks:
                n, name = args.n*(2 if size < 200 else 1), f'{network} {size}'
                print(name, flush=True)
                races[name] = race(folder, network, size, args, n)
                print(races[name], flush=True)
                parts[name] = in_process(profile, folder, network, size, (STEPS*args.bs, args.bs, None, 'auto'))
                print(parts[name], flush=True)
                write_report(args.out, bs=args.bs, auto=dtype, peaks=peaks, races=races, parts=parts) # after each: the last is slow

if __name__ == '__main__': main()
