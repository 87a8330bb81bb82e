"""Compare the text that pages show with what their code prints now. Exit status 1: a page is stale, or it fails.

A page runs as a reader runs it: from top to bottom in a Jupyter kernel, without `IN_TEST`. Streams, text, Markdown and
the cells of tables are compared; pictures and other HTML are not. MAY_DIFFER lists what may differ in every cell. In a cell with the
directive `#| measured`, which shows times without a unit, numbers may differ, too. A page that depends on a data set
(`if has_source(…)`) which is not on this machine is left out and named."""
import argparse, difflib, os, re, sys
from base64 import b64decode, b64encode
from io import BytesIO
from pathlib import Path
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbdev.clean import nbdev_clean
from PIL import Image
from run_tests import ROOT, pages, run
from visionkit.files import atomic_write
from visionkit.sources import has_source
from warm import job

NUMBER = r'(?<![\w.])-?\d[\d,]*(\.\d+)?(e[-+]?\d+)?'
UNIT = r'(ms|µs|s|seconds?|min|minutes?|h|hours?|images/s|times (as )?(fast|slow))'
MAY_DIFFER = (
    (r' at 0x[0-9a-f]+', ''), # addresses
    (r'(/tmp|/var/folders)/[\w./-]+', 'FOLDER'), # temporary folders
    (r'\b\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d)?)?', 'DATE'),
    (r'\b\d+:\d\d(:\d\d)?\b', 'TIME'), # of a progress bar: 00:27
    (fr'{NUMBER}(?= ?{UNIT}\b)', 'TIME'),
    (r'[ \t]+', ' ')) # the width of a column
NUMBERS = (NUMBER, 'NUMBER'),
LIBRARY_WARNING = re.compile(r'^\S+/site-packages/\S+\.py:\d+: \w*Warning: (.*\n)*?  \S.*\n', re.M) # to the line of code

def without_warnings(output):
    "`output`, without warnings of libraries, which hold paths of this machine, if it is the stream of errors"
    if output.get('name') == 'stderr': output.text = LIBRARY_WARNING.sub('', output.text)
    return output

def shown(output):
    "The text of an output; none for a progress bar, and for HTML alone"
    if output.output_type == 'stream': return output.text
    data = output.get('data', {})
    text = data.get('text/markdown') or data.get('text/plain', '')
    if 'class="dataframe"' in (html := data.get('text/html', '')): # its plain text depends on the width of a terminal
        text = re.sub(r'<style.*?</style>|<[^>]*>', ' ', html, flags=re.S)
    return '' if '<progress' in text or text.startswith('<IPython.') else text.rstrip('\n') + '\n'

def is_measured(cell): return re.search(r'^#\|\s*measured', cell.source, re.M)

def text(
    cell, # of a notebook, with its outputs
    words_only=False, # leave all numbers out
)->list:
    "The lines that `cell` shows, stream by stream, without what may differ"
    lines = ''.join(map(shown, sorted(cell.outputs, key=lambda o: o.get('name', ''))))
    patterns = MAY_DIFFER + (NUMBERS if words_only or is_measured(cell) else ())
    for pattern, name in patterns: lines = re.sub(pattern, name, lines)
    return [l.strip() for l in lines.splitlines() if l.strip()]

def execute(page):
    "The notebook `page` with the outputs of today's code"
    notebook = nbformat.read(page, 4)
    env = {k: v for k, v in os.environ.items() if k not in ('IN_TEST', 'MPLBACKEND')}
    env |= dict(OMP_NUM_THREADS='1', PYTHONPATH=os.pathsep.join([str(ROOT), env.get('PYTHONPATH', '')]))
    NotebookClient(notebook, timeout=3600, resources=dict(metadata=dict(path=page.parent)),
                   extra_arguments=['--IPKernelApp.log_level=40']).execute(env=env)
    for cell in notebook.cells:
        if cell.cell_type == 'code':
            cell.outputs = [o for o in map(without_warnings, cell.outputs) if o.output_type != 'stream' or o.text]
    return notebook

def differences(old, new, words_only=False):
    "The lines of a diff between what the cells of two executions of a notebook show"
    for i, (before, after) in enumerate(zip(old.cells, new.cells)):
        if before.cell_type != 'code': continue
        diff = difflib.unified_diff(text(before, words_only), text(after, words_only), n=0, lineterm='')
        lines = [l for l in diff if not l.startswith(('---', '+++', '@@'))]
        if lines: yield from (f'  cell {i}: {before.source.splitlines()[-1]}', *(f'    {l}' for l in lines))

def compact(output):
    "Turn the picture of `output`, in place, into a PNG of 256 colours, which takes about a third of the bytes"
    if not (png := output.get('data', {}).get('image/png')): return
    Image.open(BytesIO(b64decode(png))).convert('RGB').quantize().save(buffer := BytesIO(), 'PNG', optimize=True)
    output.data['image/png'] = min(png, b64encode(buffer.getvalue()).decode(), key=len)

def check(page, words_only=False, store=False):
    "Run `page` and print what differs; returns whether it is stale, unless its new outputs are stored"
    try: new = execute(page)
    except CellExecutionError as e:
        print(f'{page}: fails\n{e}', flush=True)
        return True
    old = nbformat.read(page, 4)
    if [c.source for c in old.cells] != [c.source for c in new.cells]:
        print(f'{page}: was edited while it ran, run it again', flush=True)
        return True
    lines = [*differences(old, new, words_only)]
    print('\n'.join([f'{page}: {"stale" if lines else "as stored"}', *lines]), flush=True)
    if not lines or not store: return bool(lines)
    for before, after in zip(old.cells, new.cells): # other times are no reason to replace those of a quiet machine
        if is_measured(before) and text(before) == text(after): after.outputs = before.outputs
    for cell in new.cells:
        for output in cell.get('outputs', ()): compact(output)
    with atomic_write(page, 'w') as f: nbformat.write(new, f)
    nbdev_clean(fname=str(page))

def missing(page):
    "Data sets on which the output of `page` depends and which are not on this machine"
    code = '\n'.join(c.source for c in nbformat.read(page, 4).cells if c.cell_type == 'code')
    names = re.findall(r"(?:\bif|\band|=) has_source\('(\w+)'\)", code)
    return [name for name in dict.fromkeys(names) if not has_source(name)]

def main(words):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('pages', nargs='*', type=Path, metavar='NOTEBOOK', help='only these; default: all pages')
    parser.add_argument('--words', action='store_true',
                        help='leave out all numbers: those of a training differ between processors')
    parser.add_argument('--store', action='store_true', help='write the new outputs into the pages that are stale')
    args = parser.parse_args(words)
    lacking = {page: missing(page) for page in args.pages or pages()}
    stale = run(job(check, page.resolve(), args.words, args.store, name=str(page))
                for page, names in lacking.items() if not names)
    for page, names in lacking.items():
        if names: print(f'{page}: left out, no {", ".join(names)} on this machine')
    if stale: print('\nstale or failed:', *stale, sep='\n  ')
    return bool(stale)

if __name__ == '__main__': sys.exit(main(sys.argv[1:]))
