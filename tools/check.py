"""CI's chores: what the design asks of rooms (modules), cells and pages. Exit status 1 names what is wrong.

check.py                 check
check.py --exceptions    print the lists of exceptions as they would stand today, to lower or add one"""
import ast, json, re, subprocess, sys
from collections import Counter
from importlib.metadata import packages_distributions
from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROOM_LINES, CELL_LINES, PARAMETERS, LINE_LENGTH, NOTEBOOK_KB = 400, 40, 6, 120, 500

# Exceptions, each with the number that it may not exceed. One that is no longer needed must leave its list.
# Rooms with several jobs, to be split into one room a job
ALLOWED_ROOMS = {}
# Cells that define several things at once, to be shown one by one
ALLOWED_CELLS = {}
# The published networks' many settings; the options of `visionkit run`
ALLOWED_PARAMETERS = {
    'experiment.py reproduce': 7, 'models.py custom_resnet': 11}
# Helpers that two rooms need, to be made public where they belong
ALLOWED_PRIVATE = {}
# F811: a registered function (`_`) or a method made by `patch` has the name of another; a page imports what it has defined
ALLOWED_FINDINGS = {
    'nbs/22_assemble.ipynb F811': 1, 'nbs/22_experiment.ipynb F811': 3, 'nbs/23_tuning.ipynb F811': 1,
    'nbs/25_inference.ipynb F811': 1, 'visionkit/experiment.py F811': 3}
# Declared, not imported: the adapter takes any transform that is called as albumentations' are
ALLOWED_UNIMPORTED = {'albumentations': 1, 'tensorboard': 1} # fastai's callback imports the second
# Cells that may be left out of tests, as 'notebook: first code line', each with its reason
ALLOWED_SKIPS = {}

def ratchet(sizes, limit, allowed, what):
    "What in `sizes` (name → number) is above `limit` and above its number in `allowed`; exceptions that nothing needs"
    for name, n in sizes.items():
        most = allowed.get(name, limit)
        if n > most: yield f'{name}: {n} {what}, at most {most}'
    for name in allowed:
        if sizes.get(name, 0) <= limit: yield f'{name}: needs no exception for its {what}, take it off the list'

# What there is

def rooms(root):
    "Name (`recipes/digits.py`) → syntax tree and text of each module that a notebook makes"
    for path in sorted((root/'visionkit').rglob('*.py')):
        name = path.relative_to(root/'visionkit').as_posix()
        if path.name.startswith('_') or name == 'all.py': continue
        text = path.read_text(encoding='utf-8')
        yield name, ast.parse(text), text

def cells(root, kind=None):
    "(notebook, cell, source) of all cells, or of those of one `kind`"
    for nb in sorted((root/'nbs').rglob('*.ipynb')):
        if '.ipynb_checkpoints' in nb.parts: continue
        for cell in json.loads(nb.read_text(encoding='utf-8'))['cells']:
            if kind in (None, cell['cell_type']): yield nb, cell, ''.join(cell['source'])

def imports(tree):
    "(level, module, name) of each import in a syntax tree; the name is None for `import module`"
    for node in ast.walk(tree):
        if isinstance(node, ast.Import): yield from ((0, a.name, None) for a in node.names)
        elif isinstance(node, ast.ImportFrom): yield from ((node.level, node.module or '', a.name) for a in node.names)

def inner(level, module, name):
    "What an import names inside visionkit ('core', 'recipes.digits', 'core.InputError'), or None: it is another package"
    if not level and module.split('.')[0] != 'visionkit': return None
    parts = module.removeprefix('visionkit').strip('.')
    return '.'.join(filter(None, [parts, name]))

def room_lines(root): return {name: len(text.splitlines()) for name, _, text in rooms(root)}

def cell_lines(root):
    return {f'{nb.relative_to(root).as_posix()} {cell["id"]}': len(source.splitlines())
            for nb, cell, source in cells(root, 'code') if re.search(r'^#\|\s*export', source, re.M)}

