"What the benchmarks share: photographs to measure with, interleaved rounds, memory, and a report with the machine."
import gc, json, os, random, resource, statistics, sys, threading, time, traceback
from multiprocessing import get_context
from pathlib import Path
import numpy as np
from PIL import Image
from visionkit.core import run_info

REPORTS = Path(__file__).resolve().parent.parent/'results'/'benchmarks'

def photographs(folder=None):
    "Pillow images without end: those below `folder` in a fixed order, or parts of scikit-learn's two photographs"
    if folder:
        files = sorted(p for p in Path(folder).rglob('*') if p.suffix.lower() in ('.jpg', '.jpeg', '.png'))
        random.Random(0).shuffle(files)
        while True: yield from (Image.open(f).convert('RGB') for f in files)
    from sklearn.datasets import load_sample_images
    rng, images = random.Random(0), [Image.fromarray(a) for a in load_sample_images().images]
    while True:
        im, x, y = rng.choice(images), rng.randrange(240), rng.randrange(107)
        yield im.crop((x, y, x + 400, y + 320))

def with_grain(im, rng, sigma=6):
    "`im` with the grain of a camera's sensor"
    noise = rng.normal(0, sigma, (im.height, im.width, 1)).astype('float32')
    return Image.fromarray((np.asarray(im) + noise).clip(0, 255).astype('uint8'))

def cpu_seconds():
    "Processor time of this process and of its finished children"
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime

def rates(f):
    "Items a second that `f` handles, whose number it returns: by the clock, and per second of processor time"
    clock, cpu = time.perf_counter(), cpu_seconds()
    n = f()
    gc.collect() # ends the processes of loaders
    return dict(rate=n/(time.perf_counter() - clock), rate_cpu=n/(cpu_seconds() - cpu))

def rounds(arms, n, warm_up=1):
    "{name: `n` measurements} of the functions `arms` (name → what `rates` returns), which take turns"
    found = {name: [] for name in arms}
    for i in range(n + warm_up):
        for name, arm in arms.items():
            measured = arm()
            if i >= warm_up: found[name].append(measured)
            line = ', '.join(f'{k} {v:.1f}' for k, v in measured.items())
            print(f'  round {i} {name:12} {line}{"" if i >= warm_up else " (warm-up)"}', flush=True)
    return found

def compared(found, ours, theirs):
    """Medians of both and the median of their ratios in each round, by the clock and by processor time: the second says
    more on a busy machine, where the clock favours what runs more processes"""
    def one(key):
        ratios = [a[key]/b[key] for a, b in zip(found[ours], found[theirs])]
        medians = {name: round(statistics.median(m[key] for m in found[name]), 1) for name in (ours, theirs)}
        return dict(medians, ratio=round(statistics.median(ratios), 2), ratios=[round(r, 2) for r in ratios])
    return dict(clock=one('rate'), cpu=one('rate_cpu'))

def _memory(key):
    "A line of /proc/self/status, in MB"
    lines = Path('/proc/self/status').read_text().splitlines()
    return next(int(l.split()[1]) for l in lines if l.startswith(f'{key}:'))/1024

class PeakMemory:
    "Most memory of this process in MB while it is entered; file pages, which the system may drop at any time, left out"
    def _sample(self):
        while not self.done.wait(.02): self.mb = max(self.mb, _memory('RssAnon') + _memory('RssShmem'))
    def __enter__(self):
        self.mb, self.done = _memory('RssAnon') + _memory('RssShmem'), threading.Event()
        self.before = self.mb
        self.thread = threading.Thread(target=self._sample, daemon=True)
        self.thread.start()
        return self
    def __exit__(self, *_):
        self.done.set()
        self.thread.join()

def _child(pipe, f, args):
    try: pipe.send((f(*args), None))
    except BaseException: pipe.send((None, traceback.format_exc()))

def in_process(f, *args):
    "`f(*args)` in a process of its own, forked from this one: what is imported here is there"
    context = get_context('fork')
    mine, theirs = context.Pipe()
    process = context.Process(target=_child, args=(theirs, f, args))
    process.start()
    theirs.close()
    try: result, error = mine.recv()
    except EOFError: raise RuntimeError(f'the process of {f.__name__} was killed') from None
    finally: process.join()
    if error: raise RuntimeError(error)
    return result

def write_report(path, **report):
    "Write `report` and the machine that made it as JSON"
    import torch
    info = run_info()
    words = [Path(w).name if os.path.isabs(w) else w for w in sys.argv] # the places of one machine say nothing
    about = dict(hardware=info['hardware'], threads=torch.get_num_threads(), load=round(os.getloadavg()[0], 1),
                 date=time.strftime('%Y-%m-%d'), versions=info['versions'], command=' '.join(words))
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**report, **about}, indent=1) + '\n', encoding='utf-8')
    print(f'wrote {path}')
