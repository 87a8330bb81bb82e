"What does not fit a notebook cell: hostile and broken archives, two processes at once, kills, downloads, full disks."
import errno, functools, gzip, hashlib, http.server, io, multiprocessing, os, random, shutil, signal, stat, tarfile
import threading, time, zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd, pytest
from fastai.vision.all import (CrossEntropyLossFlat, Learner, PILImageBW, accuracy, fastai_cfg, get_image_files,
                               load_learner, nn, torch)
from PIL import Image

from visionkit import sources as source_module
from visionkit.core import InputError
from visionkit.data import KFold, StratifiedSplitter, char_label, image_block, image_items, kfolds, relabel
from visionkit.sources import Source, count_images, get_source, has_source, sources, unpack


def png(shade=0, size=(8, 6)):
    f = io.BytesIO()
    Image.fromarray(np.full(size[::-1], shade, np.uint8)).save(f, 'png')
    return f.getvalue()

PETS = {f'pets/{s}/{c}/{i}.png': png(20*i + 100*(c == 'dog'))
        for s in ('train', 'test') for c in ('cat', 'dog') for i in range(3)}

def zipped(files, path):
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as z:
        for name, content in files.items(): z.writestr(name, content)
    return path

def tarred(files, path, mode='w:gz'):
    with tarfile.open(path, mode) as t:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            t.addfile(info, io.BytesIO(content))
    return path

def tree(path): return sorted(str(p.relative_to(path)) for p in Path(path).rglob('*') if not p.name.endswith('.lock'))

def folder(path, *names, content=png()):
    for n in names:
        (path/n).parent.mkdir(parents=True, exist_ok=True)
        (path/n).write_bytes(content)
    return path

@pytest.fixture
def home(tmp_path, monkeypatch):
    "A machine with an empty cache, an empty archive folder and no fastai data; and a data set `pets` to look for"
    (tmp_path/'usb').mkdir()
    for k, v in dict(VISIONKIT_CACHE='cache', VISIONKIT_ARCHIVES='usb', FASTAI_HOME='fastai').items():
        monkeypatch.setenv(k, str(tmp_path/v))
    counts = {s: dict(cat=3, dog=3) for s in ('train', 'test')}
    pets = Source('pets', 'Flat pets', counts, (8, 6), archives=('pets.tgz',), root='pets')
    monkeypatch.setitem(sources, 'pets', pets)
    fastai_cfg.cache_clear()
    yield tmp_path
    fastai_cfg.cache_clear()


# Hostile and broken archives --------------------------------------------------------------------------------------

def zip_link(path):
    info = zipfile.ZipInfo('home')
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, 'w') as z:
        z.writestr(info, '/root')
        z.writestr('home/evil.png', png())

def tar_entry(path, **kw):
    info = tarfile.TarInfo('entry')
    for k, v in kw.items(): setattr(info, k, v)
    with tarfile.open(path, 'w:gz') as t: t.addfile(info)

def tar_through_link(path):
    with tarfile.open(path, 'w:gz') as t:
        info = tarfile.TarInfo('pets')
        info.type, info.linkname = tarfile.SYMTYPE, '../../..'
        t.addfile(info)
        t.addfile(tarfile.TarInfo('pets/evil'))

def tar_long_header(path):
    "A pax header that claims to be, and is, 200 MB long"
    info = tarfile.TarInfo('././@PaxHeader')
    info.type, info.size = tarfile.XHDTYPE, 200 * 2**20
    with gzip.open(path, 'wb') as f: f.write(info.tobuf(tarfile.USTAR_FORMAT) + bytes(200 * 2**20))

def tar_sparse(path):
    "A GNU sparse file: 512 bytes in the archive, 8 GB unpacked"
    info = tarfile.TarInfo('hole')
    info.type, info.size = tarfile.GNUTYPE_SPARSE, 512
    head = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    head[386:398], head[398:410], head[483:495] = b'%011o\0' % (2**33 - 512), b'%011o\0' % 512, b'%011o\0' % 2**33
    head[148:156] = b'        '
    head[148:156] = b'%06o\0 ' % sum(head)
    with gzip.open(path, 'wb') as f: f.write(bytes(head) + bytes(2048))

def cut(build, keep):
    def make(path):
        build(PETS, path)
        whole = path.read_bytes()
        path.write_bytes(whole[:int(len(whole)*keep)] if keep < 1 else whole[:-8])
    return make

