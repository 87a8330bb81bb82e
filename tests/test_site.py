"The site: it builds without a warning, its links resolve, its pages open in a browser, wide and narrow."
import ast, functools, html, http.server, json, os, re, subprocess, sys, threading
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlparse
import pytest
from fastcore.nbio import mk_cell, new_nb, write_nb
from test_browser import CHROMIUM, FLAGS

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT/'docs'))
import pages

@pytest.fixture(scope='module')
def site(tmp_path_factory):
    pytest.importorskip('myst_nb', reason="the site's tools are not installed: pip install '.[docs]'")
    pytest.importorskip('furo', reason="the site's tools are not installed: pip install '.[docs]'")
    out = tmp_path_factory.mktemp('site')
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ['PATH']])
    made = subprocess.run([ROOT/'tools'/'site', out], env={**os.environ, 'PATH': path}, capture_output=True, text=True)
    assert made.returncode == 0, made.stdout + made.stderr
    return out

def page_of(tmp_path, monkeypatch, *sources):
    "The cells of a module's page whose notebook has cells `sources`"
    monkeypatch.setattr(pages, 'NBS', tmp_path)
    write_nb(new_nb([mk_cell(s) for s in ('#| default_exp rooms', *sources)]), tmp_path/'00_rooms.ipynb')
    return pages.page(tmp_path/'00_rooms.ipynb').cells

def test_directives_decide_what_is_shown(tmp_path, monkeypatch):
    cells = page_of(tmp_path, monkeypatch, '#| hide\nsecret', '#| include: false\nsecret', '#| echo: false\nquiet',
                    '#| eval: false\nshown',
                    '#| output: false\nmute', '#| export\nfrom os import path\nimport sys', '#| export\n_seen = 1')
    assert [c.source for c in cells] == ['quiet', 'shown', 'mute', '_seen = 1']
    assert [c.metadata['tags'] for c in cells] == [['remove-input'], [], ['remove-output'], ['hide-input']]

def test_docments_become_a_table(tmp_path, monkeypatch):
    text, source = page_of(tmp_path, monkeypatch, '''#| export
def room(
    name, # what it is called | or not
    *sizes:int, # metres of each side
    high=2.5, # metres
    **kwargs,
)->str: # a sentence
    "Describe a room"
def _private(): pass''')
    assert text.source.splitlines() == [
        '```````{py:function} room(name, *sizes: int, high=2.5, **kwargs) -> str', ':module: visionkit.rooms', '',
        'Describe a room', '',
        '| parameter | type | default | what |', '| --- | --- | --- | --- |',
        r'| `name` |  |  | what it is called \| or not |', '| `*sizes` | `int` |  | metres of each side |',
        '| `high` | `float` | `2.5` | metres |', '| `**kwargs` |  |  |  |', '| `returns` | `str` |  | a sentence |',
        '```````']
    assert source.metadata['tags'] == ['hide-input']

def test_classes_dataclasses_and_patches(tmp_path, monkeypatch):
    texts = [c.source for c in page_of(tmp_path, monkeypatch, '''#| export
class Room:
    "Four walls"
    def __init__(self, wide:int, # metres
                 high=3): pass
    def paint(self, colour='white'):
        "A coat of paint"
    def _dry(self): "Wait"
    @property
    def area(self): "Square metres"
@dataclass(frozen=True)
class Door:
    width:float # metres
    glass:bool=False
@patch
def open(self:Room, door:Door): "Let air in"
@patch(nm='leave')
def leave_room(self:Room): "Through the door"
@patch(as_prop=True)
def doors(self:Room): "All of them"''') if c.cell_type == 'markdown']
    heads = [re.findall(r'\{py:.*', t) for t in texts]
    assert heads == [['{py:class} Room(wide: int, high=3)', "{py:method} Room.paint(colour='white')",
                      '{py:property} Room.area'], ['{py:class} Door(width: float, glass: bool=False)'],
                     ['{py:method} Room.open(door: Door)'], ['{py:method} Room.leave()'],
                     ['{py:property} Room.doors']]
    assert '| `wide` | `int` |  | metres |' in texts[0] and '| `width` | `float` |  | metres |' in texts[1]

def test_a_function_that_grows_is_indexed_once(tmp_path, monkeypatch):
    grown = '#| export\n@patch\ndef fit(self:Learner): "Grows"'
    texts = [c.source for c in page_of(tmp_path, monkeypatch, grown, grown) if c.cell_type == 'markdown']
    assert [':no-index:' in t for t in texts] == [False, True]

class Links(HTMLParser):
    "Ids of a page, and where its links, images, scripts and styles point"
    def __init__(self, path):
        super().__init__()
        self.ids = set()
        self.links = []
        self.feed(path.read_text(encoding='utf-8'))
    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.ids.add(attrs.get('id'))
        self.links += [attrs[k] for k in ('href', 'src') if attrs.get(k)]

