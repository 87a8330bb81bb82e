"CI's chores: modules' import order, skipped cells, notebook sizes, Colab readiness. Exit status 1 names what is wrong."
import ast, json, re, sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Cells that may be left out of tests, as 'notebook: first code line', each with its reason
ALLOWED_SKIPS = {}
MAX_KB = 500

def modules():
    "Module name → its number in the order of dependency; recipes come between 08 and 09"
    order = {}
    for nb in (ROOT/'nbs').glob('[0-9][0-9]_*.ipynb'):
        number, name = nb.stem.split('_', 1)
        order[name] = float(number)
    return order

def check_imports():
    order = modules()
    for path in (ROOT/'visionkit').rglob('*.py'):
        rel = path.relative_to(ROOT/'visionkit')
        if rel.name.startswith('_') or rel.as_posix() == 'all.py': continue
        mine = 8.5 if rel.parts[0] == 'recipes' else order[rel.stem]
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            if not isinstance(node, ast.Import | ast.ImportFrom): continue
            named, module = [a.name for a in node.names], getattr(node, 'module', None)
            # `from . import cli` and `from visionkit import cli` name modules, too
            names = [module] if module not in (None, 'visionkit') else named
            for name in names:
                inner = (name.removeprefix('visionkit.') if name.startswith('visionkit.')
                         else name if getattr(node, 'level', 0) or module == 'visionkit' else '')
                head = inner.split('.')[0]
                theirs = 8.5 if head == 'recipes' else order.get(head, -1)
                if theirs > mine: yield f'{rel} imports {head}, which comes after it'

def cells(kind=None):
    for nb in sorted((ROOT/'nbs').rglob('*.ipynb')):
        if '.ipynb_checkpoints' in nb.parts: continue
        for cell in json.loads(nb.read_text(encoding='utf-8'))['cells']:
            if kind is None or cell['cell_type'] == kind: yield nb, ''.join(cell['source'])

def check_skips():
    for nb, source in cells('code'):
        if not re.search(r'^#\|\s*(eval:\s*false|slow|cuda)', source, re.M): continue
        first = next((l for l in source.splitlines() if l and not l.startswith('#|')), '')
        key = f'{nb.relative_to(ROOT/"nbs").as_posix()}: {first}'
        if key not in ALLOWED_SKIPS: yield f'a skipped cell is not on the list in tools/check.py: {key}'

def check_lines():
    for nb, source in cells('code'):
        for l in source.splitlines():
            if len(l) > 120: yield f'{nb.name} has a line of {len(l)} characters, more than 120: {l.strip()[:60]} …'

def check_sizes():
    for nb in (ROOT/'nbs').rglob('*.ipynb'):
        if nb.stat().st_size > MAX_KB*1024: yield f'{nb.name} has {nb.stat().st_size//1024} kB, more than {MAX_KB}'

def check_colab():
    "Recipes and tutorials ask for a GPU, install only on Colab and get data through `get_source` or a recipe"
    pages = [p for d in ('recipes', 'tutorials') for p in (ROOT/'nbs'/d).glob('*.ipynb')
             if p.stem not in ('core', 'stored')] # modules, not stories
    for p in pages:
        nb = json.loads(p.read_text(encoding='utf-8'))
        text = '\n'.join(''.join(c['source']) for c in nb['cells'])
        if nb['metadata'].get('accelerator') != 'GPU': yield f'{p.name} does not ask Colab for a GPU'
        code = [''.join(c['source']) for c in nb['cells'] if c['cell_type'] == 'code']
        first = lambda what: next((i for i, c in enumerate(code) if re.search(what, c, re.M)), len(code))
        if first('google.colab') >= first('^from visionkit'): yield f'{p.name} has no install cell for Colab at its head'
        for bad in ('untar_data(', 'urlopen(', 'wget ', '/content/'):
            if bad in text: yield f'{p.name} gets data by {bad.strip("( ")}: use get_source'

def check_paths():
    "No absolute path of somebody's machine in a notebook, code or output"
    for nb in (ROOT/'nbs').rglob('*.ipynb'):
        found = re.search(r'/(?:home/\w+|root/|tmp/\w+)', nb.read_text(encoding='utf-8'))
        if found: yield f'{nb.name} holds the path {found[0]}'

if __name__ == '__main__':
    checks = check_imports, check_skips, check_lines, check_sizes, check_colab, check_paths
    problems = [p for check in checks for p in check()]
    for p in problems: print(p, file=sys.stderr)
    print(f'{len(problems)} problems' if problems
          else 'import order, skipped cells, lines, sizes, Colab pages and paths are fine')
    sys.exit(bool(problems))