def flipped(path):
    tarred(PETS, path)
    whole = bytearray(path.read_bytes())
    whole[-6] ^= 255   # in the checksum
    path.write_bytes(whole)

OUT, LINK, BOMB, BROKEN = 'leads out of the folder', 'is a link or a special file', 'unpack to more than', 'damaged'
HOSTILE = {
    'zip ..':           (lambda p: zipped({'pets/a.png': png(), 'pets/../../evil': b''}, p), OUT),
    'zip absolute':     (lambda p: zipped({'/tmp/visionkit-evil': b''}, p), OUT),
    'zip backslash':    (lambda p: zipped({r'pets\..\..\evil': b''}, p), OUT),
    'zip drive':        (lambda p: zipped({'C:/evil': b''}, p), OUT),
    'zip symlink':      (zip_link, LINK),
    'zip bomb':         (lambda p: zipped({'pets/zeros': bytes(100 * 2**20)}, p), BOMB),
    'zip cut':          (cut(zipped, .6), BROKEN),
    'zip twice':        (lambda p: zipped({'pets/a': b'1', 'pets/./a': b'2'}, p), 'comes twice'),
    'tar ..':           (lambda p: tarred({'pets/a.png': png(), '../evil': b''}, p), OUT),
    'tar inner ..':     (lambda p: tarred({'pets/train/../../../evil': b''}, p), OUT),
    'tar absolute':     (lambda p: tarred({'/tmp/visionkit-evil': b''}, p), OUT),
    'tar symlink':      (lambda p: tar_entry(p, type=tarfile.SYMTYPE, linkname='/etc'), LINK),
    'tar hard link':    (lambda p: tar_entry(p, type=tarfile.LNKTYPE, linkname='/etc/passwd'), LINK),
    'tar through link': (tar_through_link, LINK),
    'tar fifo':         (lambda p: tar_entry(p, type=tarfile.FIFOTYPE), LINK),
    'tar device':       (lambda p: tar_entry(p, type=tarfile.CHRTYPE, devmajor=1, devminor=5), LINK),
    'tar sparse':       (tar_sparse, LINK),
    'tar bomb':         (lambda p: tarred({'pets/zeros': bytes(100 * 2**20)}, p), BOMB),
    'tar long header':  (tar_long_header, BOMB),
    'tgz cut':          (cut(tarred, .6), BROKEN),
    'tgz cut at end':   (cut(tarred, 1), BROKEN),
    'tgz checksum':     (flipped, BROKEN),
    'tar cut':          (cut(functools.partial(tarred, mode='w'), .31), BROKEN),
    'bz2 cut':          (cut(functools.partial(tarred, mode='w:bz2'), .6), BROKEN),
    'xz cut':           (cut(functools.partial(tarred, mode='w:xz'), .6), BROKEN),
    'web page':         (lambda p: p.write_text('<html>404 not found</html>'), BROKEN),
    'empty file':       (lambda p: p.write_bytes(b''), BROKEN),
}

@pytest.mark.parametrize('case', HOSTILE)
def test_hostile_archive_is_refused(case, home):
    "By `unpack` and by `get_source`: one line that names the archive, nothing left behind, the archive untouched"
    build, words = HOSTILE[case]
    archive = home/'usb'/'pets.tgz'
    build(archive)
    before, content = tree(home), archive.read_bytes()
    with pytest.raises(InputError, match=words) as e: unpack(archive, home/'out')
    assert str(archive) in str(e.value) and '\n' not in str(e.value)
    assert tree(home) == before
    with pytest.raises(InputError, match=words) as e: get_source('pets')
    assert str(archive) in str(e.value) and '\n' not in str(e.value)
    assert tree(home/'cache') == ['data']
    assert archive.read_bytes() == content
    assert not Path('/tmp/visionkit-evil').exists()