def test_internal_links_and_images_resolve(site):
    found = {p: Links(p) for p in site.rglob('*.html')}
    broken = []
    n = 0
    for path, page in found.items():
        for link in page.links:
            if urlparse(link).scheme in ('http', 'https', 'data', 'mailto'): continue
            file, fragment = urldefrag(unquote(link.split('?')[0]))
            target = (path.parent/file).resolve() if file else path
            n += 1
            if not target.is_file() or fragment and target in found and fragment not in found[target].ids:
                broken.append(f'{path.relative_to(site)}: {link}')
    assert not broken and n > 500

def test_nothing_is_loaded_from_elsewhere(site):
    for path in site.rglob('*.html'):
        text = path.read_text('utf-8')
        assert not re.findall(r'<(?:script|img|link)[^>]*(?:src|href)="(?:https?:)?//[^>]*', text), path

def test_every_notebook_is_a_page_without_directives(site):
    for path in pages.NBS.rglob('[!.]*.ipynb'):
        page = 'scoreboard' if path.stem == 'results' else path.relative_to(pages.NBS).with_suffix('')
        made = site/f'{page}.html'
        assert '#| ' not in html.unescape(re.sub('<[^>]+>', '', made.read_text('utf-8'))), made
    assert all(f'href="{p.relative_to(site)}"' in (site/'index.html').read_text('utf-8') for p in site.glob('*/*.html'))

def test_every_exported_function_and_class_is_documented(site):
    for path in pages.NBS.glob('[0-9]*.ipynb'):
        cells = pages.read_nb(path).cells
        module, = [c.directives['default_exp'].strip() for c in cells if 'default_exp' in c.directives]
        tree = ast.parse((ROOT/'visionkit'/f'{module}.py').read_text('utf-8'))
        names = {f'visionkit.{module}.{n.name}' for n in pages.public(tree.body) if not n.decorator_list}
        assert names <= Links(site/f'{path.stem}.html').ids

def test_the_scoreboard_holds_every_recipe(site):
    from visionkit.recipe import recipes
    text = (site/'scoreboard.html').read_text('utf-8')
    assert [r for r in recipes() if f'>{r}<' not in text] == []

# Opens each page in a frame of each width, then types a query, and leaves what it saw in the page as JSON
HARNESS = '''<!doctype html><link rel="icon" href="data:,"><pre id="seen"></pre><script>
// Pixels by which the page or its column of text is too wide: wide tables and code scroll in boxes of their own
const excess = doc => Math.max(...[doc.documentElement, doc.querySelector('.content')]
                               .map(e => e.scrollWidth - e.clientWidth))
const sleep = ms => new Promise(done => setTimeout(done, ms))
async function opened(page, width) {
  const frame = document.body.appendChild(Object.assign(document.createElement('iframe'), {width, height: 800}))
  await new Promise(done => { frame.onload = done; frame.src = page })
  return frame
}
async function look() {
  const seen = []
  for (const width of [1280, 390]) for (const page of PAGES) {
    const frame = await opened(page, width), doc = frame.contentDocument
    seen.push({page, width, title: doc.title, words: doc.querySelector('article').innerText.split(/\\s+/).length,
               excess: excess(doc), broken: [...doc.images].filter(i => !i.naturalWidth).length})
    frame.remove()
  }
  for (const width of [1280, 390]) {
    const frame = await opened('index.html', width), input = frame.contentDocument.querySelector('input[name=q]')
    input.value = 'fit_stages'
    const loaded = new Promise(done => { frame.onload = done })
    input.form.requestSubmit()
    await loaded
    const results = () => [...frame.contentDocument.querySelectorAll('#search-results li a')]
    for (let i = 0; i < 100 && results().length < 3; i++) await sleep(50)
    seen.push({page: 'search', width, results: results().map(a => a.getAttribute('href')),
               excess: excess(frame.contentDocument)})
    frame.remove()
  }
  document.querySelector('#seen').textContent = JSON.stringify(seen)
}
look()
</script>'''

class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args): pass

@pytest.mark.skipif(CHROMIUM is None, reason='no chromium is installed')
def test_pages_and_search_open_in_a_browser(site, tmp_path):
    names = sorted(p.relative_to(site).as_posix() for p in site.rglob('*.html'))
    (site/'harness.html').write_text(HARNESS.replace('PAGES', json.dumps(names)), encoding='utf-8')
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Quiet, directory=site))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    run = subprocess.run([CHROMIUM, *FLAGS, f'--user-data-dir={tmp_path}', '--virtual-time-budget=60000', '--dump-dom',
                          f'http://127.0.0.1:{server.server_port}/harness.html'],
                         capture_output=True, text=True, timeout=120)
    server.shutdown()
    assert 'CONSOLE' not in run.stderr
    seen = json.loads(html.unescape(re.search('<pre id="seen">(.*?)</pre>', run.stdout, re.S)[1]))
    *opened, wide, narrow = seen
    assert [s['page'] for s in opened] == names*2
    for s in opened:
        assert s['title'] and not s['broken'] and s['excess'] <= 0, s
        assert s['words'] > 50 or s['page'] == 'search.html', s
    for s in (wide, narrow): assert len(s['results']) >= 3 and s['excess'] <= 0, s
