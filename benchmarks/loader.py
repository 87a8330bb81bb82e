"""Images per second of CachedDL against fastai's default loader, side by side.

For each data set: the default loader with its best worker count, then rounds that alternate between the two loaders, so
that both meet the same load of the machine. Item transforms are Resize (squish) and ToTensor, batch transforms
IntToFloatTensor and Normalize; a second line adds the recipes' own augmentation. First epochs include decoding,
starting from no cache. Ratios are medians over the rounds."""
import argparse, contextlib, os, statistics, tempfile, time, warnings
warnings.filterwarnings('ignore')

def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ['mnist', 'characters', 'digits']
    p.add_argument('--data', nargs='+', default=names[:2], choices=names, help='data sets (default: mnist characters)')
    p.add_argument('--n', type=int, help='at most so many images, drawn with a fixed seed')
    p.add_argument('--bs', type=int, default=64, help='batch size of both loaders (default 64, as in fastai)')
    p.add_argument('--rounds', type=int, default=3, help='rounds of side by side measurement (default 3)')
    p.add_argument('--workers', type=int, nargs='+', default=[0, 1, 2, 4], help='for the default loader to try')
    p.add_argument('--threads', type=int, help="torch's threads in the main process (default: torch's own choice)")
    p.add_argument('--first', action='store_true', help='measure first epochs only')
    return p.parse_args()

def main():
    args = arguments()
    import torch
    from fastai.vision.all import (CategoryBlock, DataBlock, ImageBlock, L, Normalize, PILImage, PILImageBW, Resize,
                                   get_image_files, imagenet_stats, mnist_stats, parent_label)
    from visionkit.cache import CachedDL
    from visionkit.sources import get_source
    try: from visionkit.augment import BatchAffine, ColorJitter
    except ImportError: BatchAffine = ColorJitter = None
    import random
    if args.threads: torch.set_num_threads(args.threads)

    setups = dict(mnist=('training', PILImageBW, 28, mnist_stats, lambda: [BatchAffine(degrees=7)]),
                  digits=('', PILImageBW, 8, ([.3], [.37]), lambda: [BatchAffine(degrees=7)]),
                  characters=('', PILImage, 224, imagenet_stats,
                              lambda: [BatchAffine(degrees=10, fill=1.), ColorJitter(.2, .2)]))

    def epoch(dl):
        start, n = time.perf_counter(), 0
        for xb, *_ in dl: n += len(xb)
        return n/(time.perf_counter()-start)

    def several(dl, seconds=1.):
        "Images a second over as many epochs as fill `seconds`"
        start, rates = time.perf_counter(), []
        while time.perf_counter()-start < seconds: rates.append(epoch(dl))
        return statistics.harmonic_mean(rates)

    @contextlib.contextmanager
    def empty_cache():
        kept = os.environ.get('VISIONKIT_CACHE')
        with tempfile.TemporaryDirectory() as d:
            os.environ['VISIONKIT_CACHE'] = d
            try: yield
            finally: os.environ.pop('VISIONKIT_CACHE') if kept is None else os.environ.update(VISIONKIT_CACHE=kept)

    print(f'torch {torch.__version__}, {torch.get_num_threads()} threads, batch size {args.bs}')
    for name in args.data:
        sub, cls, size, stats, augmentation = setups[name]
        files = get_image_files(get_source(name)/sub).sorted()
        if args.n: files = L(random.Random(0).sample(list(files), min(args.n, len(files))))
        def loader(augment=False, **kwargs):
            block = DataBlock((ImageBlock(cls), CategoryBlock), get_items=lambda _: files, get_y=parent_label,
                              splitter=lambda o: (range(len(o)), []), item_tfms=Resize(size, method='squish'),
                              batch_tfms=[*(augmentation() if augment else []), Normalize.from_stats(*stats)])
            return block.dataloaders('.', bs=args.bs, drop_last=False, **kwargs).train

        print(f'\n{name}: {len(files):,} images at {size} px')
        default_rates = {w: epoch(loader(num_workers=w)) for w in args.workers}
        best = max(default_rates, key=default_rates.get)
        tried = ', '.join(f'{w}: {r:,.0f}' for w, r in default_rates.items())
        print(f'  default loader, images/s by workers: {tried} -> {best}')

        def compare(title, theirs, ours):
            rounds = [(theirs(), ours()) for _ in range(args.rounds)]
            ratio = statistics.median(b/a for a, b in rounds)
            a, b = (statistics.median(o) for o in zip(*rounds))
            print(f'  {title:<44} default {a:>8,.0f}  CachedDL {b:>9,.0f} images/s  ratio {ratio:7.2f}   '
                  f'({", ".join(f"{b/a:.2f}" for a, b in rounds)})', flush=True)

        first = lambda **kw: epoch(loader(dl_type=CachedDL, **kw))
        theirs_first = lambda: epoch(loader(num_workers=best))
        with empty_cache(): compare('first epoch, memory only', theirs_first, lambda: first(disk=False))
        def on_empty_disk():
            with empty_cache(): return first()
        compare('first epoch, writes the disk cache', theirs_first, on_empty_disk)
        with empty_cache():
            first()
            compare('first epoch, finds the disk cache', theirs_first, first)
            if args.first: continue
            for augment in (False, True) if BatchAffine else (False,):
                theirs, ours = loader(augment, num_workers=best), loader(augment, dl_type=CachedDL)
                for _ in range(3): epoch(ours) # until the heap has its size
                title = 'later epochs, with augmentation' if augment else 'later epochs'
                compare(title, lambda: epoch(theirs), lambda: several(ours))

if __name__ == '__main__': main()
