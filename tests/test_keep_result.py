"Storing a run's result: nothing stored is lost to a slip"
import importlib.util, json
from pathlib import Path
import pytest
from visionkit.core import InputError
from visionkit.experiment import get_recipe

ROOT = Path(__file__).resolve().parent.parent

@pytest.fixture
def tool(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location('keep_result', ROOT/'tools'/'keep_result.py')
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    monkeypatch.setattr(tool, 'results_dir', lambda: tmp_path/'results')
    return tool

@pytest.fixture
def run(tmp_path):
    "A folder that looks like a finished run of a large network"
    folder = tmp_path/'digits-0'
    folder.mkdir()
    result = dict(json.loads((ROOT/'results'/'digits'/'0.json').read_text()), params=10**6,
                  recipe_hash=get_recipe('digits').recipe_hash)
    (folder/'result.json').write_text(json.dumps(result))
    (folder/'cams.json').write_text('{}')
    return folder

def stored(tmp_path): return sorted(f.name for f in (tmp_path/'results'/'digits').glob('*'))

def test_heat_maps_go_with_their_result(tool, run, tmp_path):
    tool.main(['--cams', str(run)])
    (tmp_path/'results'/'digits'/'0.layer3.cams').write_text('{}')
    tool.main([str(run)])
    assert stored(tmp_path) == ['0.cams', '0.json', '0.layer3.cams']
    another = dict(json.loads((run/'result.json').read_text()), started='later')
    (run/'result.json').write_text(json.dumps(another))
    tool.main(['--cams', str(run)])
    assert stored(tmp_path) == ['0.cams', '0.json']

def test_a_slip_loses_nothing(tool, run, tmp_path):
    tool.main(['--cams', str(run)])
    with pytest.raises(SystemExit): tool.main([str(run), '--layers=layer3'])
    with pytest.raises(FileNotFoundError): tool.main([str(run/'nowhere')])
    (run/'cams.json').unlink()
    with pytest.raises(InputError, match='no heat maps'): tool.main(['--cams', str(run)])
    assert stored(tmp_path) == ['0.cams', '0.json']

def test_refused(tool, run, tmp_path, capsys):
    changed = dict(json.loads((run/'result.json').read_text()), recipe_hash='of another')
    (run/'result.json').write_text(json.dumps(changed))
    tool.main([str(run)])
    assert 'has changed since, left alone' in capsys.readouterr().out and not (tmp_path/'results').exists()
    with pytest.raises(InputError, match='store it first'):
        (run/'result.json').write_text((ROOT/'results'/'digits'/'0.json').read_text())
        tool.main(['--layer', '0', str(run)])
