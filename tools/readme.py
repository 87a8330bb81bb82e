"""Make README.md and results/README.md from nbs/index.ipynb and nbs/results.ipynb: prose as it stands, code as code,
and the outputs of their cells run anew.

readme.py              write both
readme.py --figures    draw the picture that README and index show, from results/
readme.py --command N  print the N-th shell command of the README (needs no packages)
"""
import json, posixpath, re, sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = {'index': 'README.md', 'results': 'results/README.md'}

def commands():
    "The shell blocks of the index, in order"
    cells = json.loads((ROOT/'nbs'/'index.ipynb').read_text(encoding='utf-8'))['cells']
    text = '\n'.join(''.join(c['source']) for c in cells if c['cell_type'] == 'markdown')
    return [m.strip() for m in re.findall(r'```sh\n(.*?)```', text, re.S)]

def outputs(cell):
    "Markdown and text that `cell` shows"
    for o in cell.outputs:
        data = o.get('data', {})
        if 'text/markdown' in data: yield ''.join(data['text/markdown'])
        elif 'text/plain' in data: yield '```\n' + ''.join(data['text/plain']) + '\n```'
        elif o.get('name') == 'stdout': yield '```\n' + ''.join(o.text) + '```'

def relinked(text, target):
    "`text` of a page in nbs/ with its links as `target`, a file of the repository, needs them"
    def link(m):
        path = posixpath.normpath(posixpath.join('nbs', m[1]))
        return f']({posixpath.relpath(path, posixpath.dirname(target) or ".")})'
    return re.sub(r'\]\((?!\w+:)([^)#]+)\)', link, text)

def page(name):
    "The markdown of the notebook nbs/`name`.ipynb"
    from fastcore.nbio import read_nb
    from execnb.shell import CaptureShell
    nb, parts = read_nb(ROOT/'nbs'/f'{name}.ipynb'), []
    CaptureShell(path=ROOT/'nbs').run_all(nb, exc_stop=True)
    for cell in nb.cells:
        if cell.cell_type == 'markdown': parts.append(relinked(cell.source, PAGES[name]))
        elif '#| hide' not in cell.source:
            if '#| echo: false' not in cell.source: parts.append(f'```python\n{cell.source}\n```')
            parts += outputs(cell)
    return (f'<!-- made from nbs/{name}.ipynb by tools/readme.py -->\n\n'
            + '\n\n'.join(p.strip() for p in parts if p.strip()) + '\n')

def figures():
    "Draw nbs/images anew"
    from visionkit.scoreboard import headlines, plot_errors
    plot_errors(headlines()).savefig(ROOT/'nbs'/'images'/'headlines.png', dpi=110)

if __name__ == '__main__':
    if sys.argv[1:2] == ['--command']: print(commands()[int(sys.argv[2])-1])
    elif sys.argv[1:2] == ['--figures']: figures()
    else:
        for name, target in PAGES.items(): (ROOT/target).write_text(page(name), encoding='utf-8')
