"The runner of pages: failures, pages apart from each other, an interruption."
import json, os, signal, subprocess, sys, time
import pytest
from run_tests import code_length, ROOT, main, page_job, pages, run

@pytest.fixture
def page(tmp_path):
    "A function that writes a notebook of one cell and returns its file name"
    def write(name, source):
        cell = dict(cell_type='code', id='00000000', metadata={}, outputs=[], execution_count=None, source=source)
        (tmp_path/name).write_text(json.dumps(dict(cells=[cell], metadata={}, nbformat=4, nbformat_minor=5)))
        return str(tmp_path/name)
    return write

def test_failed_pages_are_named(page):
    good = page('good.ipynb', 'import os; assert os.environ["IN_TEST"] and os.environ["OMP_NUM_THREADS"]')
    bad, dies = page('bad.ipynb', '1/0'), page('dies.ipynb', 'import os; os._exit(3)')
    killed = page('killed.ipynb', 'import os, signal; os.kill(os.getpid(), signal.SIGKILL)')
    assert main([good]) == []
    assert sorted(main([bad, good, dies, killed])) == [bad, dies, killed]

def test_no_page_reaches_another(page):
    patch = page('patch.ipynb', 'from fastai.vision.all import *\nimport json, os\nLearner.fit = json.dumps = None\n'
                                'os.environ["LEFT"] = "1"; import visionkit.core\nvisionkit.core.InputError = None')
    look = page('look.ipynb', 'from fastai.vision.all import *\nimport json, os\nassert Learner.fit and json.dumps("x")\n'
                              'assert "LEFT" not in os.environ; import visionkit.core\nassert visionkit.core.InputError')
    assert run(map(page_job, [patch, look, patch, look]), at_once=1) == []

def test_all_pages_longest_first():
    found = pages()
    lengths = [code_length(p) for p in found]
    assert lengths == sorted(lengths, reverse=True) and found[-1].stem in ('index', 'results')
    assert {*found} == {p for p in (ROOT/'nbs').rglob('*.ipynb') if p.parent.name != '.ipynb_checkpoints'}

@pytest.mark.parametrize('how, status', [(os.killpg, 130), (os.kill, 143)], ids=['Ctrl-C', 'terminated'])
def test_traceback_and_end(page, how, status):
    names = page('bad.ipynb', 'shown = 1/0'), page('asleep.ipynb', 'import time; print(flush=True); time.sleep(600)')
    def heed(): signal.signal(signal.SIGINT, signal.SIG_DFL) # a shell's background job ignores it, and so do its children
    process = subprocess.Popen([sys.executable, ROOT/'tools'/'run_tests.py', *names], text=True, start_new_session=True,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, preexec_fn=heed)
    text = ''
    while 'Tests Failed' not in text or f'Starting {names[1]}' not in text: text += process.stdout.readline()
    assert 'shown = 1/0' in text and 'ZeroDivisionError: division by zero' in text
    how(process.pid, signal.SIGINT if status == 130 else signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == status
    with pytest.raises(ProcessLookupError): # nothing is left of it, once the server has noticed
        for _ in range(100):
            os.killpg(process.pid, 0)
            time.sleep(.1)
