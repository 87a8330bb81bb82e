"""Sphinx's pages from nbs/: hidden cells left out, nbdev's directives honoured, what a module exports shown by signature.
`tools/site` runs `pages.py FOLDER`, then Sphinx. No notebook is run and no module imported."""
import ast, re, shutil, sys, tokenize
from copy import copy
from io import StringIO
from pathlib import Path
from fastcore.nbio import mk_cell, read_nb, write_nb

ROOT = Path(__file__).resolve().parent.parent
NBS = ROOT/'nbs'
FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef

def decorators(node): return [ast.unparse(d) for d in node.decorator_list]
def public(body): return [n for n in body if isinstance(n, FUNCTIONS | ast.ClassDef) and not n.name.startswith('_')]

def arguments(node):
    "The `ast.arguments` of a function, a class's `__init__` or a dataclass's fields, without `self`"
    if isinstance(node, FUNCTIONS):
        args = copy(node.args)
        args.args = [a for a in args.args if a.arg not in ('self', 'cls')]
        return args
    for n in node.body:
        if isinstance(n, FUNCTIONS) and n.name == '__init__': return arguments(n)
    is_data = any('dataclass' in d for d in decorators(node))
    fields = [n for n in node.body if is_data and isinstance(n, ast.AnnAssign)]
    return ast.arguments(posonlyargs=[], args=[ast.arg(f.target.id, f.annotation, lineno=f.lineno) for f in fields],
                         kwonlyargs=[], kw_defaults=[], defaults=[f.value for f in fields if f.value])

def rows(args, returns, comments):
    "(name, type, default, what) of each parameter; the type is that of the default where there is no annotation"
    plain = args.posonlyargs + args.args
    defaults = dict(zip(plain[::-1], args.defaults[::-1])) | dict(zip(args.kwonlyargs, args.kw_defaults))
    stars = {args.vararg: '*', args.kwarg: '**'}
    for arg in filter(None, [*plain, args.vararg, *args.kwonlyargs, args.kwarg]):
        default = defaults.get(arg)
        known = type(default.value).__name__ if isinstance(default, ast.Constant) and default.value is not None else ''
        yield (stars.get(arg, '') + arg.arg, ast.unparse(arg.annotation) if arg.annotation else known,
               ast.unparse(default) if default else '', comments.get(arg.lineno, ''))
    if returns: yield 'returns', ast.unparse(returns), '', comments.get(returns.lineno, '')

def table(found):
    "Markdown table of rows (name, type, default, what), if one of them has a `what`; empty columns are left out"
    if not any(what for *_, what in found): return ''
    lines = [('parameter', 'type', 'default', 'what'), ('---',)*4]
    lines += [(*(f'`{text}`' if text else '' for text in row[:3]), row[3]) for row in found]
    columns = [c for c in zip(*lines) if any(c[2:])]
    return '\n'.join('| ' + ' | '.join(text.replace('|', r'\|') for text in line) + ' |' for line in zip(*columns))

def document(node, comments, module, seen, owner='', fence='```````'):
    "MyST text of a function or class: signature, docstring, parameters; then its public methods. `seen`: names before it"
    if any(d.split('(')[0] == 'patch' for d in decorators(node)):
        owner = ast.unparse(node.args.args[0].annotation) + '.'
    is_class = isinstance(node, ast.ClassDef)
    is_property = any(d in ('property', 'patch(as_prop=True)') for d in decorators(node))
    kind = 'class' if is_class else 'property' if is_property else 'method' if owner else 'function'
    renamed = [re.search(r"^patch\(.*nm='(\w+)'", d) for d in decorators(node)]
    name = owner + next((m[1] for m in renamed if m), node.name)
    args = arguments(node)
    returns = getattr(node, 'returns', None)
    signature = '' if is_property else f'({ast.unparse(args)})' + (f' -> {ast.unparse(returns)}' if returns else '')
    again = '\n:no-index:' if name in seen else '' # a function that grows on its page has its anchor where it begins
    seen.add(name)
    methods = [n for n in public(node.body) if is_class and ast.get_docstring(n)]
    parts = [f'{fence}{{py:{kind}}} {name}{signature}\n:module: {module}{again}', ast.get_docstring(node),
             table(list(rows(args, returns, comments))),
             *(document(n, comments, module, seen, f'{node.name}.', fence[1:]) for n in methods)]
    return '\n\n'.join(filter(None, parts)) + f'\n{fence}'

