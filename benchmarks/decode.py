"""The first epoch over photographs: `CachedDL` against fastai's default loader, side by side; and a large cache on disk.

    python benchmarks/decode.py [PHOTOS] [--n 192] [--rounds 3] [--out FILE] [--smoke]
    python benchmarks/decode.py [PHOTOS] --disk 100000 [--out FILE]

PHOTOS is a folder of photographs, such as the clothing data (default: scikit-learn's two). Three sets are made of them:
JPEGs of 12 million pixels (upscaled; and the same with grain, which a camera adds, and which makes a file larger), and the
photographs with 400 pixels on the shorter side. fastai's is `ImageDataLoaders` with `Resize(224)`, with its best number of
workers; ours is `image_block(224)` with `CachedDL`, from no cache, writing its cache. Rounds alternate. Rates are those by
the clock and by processor time: on a busy machine the clock favours what runs more processes.
`--disk N` decodes N images at 224 pixels into the cache on disk, in a process of its own, and opens them in another."""
import argparse, json, os, tempfile, time, warnings
from importlib import import_module
from itertools import islice
from pathlib import Path
from common import REPORTS, PeakMemory, compared, cpu_seconds, in_process, photographs, rates, rounds, with_grain, write_report
import numpy as np
from PIL import Image

SETS = dict(large=(4000, 3000, False), camera=(4000, 3000, True), small=(533, 400, False)) # width, height, grain

def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('photos', nargs='?', help="a folder of photographs (default: scikit-learn's)")
    p.add_argument('--n', type=int, default=192, help='images of each set, a multiple of the batch size (default 192)')
    p.add_argument('--bs', type=int, default=64, help='batch size of both loaders (default 64, as in fastai)')
    p.add_argument('--rounds', type=int, default=3, help='measured rounds (default 3)')
    p.add_argument('--workers', type=int, nargs='+', default=[0, 1, 2, 4], help="fastai's numbers of workers to try")
    p.add_argument('--sets', nargs='+', choices=list(SETS), default=list(SETS), help='these only; the file keeps the others')
    p.add_argument('--disk', type=int, help='measure the cache on disk with so many images instead')
    p.add_argument('--out', help='JSON file to write')
    p.add_argument('--smoke', action='store_true', help='a few images, one round')
    return p.parse_args()

def write_set(folder, images, name, n):
    "`n` training JPEGs of the set `name` in two class folders, and one for validation"
    (width, height, grain), rng = SETS[name], np.random.default_rng(0)
    for i, im in enumerate(islice(images, n + 1)):
        size = (width, height) if im.width > im.height else (height, width)
        im = im.resize(size, Image.Resampling.BICUBIC)
        file = folder/name/('valid' if i == n else 'train')/'ab'[i % 2]/f'{i:03}.jpg'
        file.parent.mkdir(parents=True, exist_ok=True)
        (with_grain(im, rng) if grain else im).save(file, quality=90)
    return folder/name

def epoch(dl): return sum(len(xb) for xb, *_ in dl)

def fastai_epoch(folder, bs, workers):
    "Images of an epoch of fastai's default loader, which this makes"
    from fastai.vision.all import ImageDataLoaders, Resize
    return epoch(ImageDataLoaders.from_folder(folder, item_tfms=Resize(224), bs=bs, num_workers=workers).train)

def our_epoch(folder, bs, size=224):
    "Images of a first epoch of `CachedDL`, decoded into an empty cache"
    from fastai.vision.all import GrandparentSplitter
    from visionkit.all import CachedDL, image_block
    with tempfile.TemporaryDirectory() as d:
        os.environ['VISIONKIT_CACHE'] = d
        block = image_block(size, splitter=GrandparentSplitter())
        return epoch(block.dataloaders(folder, bs=bs, dl_type=CachedDL).train)

def difference(folder, size=224, n=50):
    "Mean and largest mean difference of pixels (of 255) between a whole decode and that at a fraction"
    from visionkit.all import CenterResize, OpenImage, image_files
    resize, whole, part = CenterResize(size), OpenImage(), OpenImage(size=size)
    pixels = lambda im: np.asarray(resize(im)).astype(int)
    means = [abs(pixels(whole(f)) - pixels(part(f))).mean() for f in image_files(folder)[:n]]
    return dict(mean=round(float(np.mean(means)), 3), largest=round(float(np.max(means)), 3), n=len(means))