@pytest.mark.parametrize('name', ['p.zip', 'p.tgz', 'p.tar', 'p.tar.bz2', 'p.tar.xz'])
def test_good_archive(name, tmp_path):
    mode = {'tgz': 'w:gz', 'tar': 'w', 'bz2': 'w:bz2', 'xz': 'w:xz'}.get(name.split('.')[-1])
    extra = {'./pets/notes.txt': b'', '__MACOSX/junk': b'', 'petshop/x': b''}
    archive = tarred({**PETS, **extra}, tmp_path/name, mode) if mode else zipped({**PETS, **extra}, tmp_path/name)
    out = unpack(archive, tmp_path/'new'/'out', root='pets')
    assert sorted(os.listdir(out)) == ['notes.txt', 'test', 'train']
    assert all((out.parent/'out'/Path(k).relative_to('pets')).read_bytes() == v for k, v in PETS.items())
    assert os.listdir(out.parent) == ['out']
    with pytest.raises(InputError, match='is there already'): unpack(archive, out)

def test_random_damage(tmp_path):
    "Whatever single bytes are wrong: an `InputError`, or a result, and never anything else"
    rng = random.Random(0)
    for build, name in ((zipped, 'p.zip'), (tarred, 'p.tgz'), (functools.partial(tarred, mode='w'), 'p.tar')):
        whole = build(PETS, tmp_path/name).read_bytes()
        for _ in range(100):
            bad = bytearray(whole)
            for _ in range(rng.randint(1, 4)): bad[rng.randrange(len(bad))] = rng.randrange(256)
            (tmp_path/name).write_bytes(bad)
            try: shutil.rmtree(unpack(tmp_path/name, tmp_path/'out'))
            except InputError as e: assert '\n' not in str(e)
            assert not (tmp_path/'out').exists() and not list(tmp_path.glob('.out*'))


# What is inside ---------------------------------------------------------------------------------------------------

def without(name): return {k: v for k, v in PETS.items() if k != name}

@pytest.mark.parametrize('files, words', [
    (without('pets/train/dog/2.png'), 'train/dog holds 2 images instead of 3'),
    ({**PETS, 'pets/test/cow/0.png': png()}, 'test/cow holds 1 images instead of 0'),
    ({k.replace('pets', 'zoo'): v for k, v in PETS.items()}, 'train/cat holds 0 images'),
    ({**PETS, 'pets/train/cat/0.png': png(size=(9, 9))}, r'train/cat/0.png is \(9, 9\) L instead of \(8, 6\) L'),
    ({**PETS, 'pets/test/dog/0.png': png()[:40]}, 'test/dog/0.png is not a readable image'),
])
def test_local_archive_is_verified_by_content(files, words, home):
    archive = tarred(files, home/'usb'/'pets.tgz')
    with pytest.raises(InputError, match=words) as e: get_source('pets')
    assert str(archive) in str(e.value)
    assert tree(home/'cache') == ['data'] and archive.exists()

def test_search_order(home, monkeypatch):
    assert not has_source('pets')
    fastai = home/'fastai'/'archive'
    fastai.mkdir(parents=True)
    tarred(PETS, fastai/'pets.tgz')
    assert has_source('pets') and source_module._find(sources['pets']) == [fastai/'pets.tgz']
    monkeypatch.setenv('VISIONKIT_ARCHIVES', os.pathsep.join([str(home/'absent'), str(home/'usb')]))
    tarred(PETS, home/'usb'/'pets.tgz')
    assert source_module._find(sources['pets']) == [home/'usb'/'pets.tgz']
    path = get_source('pets')
    assert [p for p in tree(path) if p.endswith('.png')] == sorted(k[5:] for k in PETS)
    shutil.rmtree(home/'usb')
    shutil.rmtree(home/'fastai')
    assert get_source('pets') == path and has_source('pets')   # from the cache now

def test_damaged_cache_is_told_not_deleted(home):
    tarred(PETS, home/'usb'/'pets.tgz')
    path = get_source('pets')
    (path/'train'/'cat'/'0.png').unlink()
    (path/'train'/'notes.txt').write_text('mine')
    with pytest.raises(InputError, match='train/cat holds 2 images instead of 3'): get_source('pets')
    assert (path/'train'/'notes.txt').read_text() == 'mine'

def test_nothing_on_stdout(home, capfd):
    tarred(PETS, home/'usb'/'pets.tgz')
    get_source('pets')
    get_source('digits')
    assert capfd.readouterr().out == ''

def test_full_disk(home, monkeypatch):
    tarred(PETS, home/'usb'/'pets.tgz')
    def full(*_): raise OSError(errno.ENOSPC, 'No space left on device')
    monkeypatch.setattr(source_module.shutil, 'copyfileobj', full)
    with pytest.raises(InputError, match='No space left on device.*VISIONKIT_CACHE'): get_source('pets')
    assert tree(home/'cache') == ['data']

