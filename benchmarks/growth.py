"""Time, memory and size of files as a folder grows: 1,000, 10,000 and 100,000 images.

    python benchmarks/growth.py [--n 1000 10000 100000] [--out FILE] [--smoke]

The images are random colour fields of 48×48 pixels in ten class folders, all different. Each measurement has a process of
its own, and counts the memory that it adds to the imported libraries; file pages are left out, as the system may drop
them at any time. Exponents (1 is linear) are those of processor time, which a busy machine changes less than the clock.
`labels` diagnoses made-up probabilities, because training networks out of fold is linear in the images by itself."""
import argparse, math, os, tempfile, time, warnings
from importlib import import_module
from itertools import chain, islice, repeat
from pathlib import Path
from common import REPORTS, PeakMemory, cpu_seconds, in_process, write_report
import numpy as np
from PIL import Image

def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--n', type=int, nargs='+', default=[1000, 10_000, 100_000], help='images (default 1000 10000 100000)')
    p.add_argument('--only', nargs='+', choices=[f.__name__ for f in STAGES], help='these measurements only')
    p.add_argument('--out', default=REPORTS/'growth.json', help='JSON file to write')
    p.add_argument('--smoke', action='store_true', help='200 and 400 images')
    return p.parse_args()

def write_images(folder, n, classes=10):
    "`n` different JPEGs in class folders; each class has a colour that most of its images lean to"
    rng = np.random.default_rng(0)
    tints = rng.integers(0, 80, (classes, 3))
    for c in range(classes): (folder/f'class{c}').mkdir(parents=True)
    for i in range(n):
        c = i % classes
        field = (rng.integers(0, 176, (8, 8, 3)) + tints[c]).astype('uint8')
        Image.fromarray(field).resize((48, 48), Image.Resampling.BICUBIC).save(folder/f'class{c}'/f'{i:06}.jpg')

def loaders(folder):
    from visionkit.all import CachedDL, image_block
    return image_block(32).dataloaders(folder, dl_type=CachedDL)

# What is measured: functions of the folder of images and of a folder to write to

def files(folder, out):
    "list the files, divide them, make loaders"
    loaders(folder)

def decode(folder, out):
    "decode all images into the cache, to the first batch"
    loaders(folder).one_batch()

def reopen(folder, out):
    "find them in the cache, to the first batch"
    loaders(folder).one_batch()

def epoch(folder, out):
    "make all batches of an epoch"
    for _ in loaders(folder).train: pass

def steps(folder, out):
    "train a small network for 50 steps of 64 images, from an open cache"
    from fastai.vision.all import CrossEntropyLossFlat, Learner
    from visionkit.all import trunk_net
    learn = Learner(loaders(folder), trunk_net(3, 10, width=16), loss_func=CrossEntropyLossFlat())
    learn.create_opt()
    for x, y in islice(chain.from_iterable(repeat(learn.dls.train)), 50):
        learn.loss_func(learn.model(x), y).backward()
        learn.opt.step()
        learn.opt.zero_grad()

def labels(folder, out):
    "diagnose made-up probabilities with a tenth of the labels wrong; write noise.json, issues.csv and issues.html"
    from visionkit.all import (Predictions, diagnose, label_issues, label_report, named_items, open_image, save_issues)
    items, given, names, _ = named_items(folder)
    rng, vocab = np.random.default_rng(0), sorted(set(given))
    targs = np.array([vocab.index(l) for l in given])
    true = np.where(rng.random(len(items)) < .1, rng.integers(0, len(vocab), len(items)), targs)
    scores = rng.normal(0, 1, (len(items), len(vocab)))
    scores[np.arange(len(items)), true] += 4
    probs = np.exp(scores)/np.exp(scores).sum(1, keepdims=True)
    preds = Predictions(probs, targs, vocab, names, lambda i: open_image(items[i]))
    diagnosis = diagnose(preds)
    issues = label_issues(preds, diagnosis)
    save_issues(diagnosis, issues, out)
    label_report(preds, diagnosis, issues, out/'issues.html')

def inspect(folder, out):
    "inspect the folder: read all images, find copies, write tables and page"
    from visionkit.all import inspect_folder
    inspect_folder(folder, bars=False).save(out)

def train(folder, out):
    "train a ResNet18 of 32-pixel images for an epoch by `train_folder`: plan, training, predictions, heat maps, report"
    from visionkit.all import train_folder
    train_folder(folder, epochs=1, arch='resnet18', weights='none', size=32, out=out, name='grown', bars=False)

STAGES = (files, decode, reopen, epoch, steps, labels, inspect, train)
MOST = dict(train=10_000) # images: the time of an epoch is that of its steps

def measured(name, folder, out, cache):
    "Seconds, memory and written pages of one measurement; imports come before"
    warnings.filterwarnings('ignore')
    os.environ['VISIONKIT_CACHE'] = str(cache)
    with PeakMemory() as memory:
        began, before = time.perf_counter(), cpu_seconds()
        next(f for f in STAGES if f.__name__ == name)(folder, out)
        seconds, cpu = time.perf_counter() - began, cpu_seconds() - before
    pages = {p.name: round(p.stat().st_size/1e3) for p in out.rglob('*') if p.suffix in ('.html', '.csv', '.json')}
    return dict(seconds=round(seconds, 2), cpu=round(cpu, 2), mb=round(memory.mb - memory.before), kb=pages)

def exponent(results):
    "By which power processor time grew from the second largest folder to the largest; 1 is linear"
    if len(results) < 2: return None
    (n, small), (m, large) = sorted(results.items())[-2:]
    return round(math.log(large['cpu']/small['cpu'])/math.log(m/n), 2)

def main():
    args = arguments()
    if args.smoke: args.n = [200, 400]
    import_module('visionkit.all') # before the processes are forked
    stages = [f for f in STAGES if not args.only or f.__name__ in args.only]
    report = {f.__name__: dict(what=f.__doc__, by_images={}) for f in stages}
    for n in sorted(args.n):
        with tempfile.TemporaryDirectory() as d:
            write_images(Path(d)/'images', n)
            for name in (o for o in report if n <= MOST.get(o, n)):
                (out := Path(d)/name).mkdir()
                found = report[name]['by_images']
                found[n] = in_process(measured, name, Path(d)/'images', out, Path(d)/'cache')
                report[name]['exponent'] = exponent(found)
                print(f'{n:9,} {name:8} {found[n]}', flush=True)
        write_report(args.out, measurements=report) # after each size: the last one takes long

if __name__ == '__main__': main()