def measure_sets(args):
    images, sets = photographs(args.photos), {}
    with tempfile.TemporaryDirectory() as d:
        for name in args.sets:
            width, height, _ = SETS[name]
            folder = write_set(Path(d), images, name, args.n)
            files = list((folder/'train').rglob('*.jpg'))
            tried = {w: rates(lambda: fastai_epoch(folder, args.bs, w)) for w in args.workers}
            best = max(tried, key=lambda w: tried[w]['rate'])
            print(f'{name}: fastai by workers {tried}', flush=True)
            found = rounds({'fastai': lambda: rates(lambda: fastai_epoch(folder, args.bs, best)),
                            'visionkit': lambda: rates(lambda: our_epoch(folder, args.bs))}, args.rounds, 0)
            sets[name] = dict(width=width, height=height, n=len(files), fastai_workers={w: round(t['rate'], 1) for w, t in tried.items()},
                              mb=round(sum(f.stat().st_size for f in files)/len(files)/1e6, 2),
                              **compared(found, 'visionkit', 'fastai'), difference=difference(folder))
            print(name, sets[name], flush=True)
    return sets

def linked(folder, images, n, distinct=2000):
    "A folder of `n` names for `distinct` JPEGs of 256 pixels"
    originals = folder/'originals'
    originals.mkdir()
    for i, im in enumerate(islice(images, min(n, distinct))): im.resize((256, 256)).save(originals/f'{i}.jpg', quality=90)
    for c in 'ab': (folder/'images'/c).mkdir(parents=True)
    for i in range(n): os.link(originals/f'{i % distinct}.jpg', folder/'images'/'ab'[i % 2]/f'{i:06}.jpg')
    return folder/'images'

def start(folder, cache, batches=20):
    "Seconds until the images are there, memory in MB, and images a second that are served, over `batches` batches"
    warnings.filterwarnings('ignore')
    os.environ['VISIONKIT_CACHE'] = str(cache)
    from visionkit.all import CachedDL, image_block
    with PeakMemory() as memory:
        began, cpu = time.perf_counter(), cpu_seconds()
        dl = image_block(224, splitter=lambda o: (range(len(o)), [])).dataloaders(folder, dl_type=CachedDL).train
        items = time.perf_counter() - began
        dl.build()
        ready, cpu = time.perf_counter() - began, cpu_seconds() - cpu
        begun = time.perf_counter()
        served = [(len(b[0]), time.perf_counter()) for b in islice(dl, batches)]
    rate = sum(n for n, _ in served)/(served[-1][1] - begun)
    return dict(items=round(items, 1), seconds=round(ready, 1), cpu=round(cpu, 1), mb=round(memory.mb - memory.before),
                served=round(rate))

def measure_disk(args):
    report = {}
    with tempfile.TemporaryDirectory() as d:
        for n in (args.disk//10, args.disk):
            root = Path(d)/str(n)
            root.mkdir()
            folder = linked(root, photographs(args.photos), n)
            runs = {name: in_process(start, folder, root/'cache') for name in ('first', 'second')}
            size = sum(f.stat().st_size for f in (root/'cache'/'decoded').glob('*.npy'))
            report[n] = dict(gb=round(size/1e9, 2), **runs)
            print(n, report[n], flush=True)
            for f in (root/'cache'/'decoded').glob('*.npy'): f.unlink()
    return report

def main():
    args = arguments()
    if args.smoke: args.n, args.bs, args.rounds, args.workers = 8, 4, 1, [0]
    warnings.filterwarnings('ignore')
    import_module('visionkit.all') # before processes are forked
    if args.disk: write_report(args.out or REPORTS/'disk.json', images=measure_disk(args))
    else:
        out = Path(args.out or REPORTS/'decode.json')
        kept = json.loads(out.read_text())['sets'] if len(args.sets) < len(SETS) and out.exists() else {}
        write_report(out, sets=kept | measure_sets(args))

if __name__ == '__main__': main()
