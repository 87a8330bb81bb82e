"What a notebook cell cannot show of CachedDL: processes, kills, full disks, tables, test-time augmentation, ranks."
import errno, multiprocessing, os, random, signal, sys, time, types
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from fastai.vision.all import (CategoryBlock, ColReader, CrossEntropyLossFlat, DataBlock, IndexSplitter, ImageBlock,
                               ItemTransform, L, Learner, Normalize, PILImageBW, RandomSplitter, Resize, TensorImage,
                               TfmdDL, get_image_files, nn, parent_label)
from visionkit.cache import CachedDL
from visionkit.core import InputError

@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv('VISIONKIT_CACHE', str(tmp_path/'cache'))
    return tmp_path/'cache'/'decoded'

@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(120):
        file = tmp_path/'images'/str(i % 3)/f'{i:03}.png'
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (8, 8), dtype='uint8')).save(file)
    return tmp_path/'images'

def block(**kwargs):
    kwargs = {**dict(get_y=parent_label, item_tfms=Resize(8, method='squish'), splitter=IndexSplitter([])), **kwargs}
    return DataBlock((ImageBlock(PILImageBW), CategoryBlock), get_items=lambda p: get_image_files(p).sorted(), **kwargs)

def loaders(folder, dl_type=CachedDL, **kwargs):
    own = {k: kwargs.pop(k) for k in list(kwargs) if k in ('get_y', 'item_tfms', 'splitter', 'batch_tfms')}
    return block(**own).dataloaders(folder, **{**dict(bs=16, dl_type=dl_type, num_workers=0, device='cpu'), **kwargs})

def files(folder): return sorted(f.name for f in folder.iterdir() if f.suffix != '.lock')

def build_slowly(folder, seconds, report):
    "Runs in a process of its own: decode `folder`, `seconds` an image, and report"
    os.setsid()
    class Watched(CachedDL):
        def _decode(self, out):
            report.put('decoding')
            return super()._decode(out)
    def slow(x:PILImageBW):
        time.sleep(seconds)
        return x
    dl = loaders(folder, Watched, item_tfms=[Resize(8, method='squish'), slow], num_workers=2).train
    dl.build()
    report.put(int(dl.store.images.long().sum()))

def start(folder, seconds):
    context = multiprocessing.get_context('fork')
    report = context.Queue()
    process = context.Process(target=build_slowly, args=(folder, seconds, report))
    process.start()
    return process, report

def finish(process, report):
    out = []
    while not out or out[-1] == 'decoding': out.append(report.get(timeout=120))
    process.join(60)
    assert process.exitcode == 0
    return out

def test_two_processes_decode_once(folder, own_cache):
    both = [start(folder, .01) for _ in range(2)]
    one, two = [finish(*o) for o in both]
    assert (one + two).count('decoding') == 1
    assert one[-1] == two[-1]
    assert len(files(own_cache)) == 1

def test_killed_while_decoding(folder, own_cache):
    process, report = start(folder, .01)
    assert report.get(timeout=120) == 'decoding'
    os.killpg(process.pid, signal.SIGKILL)
    process.join(60)
    assert len(files(own_cache)) == 1 and files(own_cache)[0].startswith('.') # a temporary file, under another name
    assert finish(*start(folder, .01))[0] == 'decoding' # the same pipeline, so the same cache file
    assert len(files(own_cache)) == 1 and files(own_cache)[0].endswith('.npy')

def test_interrupted_leaves_nothing(folder, own_cache, monkeypatch):
    def interrupt(self, out): raise KeyboardInterrupt
    monkeypatch.setattr(CachedDL, '_decode', interrupt)
    with pytest.raises(KeyboardInterrupt): loaders(folder).one_batch()
    assert files(own_cache) == []

def test_damaged_cache_is_rebuilt(folder, own_cache):
    want = loaders(folder).train
    want.build()
    file, = own_cache.glob('*.npy')
    for damage in (b'', file.read_bytes()[:500], b'x'*7800, file.read_bytes()[:-8*8*120] + bytes(8*8*120)):
        file.write_bytes(damage)
        dl = loaders(folder).train
        dl.build()
        assert torch.equal(dl.store.images, want.store.images.new_tensor(np.load(file)))
        assert dl.store.images.float().mean() > 100

