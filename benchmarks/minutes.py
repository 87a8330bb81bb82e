"""Does `visionkit train FOLDER --minutes M` take its minutes? Each try is the command itself, one after the other.

    python benchmarks/minutes.py FOLDER:MINUTES … [--weights imagenet|none] [--out FILE]

The seconds of a try are those of the whole command. Rows of an earlier FILE are kept. `--smoke` tries an epoch on the digits."""
import argparse, json, os, subprocess, sys, tempfile, time
from pathlib import Path
from common import REPORTS, write_report

def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('tries', nargs='*', metavar='FOLDER:MINUTES', help='class folders, and the time to train on them')
    p.add_argument('--weights', default='imagenet', help='imagenet or none (default imagenet)')
    p.add_argument('--out', default=REPORTS/'minutes.json', help='JSON file to write')
    p.add_argument('--smoke', action='store_true', help='the digits, one epoch')
    return p.parse_args()

def attempt(folder, minutes, *words):
    "Train once by the command: its seconds, the plan and the accuracy"
    with tempfile.TemporaryDirectory() as out:
        env = {**os.environ, 'VISIONKIT_CACHE': f'{out}/cache'} # no image is decoded yet
        began = time.time()
        limit = [] if '--epochs' in words else ['--minutes', minutes]
        subprocess.run([sys.executable, '-m', 'visionkit', 'train', folder, *limit, '--out', out, '--name', 'run',
                        *words], check=True, env=env)
        seconds = time.time() - began
        run = Path(out)/'run-0'
        stages = json.loads((run/'recipe.json').read_text())['settings']['stages']
        accuracy = json.loads((run/'result.json').read_text())['metrics']['accuracy_last']
    plan = ', '.join(f'{s["epochs"]} epochs at {s["size"]} px' for s in stages)
    return dict(minutes=float(minutes), seconds=round(seconds, 1), of_the_minutes=round(seconds/60/float(minutes), 3),
                plan=plan, accuracy=accuracy)

def main():
    args = arguments()
    words = ['--weights', args.weights]
    if args.smoke:
        from visionkit.sources import get_source
        args.tries = [f'{get_source("digits")}:1']
        words = '--epochs 1 --size 32 --arch resnet18 --weights none'.split()
    rows = json.loads(Path(args.out).read_text())['tries'] if Path(args.out).exists() else []
    for tried in args.tries:
        folder, _, minutes = tried.rpartition(':')
        rows.append(dict(folder='/'.join(Path(folder).parts[-2:]), weights=words[-1], **attempt(folder, minutes, *words)))
        print(rows[-1], flush=True)
        write_report(args.out, tries=rows) # after each: a try takes long

if __name__ == '__main__': main()
