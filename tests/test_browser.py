"The report in a real browser, where one is installed: no console message, and a page with something on it."
import shutil, subprocess
import pytest
from PIL import Image

CHROMIUM = shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which('google-chrome')
FLAGS = ('--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking '
         '--disable-component-update --disable-sync --hide-scrollbars --enable-logging=stderr').split()

@pytest.mark.skipif(CHROMIUM is None, reason='no chromium is installed')
def test_report_opens_without_a_console_message(shell, tmp_path):
    assert shell('run', 'digits', '--smoke').returncode == 0
    made = shell('report', 'runs/digits-0-smoke', '-o', 'report.html')
    assert made.returncode == 0, made.stderr
    def browse(*words):
        return subprocess.run([CHROMIUM, *FLAGS, f'--user-data-dir={tmp_path/"profile"}', *words,
                               (tmp_path/'report.html').as_uri()], cwd=tmp_path, capture_output=True, text=True,
                              timeout=120)
    page = browse('--dump-dom')
    assert 'Top losses' in page.stdout and 'Where it comes from' in page.stdout
    assert 'CONSOLE' not in page.stderr
    assert browse('--window-size=1200,2600', '--screenshot=page.png').returncode == 0
    with Image.open(tmp_path/'page.png') as im: assert len(im.convert('RGB').getcolors(1 << 24)) > 200
