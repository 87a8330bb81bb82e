"""The cost of testing pages: each in a new Python, as `nbdev-test` runs it, and all by `tools/run_tests.py`.

Both ways run the same pages, two at a time, one way after the other, each with an empty cache of its own and without
VISIONKIT_ARCHIVES. results/benchmarks/pages.json gets the processor seconds (user and system) of all processes of each
way, which other processes on the machine hardly change, and the seconds that passed, which they do change."""
import argparse, ctypes, json, os, resource, subprocess, sys, tempfile, time
from pathlib import Path
from visionkit.core import run_info
from visionkit.files import atomic_write, results_dir

ROOT = Path(__file__).resolve().parent.parent
PR_SET_CHILD_SUBREAPER = 36 # of Linux' prctl: processes that outlive their parent become children of this one

def processor_seconds():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime

def measure(
    command:list, # to run, with its words
    pages:list, # names of files, added to the command
):
    "Processor seconds and seconds of `command` and all processes that it starts"
    with tempfile.TemporaryDirectory() as cache:
        env = {k: v for k, v in os.environ.items() if k not in ('VISIONKIT_ARCHIVES', 'IN_TEST')}
        env |= dict(OMP_NUM_THREADS='1', MPLBACKEND='agg', VISIONKIT_CACHE=cache)
        before, start = processor_seconds(), time.perf_counter()
        status = subprocess.run([*command, *pages], cwd=ROOT, env=env, stdout=subprocess.DEVNULL).returncode
        seconds = time.perf_counter() - start
        try:
            while True: os.wait()
        except ChildProcessError: pass # there are no more
    return dict(processor_seconds=round(processor_seconds() - before), seconds=round(seconds), status=status)

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--every', type=int, default=1, metavar='K', help='measure every K-th page (default: all)')
    parser.add_argument('pages', nargs='*', metavar='NOTEBOOK', help='only these')
    args = parser.parse_args()
    if ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0): raise SystemExit('this needs Linux')
    bin = Path(sys.executable).parent
    notebooks = (p for p in (ROOT/'nbs').rglob('*.ipynb') if '.ipynb_checkpoints' not in p.parts)
    pages = args.pages or sorted(str(p.relative_to(ROOT)) for p in notebooks)[::args.every]
    one = f'{bin}/nbdev-test --do-print "$1" || echo "failed: $1" >&2' # xargs would stop after a signal
    one_by_one = ['sh', '-c', f"printf '%s\\n' \"$@\" | xargs -n 1 -P 2 sh -c '{one}' sh", 'sh']
    ways = dict(run_tests=measure([sys.executable, 'tools/run_tests.py'], pages),
                one_by_one=measure(one_by_one, pages))
    ratio = ways['run_tests']['processor_seconds']/ways['one_by_one']['processor_seconds']
    with atomic_write(results_dir()/'benchmarks'/'pages.json', 'w') as f:
        json.dump(dict(pages=pages, **ways, ratio=round(ratio, 3), **run_info()), f, indent=1)
    print(json.dumps(ways), f'ratio of processor seconds: {ratio:.3f}')

if __name__ == '__main__': main()