def exported(cell, module, seen):
    "What the page shows of an exported cell: its public names documented, its source folded away; nothing of imports"
    tree = ast.parse(cell.source)
    if all(isinstance(n, ast.Import | ast.ImportFrom) for n in tree.body): return []
    tokens = tokenize.generate_tokens(StringIO(cell.source).readline)
    comments = {t.start[0]: t.string.lstrip('# ') for t in tokens if t.type == tokenize.COMMENT}
    cell.metadata['tags'] = ['hide-input']
    return [*(mk_cell(document(n, comments, module, seen), 'markdown') for n in public(tree.body)), cell]

def page(path):
    "The notebook at `path` as the site shows it"
    nb = read_nb(path)
    cells = []
    module = None
    seen = set()
    for cell in nb.cells:
        found = cell.directives if cell.cell_type == 'code' else {}
        if 'default_exp' in found and path.parent == NBS: module = f'visionkit.{found["default_exp"].strip()}'
        if {'hide', 'default_exp'} & found.keys() or found.get('include') == 'false': continue
        if cell.cell_type == 'code': cell.remove_directives()
        else: cell.source = cell.source.replace('](../results/README.md)', '](scoreboard.md)').replace('](../CONTRIBUTING.md)', '](CONTRIBUTING.md)')
        removed = [part for key, part in (('echo', 'input'), ('output', 'output')) if found.get(key) == 'false']
        cell.metadata['tags'] = [f'remove-{part}' for part in removed]
        cells += exported(cell, module, seen) if module and {'export', 'exporti'} & found.keys() else [cell]
    nb.cells = cells
    return nb

def contents(names):
    "The pages as toctrees: tutorials and experiments in the order in which the start page names them, modules by number"
    start = (NBS/'index.ipynb').read_text(encoding='utf-8')
    def place(name): return start.find(f'({name}.ipynb)') % len(start) if '/' in name else 0
    groups = {title: [n for n in sorted(sorted(names), key=place) if str(Path(n).parent) == folder]
              for title, folder in (('Tutorials', 'tutorials'), ('Experiments', 'recipes'), ('Reference', '.'))}
    groups['Project'] = ['scoreboard', 'benchmarks', 'CONTRIBUTING', 'CHANGELOG']
    return '\n\n'.join('\n'.join(['```{toctree}', ':hidden:', f':caption: {title}', '', *found, '```'])
                       for title, found in groups.items())

def main(out):
    # The page of results is the README that is made of it
    paths = [p for p in sorted(NBS.rglob('*.ipynb')) if '.ipynb_checkpoints' not in p.parts and p.name != 'results.ipynb']
    names = [p.relative_to(NBS).with_suffix('').as_posix() for p in paths]
    shutil.copytree(NBS, out, ignore=shutil.ignore_patterns('*.ipynb', '.ipynb_checkpoints'))
    for path, name in zip(paths, names):
        nb = page(path)
        if name == 'index': nb.cells.append(mk_cell(contents(set(names) - {'index', 'benchmarks'}), 'markdown'))
        write_nb(nb, out/f'{name}.ipynb')
    for name in ('CONTRIBUTING.md', 'CHANGELOG.md'): shutil.copy(ROOT/name, out)
    shutil.copy(ROOT/'results'/'README.md', out/'scoreboard.md')

if __name__ == '__main__': main(Path(sys.argv[1]))