def test_cache_that_cannot_be(home, monkeypatch):
    (home/'file').write_text('in the way')
    monkeypatch.setenv('VISIONKIT_CACHE', str(home/'file'))
    with pytest.raises(InputError, match='VISIONKIT_CACHE'): get_source('digits')
    assert (home/'file').read_text() == 'in the way'

def test_fashion_mnist_from_idx(home, monkeypatch):
    "The idx reader and writer on a set of 20, in the publisher's file format"
    counts = {split: dict.fromkeys(source_module._clothes, 1) for split in ('training', 'testing')}
    images = np.random.default_rng(0).integers(0, 256, (10, 28, 28), dtype=np.uint8)
    def idx(a, magic): return gzip.compress(np.array([magic, *a.shape], '>i4').tobytes() + a.tobytes())
    for split in ('train', 't10k'):
        (home/'usb'/f'{split}-images-idx3-ubyte.gz').write_bytes(idx(images, 2051))
        (home/'usb'/f'{split}-labels-idx1-ubyte.gz').write_bytes(idx(np.arange(10, dtype=np.uint8), 2049))
    src = Source('fashion_mnist', '', counts, (28, 28), archives=tuple(source_module._fashion), write=source_module._write_fashion)
    monkeypatch.setitem(sources, 'fashion_mnist', src)
    with pytest.raises(InputError, match='not an idx file'): get_source('fashion_mnist')   # 10 images are not 60,000
    real = source_module._read_idx
    monkeypatch.setattr(source_module, '_read_idx', lambda file, n, *hw: real(file, 10, *hw))
    path = get_source('fashion_mnist')
    assert np.array_equal(np.array(Image.open(path/'testing'/'Ankle-boot'/'00009.png')), images[9])
    with pytest.raises(InputError, match='not an idx file'): real(home/'usb'/'train-images-idx3-ubyte.gz', 10, 28, 27)
    broken = home/'usb'/'t10k-images-idx3-ubyte.gz'
    broken.write_bytes(broken.read_bytes()[:900])
    with pytest.raises(InputError, match='t10k-images-idx3-ubyte.gz: damaged'): real(broken, 10, 28, 28)


# Photographs of any size, from an archive fetched by hand

def test_archive_fetched_by_hand(home, monkeypatch):
    address = 'https://example.org/pets/archive/1a2b3c.tar.gz'
    pets = replace(sources['pets'], size=None, root='pets*', by_hand=address)
    monkeypatch.setitem(sources, 'pets', pets)
    with pytest.raises(InputError, match=f'fetch {address} by hand as pets.tgz'): get_source('pets')
    larger = {k.replace('pets', 'pets-1a2b3c', 1): png(size=(8 + i, 6 + 2*i)) for i, k in enumerate(PETS)}
    beside = {'pets-1a2b3c/README.md': b'', 'pets-1a2b3c/more/cat/0.png': png(), 'other/train/cat/9.png': png()}
    tarred({**larger, **beside}, home/'usb'/'pets.tgz')
    path = get_source('pets')
    assert {s: count_images(path/s) for s in pets.counts} == pets.counts and (path/'more').is_dir()
    assert pets.shape is None and not (path/'other').exists()

def test_photographs_of_any_size_have_one_mode(home, monkeypatch):
    monkeypatch.setitem(sources, 'pets', replace(sources['pets'], size=None, mode='RGB'))
    tarred(PETS, home/'usb'/'pets.tgz')
    with pytest.raises(InputError, match=r'is \(8, 6\) L instead of \(8, 6\) RGB'): get_source('pets')


# No archive, no network; downloads --------------------------------------------------------------------------------

def with_url(monkeypatch, url, md5='0'*32):
    s = sources['pets']
    monkeypatch.setitem(sources, 'pets', replace(s, urls={url: md5}))

def test_no_archive_and_no_network(home, monkeypatch):
    with_url(monkeypatch, 'http://127.0.0.1:9/pets.tgz')
    for name, file in (('pets', 'pets.tgz'), ('characters', 'trainPart1.zip')):
        with pytest.raises(InputError) as e: get_source(name)
        said, places = str(e.value), [home/'cache'/'data'/name, home/'usb', home/'fastai'/'archive']
        assert all(str(part) in said for part in (file, *places, 'VISIONKIT_ARCHIVES'))
        assert '\n' not in said and not has_source(name)
    assert tree(home/'cache') == ['data']
    monkeypatch.delenv('VISIONKIT_ARCHIVES')
    with pytest.raises(InputError, match='VISIONKIT_ARCHIVES is not set'): get_source('pets')