def parameters(root):
    "Function → how many parameters it has, besides `self`"
    out = {}
    for name, tree, _ in rooms(root):
        for f in ast.walk(tree):
            if not isinstance(f, ast.FunctionDef | ast.AsyncFunctionDef): continue
            args = [a.arg for a in [*f.args.posonlyargs, *f.args.args, *f.args.kwonlyargs]]
            key = f'{name} {f.name}'
            out[key] = max(out.get(key, 0), len(args) - (args[:1] in (['self'], ['cls'])))
    return out

def private_imports(root):
    "How often a room imports each private name of another"
    private = re.compile(r'(^|\.)_(?!_)')
    return Counter(f'{name} {what}' for name, tree, _ in rooms(root)
                   for what in filter(None, (inner(*i) for i in imports(tree))) if private.search(what))

def findings(root):
    "File and code → how often ruff finds it, by the settings in pyproject.toml"
    command = [sys.executable, '-m', 'ruff', 'check', '--no-cache', '--output-format', 'json', '.']
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    if done.returncode not in (0, 1) or not done.stdout: raise SystemExit(f'ruff fails: {done.stderr.strip()}')
    return Counter(f'{Path(f["filename"]).relative_to(root.resolve()).as_posix()} {f["code"]}'
                   for f in json.loads(done.stdout))

def requirements(root):
    "Names of the packages that settings.ini declares for users, extras among them"
    config = ConfigParser(delimiters=['='])
    config.read(root/'settings.ini', encoding='utf-8')
    groups = {k: v for k, v in config['DEFAULT'].items() if k.endswith('requirements') and k not in ('dev_requirements', 'docs_requirements')}
    return {normal(re.match(r'[\w.-]+', word)[0]) for line in groups.values() for word in line.split()}

def normal(package): return re.sub(r'[-_.]+', '-', package).lower()

def imported_packages(root):
    "Package → the first room that imports it, standard library and visionkit left out"
    found, names = {}, packages_distributions()
    for room, tree, _ in rooms(root):
        for level, module, name in imports(tree):
            top = module.split('.')[0]
            if inner(level, module, name) is not None or top in sys.stdlib_module_names: continue
            for package in names.get(top, [top]): found.setdefault(normal(package), room)
    return found

# The checks: each yields a line a problem

def check_room_lines(root): return ratchet(room_lines(root), ROOM_LINES, ALLOWED_ROOMS, 'lines')
def check_cell_lines(root): return ratchet(cell_lines(root), CELL_LINES, ALLOWED_CELLS, 'exported lines')
def check_parameters(root): return ratchet(parameters(root), PARAMETERS, ALLOWED_PARAMETERS, 'parameters')
def check_private(root): return ratchet(private_imports(root), 0, ALLOWED_PRIVATE, 'private imports')
def check_findings(root): return ratchet(findings(root), 0, ALLOWED_FINDINGS, 'findings (see `ruff check`)')

def check_packages(root):
    "What is imported is declared, and the other way round"
    declared, imported = requirements(root), imported_packages(root)
    for package, room in imported.items():
        if package not in declared: yield f'{room} imports {package}, which settings.ini does not declare'
    yield from ratchet(Counter(declared - set(imported)), 0, ALLOWED_UNIMPORTED, 'requirements that no room imports')

def check_import_order(root):
    "A room imports only from those whose notebooks have lower numbers; recipes come before the command line"
    numbers = (nb.stem.split('_', 1) for nb in (root/'nbs').glob('[0-9][0-9]_*.ipynb'))
    order = {name: float(number) for number, name in numbers}
    order['recipes'] = order.get('cli', 100.) - .5
    for room, tree, _ in rooms(root):
        mine = order['recipes' if room.startswith('recipes/') else room.removesuffix('.py')]
        for what in filter(None, (inner(*i) for i in imports(tree))):
            head = what.split('.')[0]
            if order.get(head, -1) > mine:
                yield f'{room} imports {head}, which comes after it'

def check_skips(root):
    for nb, _, source in cells(root, 'code'):
        if not re.search(r'^#\|\s*(eval:\s*false|slow|cuda)', source, re.M): continue
        first = next((l for l in source.splitlines() if l and not l.startswith('#|')), '')
        key = f'{nb.relative_to(root/"nbs").as_posix()}: {first}'
        if key not in ALLOWED_SKIPS: yield f'a skipped cell is not on the list in tools/check.py: {key}'

