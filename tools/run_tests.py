"""Pass every page and every pytest test, two processes at a time, each a fork of one that has imported torch and fastai.

run_tests.py              the notebooks under nbs/, each as `nbdev-test` runs it, and pytest; its count is the last line
run_tests.py NOTEBOOK…    only these notebooks"""
import json, signal, sys, tempfile
from multiprocessing.connection import wait
from pathlib import Path
import pytest
from nbdev.test import nbdev_test
from warm import job

ROOT = Path(__file__).resolve().parent.parent

def code_length(page):
    cells = json.loads(page.read_text(encoding='utf-8'))['cells']
    return sum(len(''.join(c['source'])) for c in cells if c['cell_type'] == 'code')

def pages():
    "The notebooks, those with most code first: a long one at the end would run alone"
    found = [p for p in (ROOT/'nbs').rglob('*.ipynb') if '.ipynb_checkpoints' not in p.parts]
    return sorted(found, key=code_length, reverse=True)

def page_job(page): return job(nbdev_test, str(page), do_print=True, name=str(page))

def run(jobs, at_once=2):
    "Run `jobs` in their order, `at_once` of them together; returns the names of those that failed"
    waiting, running, failed = list(jobs), {}, []
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                process = waiting.pop(0)
                process.start()
                running[process.sentinel] = process
            for sentinel in wait(running):
                process = running.pop(sentinel)
                process.join()
                if process.exitcode: failed.append(process.name)
    finally:
        for process in running.values(): process.terminate()
    return failed

def main(words):
    if words: return run(map(page_job, words))
    with tempfile.NamedTemporaryFile('r') as log:
        failed = run([job(pytest.main, ['-q', '-rs'], cwd=ROOT, files=(log.name, log.name), name='pytest'),
                      *map(page_job, pages())])
        if failed: print('\nfailed:', *failed, sep='\n  ')
        print(log.read(), end='')
    return failed

if __name__ == '__main__':
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143)) # by way of `finally` above, so that no page is left behind
    try: sys.exit(1 if main(sys.argv[1:]) else 0)
    except KeyboardInterrupt: sys.exit(130)