@pytest.fixture
def server(home):
    "The folder `www`, served on this machine"
    (home/'www').mkdir()
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_): pass
    srv = http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Quiet, directory=str(home/'www')))
    threading.Thread(target=srv.serve_forever, daemon=True).start()
    yield home/'www', f'http://127.0.0.1:{srv.server_port}/pets.tgz'
    srv.shutdown()

def test_download(home, server, monkeypatch):
    www, url = server
    md5 = hashlib.md5(tarred(PETS, www/'pets.tgz').read_bytes()).hexdigest()
    with_url(monkeypatch, url, md5)
    assert count_images(get_source('pets')/'train') == dict(cat=3, dog=3)
    assert os.listdir(home/'usb') == []

def test_download_is_not_the_publishers(home, server, monkeypatch):
    www, url = server
    tarred(PETS, www/'pets.tgz')
    with_url(monkeypatch, url)
    with pytest.raises(InputError, match="publisher's size and hash"): get_source('pets')
    with_url(monkeypatch, url, None)
    monkeypatch.setattr(source_module, 'check', lambda module, u, file: False)   # fastai knows size and hash
    with pytest.raises(InputError, match="publisher's size and hash"): get_source('pets')
    with_url(monkeypatch, url.replace('pets', 'absent'))
    with pytest.raises(InputError, match='pets.tgz'): get_source('pets')
    assert tree(home/'cache') == ['data']


# Processes --------------------------------------------------------------------------------------------------------

fork = multiprocessing.get_context('fork' if hasattr(os, 'fork') else 'spawn')

def slow_write(dest, archives):
    "Write the pets slowly, and say so"
    with open(dest.parent.parent/'log', 'a') as f: f.write(f'{os.getpid()}\n')
    source_module._extract(archives[0], dest, 'pets')
    time.sleep(float(os.environ.get('SLOW', .5)))

def ask(queue):
    try: queue.put((os.getpid(), str(get_source('pets')), len(get_image_files(get_source('pets')))))
    except BaseException as e: queue.put((os.getpid(), type(e).__name__, str(e)))

@pytest.fixture
def slow_pets(home, monkeypatch):
    tarred(PETS, home/'usb'/'pets.tgz')
    s = sources['pets']
    monkeypatch.setitem(sources, 'pets', replace(s, write=slow_write))
    return home/'cache'/'data'

@pytest.mark.skipif(not hasattr(os, 'fork'), reason='needs fork')
def test_two_processes_at_once(slow_pets):
    queue = fork.Queue()
    procs = [fork.Process(target=ask, args=(queue,)) for _ in range(2)]
    for p in procs: p.start()
    answers = [queue.get(timeout=60) for _ in procs]
    for p in procs: p.join(60)
    assert [a[1:] for a in answers] == [(str(slow_pets/'pets'), 12)]*2
    assert len({a[0] for a in answers}) == 2
    assert len((slow_pets/'log').read_text().split()) == 1   # one unpacked, the other waited
    assert sorted(p.name for p in slow_pets.iterdir() if not p.name.endswith('.lock')) == ['log', 'pets']

@pytest.mark.skipif(not hasattr(os, 'fork'), reason='needs fork')
def test_killed_in_the_middle(slow_pets, monkeypatch):
    monkeypatch.setenv('SLOW', '60')
    p = fork.Process(target=ask, args=(fork.Queue(),))
    p.start()
    for _ in range(600):
        if list(slow_pets.glob('.pets.part-*/new/train/cat/*.png')): break
        time.sleep(.05)
    os.kill(p.pid, signal.SIGKILL)
    p.join(60)
    assert list(slow_pets.glob('.pets.part-*')) and not (slow_pets/'pets').exists()
    monkeypatch.setenv('SLOW', '0')
    assert len(get_image_files(get_source('pets'))) == 12
    assert not list(slow_pets.glob('.pets.part-*'))