def check_line_length(root):
    for nb, _, source in cells(root, 'code'):
        for l in source.splitlines():
            if len(l) > LINE_LENGTH:
                yield f'{nb.name} has a line of {len(l)} characters, more than {LINE_LENGTH}: {l.strip()[:60]} …'

def check_sizes(root):
    for nb in (root/'nbs').rglob('*.ipynb'):
        kb = nb.stat().st_size//1024
        if kb >= NOTEBOOK_KB: yield f'{nb.name} has {kb} kB, more than {NOTEBOOK_KB}'

def check_colab(root):
    "Recipes and tutorials ask for a GPU, install only on Colab and get data through `get_source` or a recipe"
    for p in [p for d in ('recipes', 'tutorials') for p in (root/'nbs'/d).glob('*.ipynb')]:
        nb = json.loads(p.read_text(encoding='utf-8'))
        text = '\n'.join(''.join(c['source']) for c in nb['cells'])
        if nb['metadata'].get('accelerator') != 'GPU': yield f'{p.name} does not ask Colab for a GPU'
        code = [''.join(c['source']) for c in nb['cells'] if c['cell_type'] == 'code']
        first = lambda what: next((i for i, c in enumerate(code) if re.search(what, c, re.M)), len(code))
        if first('google.colab') >= first('^from visionkit'): yield f'{p.name} has no install cell for Colab at its head'
        for bad in ('untar_data(', 'urlopen(', 'wget ', '/content/'):
            if bad in text: yield f'{p.name} gets data by {bad.strip("( ")}: use get_source'

def shown(nb):
    "All text in the outputs of the notebook `nb`"
    outputs = (o for c in json.loads(nb.read_text(encoding='utf-8'))['cells'] for o in c.get('outputs', ()))
    return '\n'.join(''.join(text) for o in outputs for text in (o.get('text', ''), *(
        o.get('data', {}).get(kind, '') for kind in ('text/plain', 'text/html', 'text/markdown'))))

def check_paths(root):
    "No absolute path of somebody's machine in a notebook, code or output"
    for nb in (root/'nbs').rglob('*.ipynb'):
        found = (re.search(r'/(?:home/\w+|root/|tmp/\w+|[\w/.-]+/site-packages/)', nb.read_text(encoding='utf-8'))
                 or re.search(r'(?<![\w/.:<~])/(?:\w[\w.-]*/){2,}[\w.-]+', shown(nb)))
        if found: yield f'{nb.name} holds the path {found[0]}'

def check_titles(root):
    "Every notebook begins with its title"
    for nb in (root/'nbs').rglob('*.ipynb'):
        if '.ipynb_checkpoints' in nb.parts: continue
        first = [''.join(c['source']) for c in json.loads(nb.read_text(encoding='utf-8'))['cells'][:1]
                 if c['cell_type'] == 'markdown']
        if not first or not first[0].startswith('# '):
            yield f'{nb.name} does not begin with a title: # Title, then > one line'

CHECKS = (check_room_lines, check_cell_lines, check_parameters, check_private, check_findings, check_packages,
          check_import_order, check_skips, check_line_length, check_sizes, check_colab, check_paths, check_titles)

def exceptions(root):
    "The lists as they would stand today"
    for name, sizes, limit in (('ROOMS', room_lines(root), ROOM_LINES), ('CELLS', cell_lines(root), CELL_LINES),
                               ('PARAMETERS', parameters(root), PARAMETERS), ('PRIVATE', private_imports(root), 0),
                               ('FINDINGS', findings(root), 0)):
        yield f'ALLOWED_{name} = { {k: n for k, n in sizes.items() if n > limit} }'

def main(words, root=ROOT):
    if words == ['--exceptions']: return print('\n'.join(exceptions(root)))
    problems = [p for check in CHECKS for p in check(root)]
    for p in problems: print(p, file=sys.stderr)
    print(f'{len(problems)} problems' if problems else 'rooms, cells, imports, requirements and pages are fine')
    return bool(problems)

if __name__ == '__main__': sys.exit(main(sys.argv[1:]))
