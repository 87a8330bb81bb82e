"""Training images per second: two processes of one thread against one process of two threads, on the same two cores.

Both train the 6.57 million-parameter residual network by `fit_stages` on handwritten digits at 32 pixels, in colour,
with a global batch of 128 and the default precision. Each launch trains one epoch that does not count, and one that
does. Rounds alternate, and the ratio is the median over them: seconds alone say little on a shared machine.

processes.py                    print the rounds and the ratio
processes.py --store            write results/benchmarks/processes.json as well
"""
import argparse, json, os, statistics, subprocess, sys, tempfile, time
from pathlib import Path

def train(out, n, bs):
    "Train two epochs on `n` images; the first process writes the images per second of the second epoch to `out`"
    from fastai.vision.all import Callback, Learner, RandomSubsetSplitter, accuracy, set_seed
    from visionkit.all import CachedDL, Stage, custom_resnet, fast_dtype, get_source, image_block, run_info
    class TrainTime(Callback):
        order = -20
        def before_train(self): self.started = time.perf_counter()
        def after_train(self): self.seconds = time.perf_counter() - self.started
    set_seed(0)
    block = image_block(32, 3, splitter=RandomSubsetSplitter((n + .5)/1797, .1, seed=0))
    dls = block.dataloaders(get_source('digits'), bs=bs, dl_type=CachedDL)
    learn = Learner(dls, custom_resnet(), metrics=accuracy, cbs=TrainTime())
    with learn.no_bar(), learn.no_logging(): learn.fit_stages(Stage(bs=bs, epochs=2, lr=1e-3))
    measured = dict(rate=len(dls.train)*bs/learn.train_time.seconds,
                    precision=str(fast_dtype()).removeprefix('torch.'), **run_info())
    if os.environ.get('RANK', '0') == '0': Path(out).write_text(json.dumps(measured))

LAUNCHERS = {
    'two processes of one thread': (['-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', '2'], 1),
    'one process of two threads': ([], 2)}

def launch(name, args):
    "What `train` measured under the launcher `name`"
    words, threads = LAUNCHERS[name]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, *words, __file__, '--worker', f'{folder}/out',
                   '--images', str(args.images), '--batch', str(args.batch)]
        subprocess.run(command, env={**os.environ, 'OMP_NUM_THREADS': str(threads)}, check=True)
        return json.loads(Path(folder, 'out').read_text())

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--images', type=int, default=1280, help='training images an epoch (default 1280)')
    p.add_argument('--batch', type=int, default=128, help='global batch size (default 128)')
    p.add_argument('--rounds', type=int, default=5, help='rounds of each (default 5)')
    p.add_argument('--store', action='store_true', help='write results/benchmarks/processes.json')
    p.add_argument('--worker', help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.worker: return train(args.worker, args.images, args.batch)
    rates = {name: [] for name in LAUNCHERS}
    for i in range(args.rounds):
        for name in LAUNCHERS:
            measured = launch(name, args)
            rates[name].append(round(measured['rate'], 1))
            print(f'round {i + 1}: {name} {rates[name][-1]} images/s', flush=True)
    ratio = statistics.median(a/b for a, b in zip(*rates.values()))
    print(f'two processes of one thread are {ratio:.2f} times as fast as one process of two threads')
    if not args.store: return
    about = {k: measured[k] for k in ('precision', 'hardware', 'versions', 'commit', 'dirty', 'started')}
    result = dict(network='custom_resnet', size=32, n=args.images, bs=args.batch, images_per_second=rates,
                  ratio=round(ratio, 3), load=[round(l, 1) for l in os.getloadavg()], **about)
    file = Path(__file__).resolve().parent.parent/'results/benchmarks/processes.json'
    file.write_text(json.dumps(result, indent=1) + '\n')

if __name__ == '__main__': main()