def test_archives_that_are_whole_but_closed(tmp_path):
    "A password, and a method of packing that Python lacks: fetching them again would not help"
    zipped({'cat/1.png': png()}, tmp_path/'a.zip')
    whole = (tmp_path/'a.zip').read_bytes()
    start = whole.index(b'PK\1\2') # the directory: flags at 8, method at 10; before the file itself at 6 and 8
    for at, value, reason in ((6, 1, 'a.zip: cat/1.png needs a password'), (8, 9, 'a.zip: cannot be unpacked')):
        closed = bytearray(whole)
        closed[at] = closed[start + at + 2] = value
        (tmp_path/'a.zip').write_bytes(closed)
        with pytest.raises(InputError, match=reason) as e: unpack(tmp_path/'a.zip', tmp_path/'to')
        assert 'fetch it again' not in str(e.value) and not (tmp_path/'to').exists()


# Blocks -----------------------------------------------------------------------------------------------------------

def test_corrupt_image_is_named(tmp_path):
    folder(tmp_path, *[f'{c}/{i}.png' for c in 'ab' for i in range(5)])
    (tmp_path/'b'/'3.png').write_bytes(png()[:45])
    dls = image_block(8, 1, splitter=StratifiedSplitter(.2)).dataloaders(tmp_path, bs=2, num_workers=0)
    with pytest.raises(InputError, match='b/3.png: not a readable image'):
        for dl in dls:
            for _ in dl: pass

