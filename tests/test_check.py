"What tools/check.py finds in small trees that are wrong in one way each."
import json
import pytest
import check

def write(root, files):
    for name, text in files.items():
        (root/name).parent.mkdir(parents=True, exist_ok=True)
        (root/name).write_text(text, encoding='utf-8')

def notebook(*cells):
    cell = dict(cell_type='code', metadata={}, outputs=[], execution_count=None)
    return json.dumps(dict(metadata={}, nbformat=4, nbformat_minor=5,
                           cells=[dict(cell, id=f'{i:08}', source=s) for i, s in enumerate(cells)]))

@pytest.fixture
def tree(tmp_path):
    "A function that adds files to a tree of two rooms and returns its root"
    settings = '[DEFAULT]\nrequirements = numpy>=1 Pillow\ncam_requirements = pandas\ndev_requirements = pytest\n'
    write(tmp_path, {'settings.ini': settings, 'nbs/00_core.ipynb': notebook(), 'nbs/01_data.ipynb': notebook(),
                     'pyproject.toml': '[tool.ruff.lint]\nselect = ["F"]\nignore = ["F403", "F405"]\n',
                     'visionkit/core.py': 'import json, numpy as np\n', 'visionkit/recipes/digits.py': 'import pandas\n',
                     'visionkit/data.py': 'from PIL import Image\nfrom .core import *\n'})
    def add(files={}):
        write(tmp_path, files)
        return tmp_path
    return add

def test_ratchet():
    look = lambda n, allowed: list(check.ratchet({'a': n}, 40, allowed, 'lines'))
    assert look(40, {}) == [] and look(41, {}) == ['a: 41 lines, at most 40']
    assert look(50, {'a': 50}) == [] and look(51, {'a': 50}) == ['a: 51 lines, at most 50']
    assert look(40, {'a': 50}) == ['a: needs no exception for its lines, take it off the list']
    assert look(1, {'gone': 50}) == ['gone: needs no exception for its lines, take it off the list']

def test_lines_of_rooms(tree):
    root = tree({'visionkit/core.py': 'x = 1\n'*401, 'visionkit/_modidx.py': 'x = 1\n'*900})
    assert check.room_lines(root) == {'core.py': 401, 'data.py': 2, 'recipes/digits.py': 1}
    assert 'core.py: 401 lines, at most 400' in list(check.check_room_lines(root))

def test_lines_of_exported_cells(tree):
    long = 'x = 1\n'*41
    root = tree({'nbs/00_core.ipynb': notebook('#| export\n' + long, long, '#| exporti\nx = 1')})
    assert check.cell_lines(root) == {'nbs/00_core.ipynb 00000000': 42, 'nbs/00_core.ipynb 00000002': 2}

def test_parameters(tree):
    root = tree({'visionkit/core.py': 'def f(a, b, c, d, e, /, f, *args, g=1, **kwargs): pass\n'
                                      'class A:\n    def m(self, a, b): pass\n    async def n(cls, a): pass\n'})
    assert check.parameters(root) == {'core.py f': 7, 'core.py m': 2, 'core.py n': 1}

@pytest.mark.parametrize('line', ['from .core import _x', 'from visionkit.core import _x', 'import visionkit._private',
                                  'from visionkit._private import x'])
def test_private_imports(tree, line):
    assert sum(check.private_imports(tree({'visionkit/data.py': line})).values()) == 1

@pytest.mark.parametrize('line', ['from .core import x', 'from visionkit import __version__', 'from pkg import _x',
                                  'import _thread'])
def test_public_imports(tree, line): assert not check.private_imports(tree({'visionkit/data.py': line}))

def test_findings(tree):
    before = check.findings(tree())
    root = tree({'visionkit/new.py': 'from os import *\nimport re\n', 'visionkit/other.py': 'print(undefined)',
                 'nbs/02_new.ipynb': notebook('import os')})
    assert check.findings(root) - before == {'visionkit/new.py F401': 1, 'visionkit/other.py F821': 1,
                                             'nbs/02_new.ipynb F401': 1}
    write(root, {'pyproject.toml': 'no settings'})
    with pytest.raises(SystemExit, match='ruff fails'): check.findings(root)

def test_packages(tree):
    declared = lambda root: [p for p in check.check_packages(root) if 'albumentations' not in p and 'tensorboard' not in p]
    assert declared(tree()) == []
    assert declared(tree({'visionkit/core.py': 'import sklearn.cluster\ndef f():\n    import pytest'})) == [
        'core.py imports scikit-learn, which settings.ini does not declare',
        'core.py imports pytest, which settings.ini does not declare', # a development requirement only
        'numpy: 1 requirements that no room imports, at most 0']

@pytest.mark.parametrize('line, wrong', [
    ('from .data import x', True), ('from . import data', True), ('from visionkit import data', True),
    ('import visionkit.data', True), ('def f():\n    from visionkit.recipes.digits import x', True),
    ('from data import x', False), ('from . import core', False), ('import visionkit', False)])
def test_import_order(tree, line, wrong):
    found = list(check.check_import_order(tree({'visionkit/core.py': line})))
    assert bool(found) == wrong and all(f.startswith('core.py imports ') for f in found)

def test_skipped_cells(tree):
    root = tree({'nbs/00_core.ipynb': notebook('#| slow\nx = 1', '#| eval: false\ny = 1', 'z = 1')})
    assert [p.rsplit(': ', 1)[1] for p in check.check_skips(root)] == ['x = 1', 'y = 1']

def test_length_size_and_paths(tree):
    root = tree({'nbs/00_core.ipynb': notebook('x'*121, '/home/someone/photos'), 'nbs/01_data.ipynb': ' '*512_000})
    (root/'nbs'/'01_data.ipynb').write_text(notebook('x'*512_000))
    assert sum('120' in p for p in check.check_line_length(root)) == 2
    assert list(check.check_sizes(root)) == ['01_data.ipynb has 500 kB, more than 500']
    assert list(check.check_paths(root)) == ['00_core.ipynb holds the path /home/someone']

def test_a_path_in_an_output(tree):
    nb = json.loads(notebook('load()'))
    nb['cells'][0]['outputs'] = [dict(output_type='stream', name='stderr', text=['/data/cache/digits/0.png: no class'])]
    assert list(check.check_paths(tree({'nbs/00_core.ipynb': json.dumps(nb)}))) == [
        '00_core.ipynb holds the path /data/cache/digits/0.png']

def test_colab(tree):
    root = tree({'nbs/recipes/story.ipynb': notebook('from visionkit.all import *', 'untar_data(URLs.MNIST)')})
    assert len(list(check.check_colab(root))) == 3

def test_exit_status(tree, capsys):
    assert check.main([], tree({'visionkit/core.py': 'from .data import _x'}))
    assert 'core.py imports data, which comes after it' in capsys.readouterr().err.splitlines()
