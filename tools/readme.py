"""Make README.md from nbs/index.ipynb: prose as it stands, code as code, and the outputs of its cells run anew.

readme.py              write README.md
readme.py --figures    draw the figures that README and index show, from results/
readme.py --command N  print the N-th shell command of the README (needs no packages)
"""
import json, re, sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
INDEX = ROOT/'nbs'/'index.ipynb'

def commands():
    "The shell blocks of the index, in order"
    cells = json.loads(INDEX.read_text(encoding='utf-8'))['cells']
    text = '\n'.join(''.join(c['source']) for c in cells if c['cell_type'] == 'markdown')
    return [m.strip() for m in re.findall(r'```sh\n(.*?)```', text, re.S)]

def outputs(cell):
    "Markdown and text that `cell` shows"
    for o in cell.outputs:
        data = o.get('data', {})
        if 'text/markdown' in data: yield ''.join(data['text/markdown'])
        elif 'text/plain' in data: yield '```\n' + ''.join(data['text/plain']) + '\n```'
        elif o.get('name') == 'stdout': yield '```\n' + ''.join(o.text) + '```'

def readme():
    "The text of README.md"
    from fastcore.nbio import read_nb
    from execnb.shell import CaptureShell
    nb, parts = read_nb(INDEX), []
    shell = CaptureShell(path=INDEX.parent)
    shell.run_all(nb, exc_stop=True)
    for cell in nb.cells:
        if cell.cell_type == 'markdown':
            parts.append(re.sub(r'\]\((images|recipes|tutorials)/', r'](nbs/\1/', cell.source))
        elif '#| hide' not in cell.source:
            if '#| echo: false' not in cell.source: parts.append(f'```python\n{cell.source}\n```')
            parts += outputs(cell)
    return ('<!-- made from nbs/index.ipynb by tools/readme.py -->\n\n'
            + '\n\n'.join(p.strip() for p in parts if p.strip()) + '\n')

def figures():
    "Draw nbs/images anew"
    from visionkit.recipes.mnist_ladder import plot_ladder
    plot_ladder().figure.savefig(ROOT/'nbs'/'images'/'mnist_ladder.png', dpi=110)

if __name__ == '__main__':
    if sys.argv[1:2] == ['--command']: print(commands()[int(sys.argv[2])-1])
    elif sys.argv[1:2] == ['--figures']: figures()
    else: (ROOT/'README.md').write_text(readme(), encoding='utf-8')