def test_damage_anywhere_is_noticed(folder, own_cache):
    "In each part of the file: one bit of any row, its end, bytes in excess"
    first = loaders(folder).train
    first.build()
    want = first.store.images.clone() # what is open already would show the damage
    file, = own_cache.glob('*.npy')
    good = file.read_bytes()
    def flipped(at): return good[:at] + bytes([good[at] ^ 1]) + good[at+1:]
    for damage in (*map(flipped, (130, 128 + 64*50, 128 + 64*119 + 63, len(good) - 1)), good[:-1], good + b'x',
                   good[:128 + 64*5] + bytes(64*3) + good[128 + 64*8:]):
        file.write_bytes(damage)
        again = loaders(folder).train
        again.build()
        assert torch.equal(again.store.images, want) and file.read_bytes() == good

def test_replaced_image_of_the_same_size_and_time(folder):
    "As `rsync -t` and `tar` leave it"
    for i in range(120): Image.new('L', (8, 8), i).save(folder/str(i % 3)/f'{i:03}.bmp')
    loaders(folder).train.build()
    file = folder/'1'/'100.bmp'
    before = file.stat()
    Image.new('L', (8, 8), 222).save(file.with_suffix('.new'), 'BMP')
    os.utime(file.with_suffix('.new'), ns=(before.st_atime_ns, before.st_mtime_ns))
    os.replace(file.with_suffix('.new'), file)
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    dl = loaders(folder).train
    dl.build()
    assert dl.store.images[[f.name for f in dl.items].index('100.bmp')].unique().tolist() == [222]

def test_two_spellings_of_a_folder_share_their_images(folder, own_cache, monkeypatch):
    (folder.parent/'link').symlink_to('images')
    monkeypatch.chdir(folder.parent)
    for spelling in (folder, 'images', 'link', 'images/../images'): loaders(Path(spelling)).train.build()
    assert len([f for f in files(own_cache) if f.endswith('.npy')]) == 1

def test_full_disk(folder, own_cache, monkeypatch):
    def full(*args): raise OSError(errno.ENOSPC, 'No space left on device')
    monkeypatch.setattr(os, 'posix_fallocate', full)
    with pytest.warns(UserWarning, match='stay in memory'): assert len(loaders(folder).one_batch()[0]) == 16
    assert files(own_cache) == []

def test_unusable_cache_folder(folder, own_cache):
    own_cache.parent.write_text('a file in the way')
    with pytest.warns(UserWarning, match='stay in memory'): assert len(loaders(folder).one_batch()[0]) == 16

def test_served_from_the_map(folder, own_cache):
    loaders(folder).train.build()
    dl = loaders(folder).train
    dl.build()
    assert str(own_cache) in Path('/proc/self/maps').read_text()
    before = next(own_cache.glob('*.npy')).read_bytes()
    dl.store.images[0] += 1 # a private copy: the file stays as it is
    assert next(own_cache.glob('*.npy')).read_bytes() == before

def test_memory_only(folder, own_cache):
    dls = loaders(folder, disk=False)
    dls.one_batch()
    dls.test_dl(get_image_files(folder)).one_batch()
    assert not own_cache.exists()

@pytest.mark.parametrize('damage', [b'no image', None])
def test_corrupt_image_is_named(folder, damage):
    file = folder/'1'/'100.png'
    file.write_bytes(file.read_bytes()[:70] if damage is None else damage)
    for n in (0, 2):
        with pytest.raises(InputError, match='100.png') as e: loaders(folder, num_workers=n).one_batch()
        assert '\n' not in str(e.value)

def test_error_in_a_transform_is_not_disguised(folder):
    def picky(x:PILImageBW):
        if np.asarray(x)[0, 0] > 200: raise KeyError('picky')
        return x
    dls = loaders(folder, num_workers=2, item_tfms=[Resize(8, method='squish'), picky])
    with pytest.raises(KeyError, match='picky'): dls.one_batch()

def test_nothing_on_a_piped_stdout(tmp_path, capfd):
    for i in range(600):
        (tmp_path/str(i % 2)).mkdir(exist_ok=True)
        Image.new('L', (8, 8), i % 256).save(tmp_path/str(i % 2)/f'{i}.png')
    loaders(tmp_path).train.build()
    assert capfd.readouterr().out == ''

def test_table(folder, own_cache):
    paths = get_image_files(folder).sorted()
    df = pd.DataFrame(dict(name=[str(p.relative_to(folder)) for p in paths], label=[p.parent.name for p in paths]))
    def dls(df, dl_type):
        b = DataBlock((ImageBlock(PILImageBW), CategoryBlock), get_x=ColReader('name', pref=f'{folder}/'),
                      get_y=ColReader('label'), splitter=IndexSplitter([]), item_tfms=Resize(8, method='squish'))
        return b.dataloaders(df, bs=16, dl_type=dl_type, num_workers=0, shuffle=False, device='cpu')
    for (x, y), (x2, y2) in zip(dls(df, CachedDL).train, dls(df, TfmdDL).train, strict=True):
        assert torch.equal(x, x2) and torch.equal(y, y2)
    assert len(files(own_cache)) == 1
    df.loc[3, 'label'] = '2' # a corrected label: the same images, another target
    again = dls(df, CachedDL).train
    assert again.vocab[next(iter(again))[1][3]] == '2'
    assert len(files(own_cache)) == 1