def test_learner_takes_what_fastai_takes(tmp_path):
    "predict from a Path, a string, an image or an array; a labelled test set; an exported learner"
    folder(tmp_path/'in', *[f'dark/{i}.png' for i in range(8)])
    folder(tmp_path/'in', *[f'light/{i}.png' for i in range(8)], content=png(255))
    dls = image_block(8, 1).dataloaders(tmp_path/'in', bs=4, num_workers=0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    nn.init.constant_(model[1].weight, 1.)
    with torch.no_grad(): model[1].bias[:], model[1].weight[0] = torch.tensor([1., 0.]), 0.
    learn = Learner(dls, model, loss_func=CrossEntropyLossFlat(), metrics=accuracy, path=tmp_path)
    learn.export('e.pkl')
    file = tmp_path/'in'/'light'/'0.png'
    for l in (learn, load_learner(tmp_path/'e.pkl')):
        with l.no_bar():
            for o in (file, str(file), PILImageBW.create(file), np.array(Image.open(file)), file.read_bytes()):
                assert l.predict(o)[0] == 'light'
    with learn.no_bar(): assert learn.validate(dl=dls.test_dl(get_image_files(tmp_path/'in'), with_labels=True))[1] == 1
    # from a table, too; images in memory are grey or colour as the network wants them
    dls = image_block(8, 1).dataloaders(relabel(tmp_path/'in', pd.DataFrame(dict(path=['dark/0.png'], label=['dark']))),
                                        path=tmp_path/'in', bs=4, num_workers=0)
    with learn.no_bar():
        assert learn.validate(dl=dls.test_dl(get_image_files(tmp_path/'in'), with_labels=True))[1] == 1
        for mode in ('RGB', 'RGBA', 'P'): assert learn.predict(Image.open(file).convert(mode))[0] == 'light'

def test_bad_folders(tmp_path):
    folder(tmp_path, 'one/cat/1.png', 'one/cat/2.png')
    (tmp_path/'empty'/'cat').mkdir(parents=True)
    (tmp_path/'empty'/'notes.txt').write_text('no image')
    block = image_block(8)
    with pytest.raises(InputError, match="one: all 2 images are of one class, 'cat'"): block.dataloaders(tmp_path/'one')
    with pytest.raises(InputError, match='empty: no images in it'): block.dataloaders(tmp_path/'empty')
    with pytest.raises(InputError, match='nowhere: no such folder'): block.dataloaders(tmp_path/'nowhere')

def test_bad_tables(tmp_path):
    folder(tmp_path, 'a/1.png', 'b/2.png')
    def csv(text):
        (tmp_path/'l.csv').write_text(text)
        return tmp_path/'l.csv'
    assert [char_label(o) for o in image_items(csv('path,label\na/1.png,NA\nb/2.png,007\n'))] == ['NA', '007']
    for text, words in (('', 'neither folder nor CSV'), ('file,label\na/1.png,x', 'needs the columns'),
                        ('path,label\n', 'no images')):
        with pytest.raises(InputError, match=words): image_items(csv(text))
    for rows, words in (('a/1.png,\nb/2.png,y', '1.png has no label'), ('a/1.png,x\na/1.png,y', 'twice'),
                        ('a/1.png,x\n./a/1.png,y', 'twice'), ('a/1.png,x\nb/9.png,y', 'no such file'),
                        ('a/1.png,x\nb/2.png,x', 'one class')):
        with pytest.raises(InputError, match=words): image_items(csv('path,label\n' + rows))
    (tmp_path/'link').symlink_to('a')
    for again in ('a/../a/1.png', 'link/1.png', str(tmp_path/'a'/'1.png')):
        with pytest.raises(InputError, match='twice'): image_items(csv(f'path,label\na/1.png,x\n{again},y\n'))
    (tmp_path/'l.csv').write_bytes(bytes(range(256)))
    with pytest.raises(InputError, match='neither folder nor CSV'): image_items(tmp_path/'l.csv')

def test_relabel(tmp_path):
    folder(tmp_path, 'Sample011/1.png', 'Sample011/2.png', 'Sample037/3.png', 'Sample037/4.png')
    (tmp_path/'issues.csv').write_text('path,given,suggested\nSample011/2.png,A,a\n')
    df = relabel(tmp_path, tmp_path/'issues.csv', col='suggested')
    assert df['label'].tolist() == ['A', 'a', 'a', 'a']
    for path in ('./Sample011/../Sample011/2.png', str(tmp_path/'Sample011'/'2.png')):
        assert relabel(tmp_path, pd.DataFrame(dict(path=[path], label=['a']))).equals(df)
    dls = image_block(splitter=lambda o: ([0, 2], [1, 3])).dataloaders(df, bs=2, num_workers=0)
    assert [[dls.vocab[int(y)] for _, y in ds] for ds in (dls.train_ds, dls.valid_ds)] == [['A', 'a'], ['a', 'a']]

def test_sizes(tmp_path):
    "Each method gives the size asked for, the same each time, from files of any size"
    for i, size in enumerate([(30, 10), (10, 30), (7, 7), (1, 1)]):
        folder(tmp_path, f'a/{i}.png', f'b/{i}.png', content=png(size=size))
    for method in ('squish', 'pad', 'crop'):
        for size in (8, (6, 12)):
            dls = image_block(size, 3, StratifiedSplitter(.5), method).dataloaders(tmp_path, bs=4, num_workers=0)
            assert dls.one_batch()[0].shape == (4, 3, *((size, size) if isinstance(size, int) else size))

def test_split_does_not_depend_on_the_listing():
    items = [Path(f'{c}/{i:02d}.png') for c in 'abc' for i in range(20)]
    mixed = random.Random(1).sample(items, len(items))
    for splitter in (StratifiedSplitter(.25, seed=3), *kfolds(4, seed=1)):
        assert {items[i] for i in splitter(items)[1]} == {mixed[i] for i in splitter(mixed)[1]}
        assert sorted(sum(splitter(mixed), [])) == list(range(60))
        assert [char_label(items[i]) for i in splitter(items)[1]] == [*'aaaaabbbbbccccc']
    assert StratifiedSplitter(seed=1)(items) != StratifiedSplitter(seed=2)(items)
    assert sorted(sum((f(items)[1] for f in kfolds(7)), [])) == list(range(60))
    for bad in (0, 1, 1.5, -.1, .01):
        with pytest.raises(InputError, match='cannot split 60 images'): StratifiedSplitter(bad)(items)
    with pytest.raises(InputError, match='no fold 5'): KFold(5)(items)
    with pytest.raises(InputError, match='cannot split'): KFold(0, n=25)(items)


# Real data --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('name', ['mnist', 'characters', 'clothing'])
def test_real_archives(name):
    if not has_source(name): pytest.skip(f'no archive of {name}: VISIONKIT_ARCHIVES can name a folder that has one')
    src, path = sources[name], get_source(name)
    start = time.time()
    dls = image_block(28, src.n_in, splitter=src.splitter).dataloaders(path, bs=64, num_workers=0)
    assert time.time() - start < 30
    assert (len(dls.train_ds) + len(dls.valid_ds), len(dls.vocab)) == (sum(src.n.values()), src.classes)
    assert dls.one_batch()[0].shape == (64, src.n_in, 28, 28)
