"The check of stored outputs: a stale page, a page that fails, and what may differ."
from functools import partial
import nbformat, pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output
import check_outputs
from check_outputs import main, missing, text
from warm import job

def stream(shown, name='stdout'): return new_output('stream', name=name, text=shown)

def cell(*outputs, source='print()'): return new_code_cell(source, outputs=[*outputs])

@pytest.fixture
def page(tmp_path):
    "A function that writes a notebook of cells and returns its path"
    def write(name, *cells):
        nbformat.write(new_notebook(cells=[*cells]), tmp_path/name)
        return tmp_path/name
    return write

@pytest.fixture
def shell(tmp_path, monkeypatch):
    "A function that runs the tool; it returns the exit status and what its processes print"
    log = tmp_path/'log'
    monkeypatch.setattr(check_outputs, 'job', partial(job, files=(log, log)))
    def run(*words): return main([*map(str, words)]), log.read_text()
    return run

def test_stale_and_failing_pages_are_named(page, shell):
    kept = page('kept.ipynb', cell(stream('7 images\n'), source='print(7, "images")'))
    stale = page('stale.ipynb', cell(source='n = 8'), cell(stream('7 images\n'), source='print(n, "images")'))
    fails = page('fails.ipynb', cell(source='1/0'))
    assert main([str(kept)]) == 0
    status, out = shell(kept, stale, fails)
    assert status == 1
    assert f'{kept}: as stored' in out and f'{fails}: fails' in out and 'ZeroDivisionError' in out
    assert f'{stale}: stale\n  cell 1: print(n, "images")\n    -7 images\n    +8 images\n' in out
    assert main([str(stale), '--words']) == 0
    assert main([str(stale), '--store']) == 0 and main([str(stale)]) == 0
    assert nbformat.read(stale, 4).cells[1].outputs[0].text == '8 images\n'

def test_a_page_edited_meanwhile_is_left_as_it_is(page):
    source = 'import pathlib; p = pathlib.Path("edited.ipynb")\np.write_text(p.read_text().replace("# here", "# there"))'
    edited = page('edited.ipynb', cell(source=source), cell(source='print(1) # here'))
    assert main([str(edited), '--store']) == 1
    assert nbformat.read(edited, 4).cells[1].source == 'print(1) # there' and not nbformat.read(edited, 4).cells[1].outputs

def test_a_page_runs_as_its_reader_runs_it(page, monkeypatch):
    monkeypatch.setenv('IN_TEST', '1')
    source = 'import os, sys, warnings; from visionkit.core import tiny\nprint(tiny("full", "small"))'
    assert main([str(page('full.ipynb', cell(stream('full\n'), source=source)))]) == 0

@pytest.mark.parametrize('stored, now', [
    ('8.7 s', '12 s'), ('files 2287 ms, cached 18 ms', 'files 1 ms, cached 2 ms'), ('warp 0.32 ms', 'warp 1.5 ms'),
    ("{'decode': '147 µs an image'}", "{'decode': '9 µs an image'}"), ('time 00:27', 'time 1:01:04'),
    ('<Net at 0x7f00>', '<Net at 0x55aa>'), ('1.25 times as fast', '2 times as fast'), ('a   1', 'a 1')])
def test_what_may_differ(stored, now): assert text(cell(stream(stored))) == text(cell(stream(now)))

@pytest.mark.parametrize('stored, now', [
    ('accuracy 0.98', 'accuracy 0.97'), ('30 images', '31 images'), ('rate 0.89998', 'rate None'), ('', 'a line')])
def test_what_may_not_differ(stored, now): assert text(cell(stream(stored))) != text(cell(stream(now)))

def test_numbers_of_a_measured_cell():
    measured = lambda shown: text(cell(stream(shown), source='#| measured\ntable'))
    assert measured('ours  0.4  1.1e-05') == measured('ours  12.5  -3')
    assert measured('ours  0.4') != measured('theirs  0.4')

def test_times_of_a_measured_cell_are_kept(page):
    stale = page('measured.ipynb', cell(stream('7 ms\n'), source='#| measured\nprint(8, "ms")'),
                 cell(stream('7 images\n'), source='print(8, "images")'))
    assert main([str(stale), '--store']) == 0
    assert [c.outputs[0].text for c in nbformat.read(stale, 4).cells] == ['7 ms\n', '8 images\n']

def test_parts_of_an_output():
    table = new_output('execute_result', {'text/html': '<table id="T_1a">', 'text/plain': 'a  1'})
    bar = new_output('display_data', {'text/html': '<div>', 'text/plain': '<div><progress value="3"></progress></div>'})
    scoreboard = new_output('display_data', {'text/markdown': '| x |', 'text/plain': '<Markdown object>'})
    style = new_output('display_data', {'text/html': '<style>', 'text/plain': '<IPython.core.display.HTML object>'})
    picture = new_output('display_data', {'image/png': 'AAAA', 'text/plain': '<Figure size 1x1 with 1 Axes>'})
    shown = text(cell(stream('out\n'), bar, style, stream('err\n', 'stderr'), table, stream('more\n'), scoreboard, picture))
    assert shown == ['a 1', '| x |', '<Figure size 1x1 with 1 Axes>', 'err', 'out', 'more']

def test_cells_of_a_table():
    def frame(number, plain):
        html = f'<style scoped>td {{}}</style><table border="1" class="dataframe">\n<td>a</td>\n<td>{number}</td>\n</table>'
        return text(cell(new_output('execute_result', {'text/html': html, 'text/plain': plain})))
    assert frame(1, 'a ... 1') == frame(1, 'a  1') == ['a', '1'] != frame(2, 'a  1')

def test_warnings_of_libraries_are_left_out():
    warning = '/lib/site-packages/torch/jit.py:14: FutureWarning: deprecated{}\n  warnings.warn(\n'
    both = warning.format('') + warning.format(':\nuse another,\nor none')
    output = check_outputs.without_warnings(stream(both + 'visionkit: no such recipe\n', 'stderr'))
    assert output.text == 'visionkit: no such recipe\n'

def test_pages_without_their_data_are_left_out(page, monkeypatch, capfd):
    needy = page('needy.ipynb', cell(source="if has_source('mnist') and has_source('digits'): 1/0"),
                 cell(source="test_eq(has_source('noisy_digits'), False)"))
    monkeypatch.setattr(check_outputs, 'has_source', lambda name: name == 'digits')
    assert missing(needy) == ['mnist'] and main([str(needy)]) == 0
    assert f'{needy}: left out, no mnist on this machine' in capfd.readouterr().out