def test_whole_tuples(folder, own_cache):
    class Both(ItemTransform):
        def encodes(self, xy): return xy[0], xy[1]
    kw = dict(item_tfms=[Resize(8, method='squish'), Both()], shuffle=False)
    for a, b in zip(loaders(folder, **kw).train, loaders(folder, TfmdDL, **kw).train, strict=True):
        assert torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) and type(a[0]) is type(b[0])
    assert not own_cache.exists()

def test_in_memory_dataset_without_tuples():
    images = [TensorImage(torch.full((3, 4, 4), i, dtype=torch.uint8)) for i in range(10)]
    for a, b in zip(CachedDL(images, bs=4), TfmdDL(images, bs=4, num_workers=0), strict=True): assert torch.equal(a, b)
    pairs = [(o, 1) for o in images]
    for a, b in zip(CachedDL(pairs, bs=None), TfmdDL(pairs, bs=None, num_workers=0), strict=True):
        assert torch.equal(a[0], b[0]) and a[1] == b[1]

def test_pipeline_changed_after_the_first_batch(folder):
    dls = loaders(folder)
    dls.one_batch()
    dls.add_tfms([Resize(4, method='squish')], 'after_item', 'train')
    assert dls.one_batch()[0].shape[-2:] == (4, 4)

def test_items_replaced_after_the_first_batch(folder):
    dls = loaders(folder, shuffle=False)
    dls.one_batch()
    dls.train_ds.items = L(dls.train_ds.items[60:])
    dls.train.n = 60
    assert torch.equal(dls.one_batch()[0], loaders(folder, shuffle=False).train.new(dls.train_ds).one_batch()[0])

def test_tta_and_drop_last(folder):
    kw = dict(splitter=RandomSplitter(.25, seed=0), batch_tfms=Normalize.from_stats([.5], [.3], cuda=False))
    res = []
    for dl_type in (CachedDL, TfmdDL):
        torch.manual_seed(0)
        dls = loaders(folder, dl_type, **kw)
        assert [len(x) for x, _ in dls.train] == [16]*5 and [len(x) for x, _ in dls.valid] == [16, 14]
        learn = Learner(dls, nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), loss_func=CrossEntropyLossFlat())
        with learn.no_bar(): res.append(learn.tta(n=2)[0])
    assert torch.allclose(*res)

def test_distributed(folder, monkeypatch):
    try: import fastai.distributed
    except NameError: # fastai.distributed needs accelerate, for a callback that is not used here
        sys.modules.pop('fastai.distributed', None)
        stub = type('Accelerator', (), {'__init__': lambda self: None})
        monkeypatch.setitem(sys.modules, 'accelerate', types.SimpleNamespace(Accelerator=stub))
        import fastai.distributed
    monkeypatch.setattr(fastai.distributed.DistributedDL, '_broadcast', lambda self, t, rank: t)
    dl = loaders(folder, shuffle=False, drop_last=False).train
    ranks = [fastai.distributed.DistributedDL(dl, rank=r, world_size=2) for r in range(2)]
    images = torch.cat([x for r in ranks for x, _ in r])
    assert torch.equal(images, torch.cat([x for x, _ in dl]))

def test_decoding_and_opening_train_alike(folder, own_cache):
    def weights():
        torch.manual_seed(1)
        np.random.seed(1)
        random.seed(1)
        learn = Learner(loaders(folder, splitter=RandomSplitter(.1, seed=0), num_workers=2),
                        nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), loss_func=CrossEntropyLossFlat())
        with learn.no_bar(), learn.no_logging(): learn.fit(2)
        return learn.model[1].weight.detach()
    first = weights()
    assert own_cache.exists()
    assert torch.equal(first, weights())

def test_disk_budget(folder, own_cache, monkeypatch):
    monkeypatch.setattr(CachedDL, 'disk_gb', 2e-5) # 20 kB
    for size in (8, 9, 10):
        loaders(folder, item_tfms=Resize(size, method='squish')).train.build()
        time.sleep(.02)
    assert {np.load(f).shape[-1] for f in own_cache.glob('*.npy')} == {10} # the newest, though larger with any other
