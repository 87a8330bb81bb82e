"Inspection of a folder: each issue on made images with known answers, what is written, new images, odd names, the command."
import json, os, subprocess, sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from sklearn.datasets import load_sample_images

from visionkit.copies import chance_similarity, copy_groups, descriptor, find_copies, in_threads, same_pixels, similar_pairs
from visionkit.core import InputError
from visionkit.files import read_table
from visionkit.inspection import inspect_folder, issue_kinds, outlier_distances, saved_files

SOURCES = [Image.fromarray(a) for a in load_sample_images().images]

def photo(i):
    "One of 70 parts of two photographs, none of which overlaps another, as a sharp image of 240 × 180 pixels"
    source, i = SOURCES[i % 2], i//2
    x, y = 90*(i % 7), 84*(i//7)
    part = ImageOps.autocontrast(source.crop((x, y, x + 88, y + 66)), cutoff=1)
    return part.resize((240, 180), Image.Resampling.NEAREST)

def stored(path, im, **kwargs):
    path.parent.mkdir(parents=True, exist_ok=True)
    im.save(path, **kwargs)
    return path

@pytest.fixture
def photos(tmp_path):
    "Twelve photographs in two classes"
    for i in range(12): stored(tmp_path/'photos'/'ab'[i % 2]/f'{i}.png', photo(i))
    return tmp_path/'photos'

def inspected(folder, **kwargs):
    inspection = inspect_folder(folder, bars=False, **kwargs)
    assert len(inspection.table) == len(inspection.images) == len(inspection.descriptors)
    return inspection

def having(inspection, kind): return inspection.table.path[inspection.table[kind]].tolist()

def others(inspection, *kinds):
    "Number of images with any issue but `kinds`"
    return int(inspection.table[[k for k in inspection.issues.index if k not in kinds]].to_numpy().sum())

def kind_of(inspection, path):
    "{the other path: kind} of the pairs of `path`"
    p = inspection.pairs
    return {**dict(zip(p.other[p.path == path], p.kind[p.path == path])), **dict(zip(p.path[p.other == path], p.kind[p.other == path]))}


# Copies -------------------------------------------------------------------------------------------------------------

def test_clean_folder_has_no_issue(photos):
    assert others(inspected(photos)) == 0

def test_exact_copies_are_equal_in_pixels_not_in_bytes(photos):
    turned = Image.Exif()
    turned[0x112] = 6
    stored(photos/'a'/'copy.bmp', photo(0))
    stored(photos/'a'/'phone.png', photo(2).rotate(90, expand=True), exif=turned)
    i = inspected(photos)
    assert having(i, 'exact_copy') == ['a/0.png', 'a/2.png', 'a/copy.bmp', 'a/phone.png']
    assert kind_of(i, 'a/copy.bmp') == {'a/0.png': 'exact'} and kind_of(i, 'a/phone.png') == {'a/2.png': 'exact'}
    assert others(i, 'exact_copy') == 0

@pytest.mark.parametrize('name, change, kind', [
    ('c.jpg', lambda im: im, 'near'), ('c.png', lambda im: im.resize((120, 90)), 'near'),
    ('c.png', lambda im: im.resize((500, 375)), 'near'), ('c.png', lambda im: ImageEnhance.Brightness(im).enhance(.8), 'near'),
    ('c.png', lambda im: im.convert('L'), 'near'), ('c.webp', lambda im: im.crop((2, 1, 238, 179)), 'near'),
    ('c.png', ImageOps.mirror, 'mirrored'), ('c.jpg', ImageOps.mirror, 'mirrored')])
def test_changed_copies_are_near_not_exact(photos, name, change, kind):
    stored(photos/'b'/name, change(photo(3)), **(dict(quality=60) if name.endswith('jpg') else {}))
    i = inspected(photos)
    assert kind_of(i, f'b/{name}') == {'b/3.png': kind}
    assert having(i, 'near_copy') == sorted(['b/3.png', f'b/{name}']) and not i.table.exact_copy.any()
    assert others(i, 'near_copy', 'grey') == 0

def test_large_copies_are_compared_at_full_size(tmp_path):
    "Images above 256 pixels are measured small; one pixel decides whether they are exact copies"
    large = SOURCES[0]
    almost = large.copy()
    almost.putpixel((5, 5), (255, 0, 0))
    for name in ('1.png', '2.bmp'): stored(tmp_path/name, large)
    stored(tmp_path/'3.png', almost)
    i = inspected(tmp_path)
    assert kind_of(i, '2.bmp')['1.png'] == 'exact' and kind_of(i, '3.png')['1.png'] == 'near'
    jpeg = stored(tmp_path/'j'/'1.jpg', large.resize((1300, 870)), quality=95)
    stored(tmp_path/'j'/'2.png', Image.open(jpeg)) # the same pixels; only the JPEG is decoded small
    assert kind_of(inspected(tmp_path/'j'), '1.jpg') == {'2.png': 'exact'}

def test_leaks_and_labels(tmp_path):
    for i in range(8): stored(tmp_path/('train' if i < 6 else 'test')/'ab'[i % 2]/f'{i}.png', photo(i))
    stored(tmp_path/'test'/'a'/'leak.png', photo(0))
    stored(tmp_path/'test'/'b'/'near leak.jpg', photo(1), quality=50)
    stored(tmp_path/'train'/'b'/'other label.png', photo(2))
    stored(tmp_path/'train'/'a'/'same split.png', photo(4))
    i = inspected(tmp_path)
    assert having(i, 'leak') == ['test/a/leak.png', 'test/b/near leak.jpg', 'train/a/0.png', 'train/b/1.png']
    assert having(i, 'two_labels') == ['train/a/2.png', 'train/b/other label.png']
    assert i.classes.loc['a'].to_dict() == dict(test=2, train=4, images=6)

def test_many_copies_of_one_image(tmp_path):
    "Pairs grow with the number of copies, not with its square"
    for i in range(60): stored(tmp_path/f'{i:02}.png', photo(0))
    for i in range(60): stored(tmp_path/f'{i:02}.jpg', photo(1), quality=30 + i)
    i = inspected(tmp_path)
    assert i.table.exact_copy.sum() == 60 and i.table.near_copy.sum() == 60
    assert len(i.pairs) < 60 + 60*20 and i.table.group.nunique() == 2

def test_thresholds_follow_the_folder():
    "Among images that are alike by nature only those that stand out are copies"
    rng = np.random.default_rng(0)
    base = rng.standard_normal(256)
    alike = base + .5*rng.standard_normal((400, 256)) # similarities of .8
    alike = np.concatenate([alike, alike[:1] + .01*rng.standard_normal((1, 256))])
    unlike = rng.standard_normal((400, 256))
    unit = lambda a: (a/np.linalg.norm(a, axis=1, keepdims=True)).astype('float16')
    assert similar_pairs(unit(alike))[['first', 'second']].to_numpy().tolist() == [[0, 400]]
    assert np.median(chance_similarity(unit(alike))) > .85 and chance_similarity(unit(unlike)).max() < .75
    assert len(similar_pairs(unit(unlike))) == 0

def test_copies_of_none_and_one():
    none = np.zeros((0, 256), 'float16')
    assert len(find_copies([], [], none, [])) == 0 and len(copy_groups(0, find_copies([], [], none, []))) == 0
    assert len(find_copies(['a'], ['x'], descriptor(photo(0))[None], [(1, 1)])) == 0
    assert in_threads(str, list(range(600))) == [*map(str, range(600))]

def test_same_pixels_of_what_cannot_be_read(tmp_path):
    file = stored(tmp_path/'a.png', photo(0))
    (tmp_path/'b.png').write_bytes(b'no image')
    assert not same_pixels(file, tmp_path/'b.png') and not same_pixels(file, tmp_path/'c.png')


# Single images ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('kind, change', [
    ('dark', lambda im: ImageEnhance.Brightness(im).enhance(.2)),
    ('light', lambda im: Image.blend(im, Image.new('RGB', im.size, 'white'), .9)),
    ('blurred', lambda im: im.filter(ImageFilter.GaussianBlur(4))),
    ('grey', lambda im: im.convert('L')),
    ('grey', lambda im: im.convert('L').convert('RGB')),
    ('odd_size', lambda im: im.resize((1000, 750), Image.Resampling.NEAREST)),
    ('odd_size', lambda im: im.resize((40, 30))),
    ('odd_aspect', lambda im: im.crop((0, 0, 240, 66))),
    ('odd_aspect', lambda im: im.crop((0, 0, 66, 180)))])
def test_one_bad_image(photos, kind, change):
    stored(photos/'a'/'bad.png', change(photo(20)))
    i = inspected(photos)
    assert having(i, kind) == ['a/bad.png'] and others(i, kind) == 0
    scores = i.table[f'{kind}_score']
    assert scores.idxmax() == i.table.path.tolist().index('a/bad.png') and scores.max() > issue_kinds[kind].limit

def test_mild_changes_are_no_issue(photos):
    changes = [lambda im: ImageEnhance.Brightness(im).enhance(.6), lambda im: im.resize((230, 172)),
               lambda im: im.resize((120, 90), Image.Resampling.NEAREST), lambda im: im.rotate(90, expand=True)]
    for k, change in enumerate(changes): stored(photos/'a'/f'mild{k}.png', change(photo(20 + k)))
    assert others(inspected(photos)) == 0

def test_empty_images_are_no_near_copies(photos):
    rng = np.random.default_rng(0)
    for k in range(3):
        noise = 120 + rng.integers(0, 3, (100, 120, 3))
        stored(photos/'a'/f'empty{k}.png', Image.fromarray(noise.astype('uint8')))
    i = inspected(photos)
    assert having(i, 'empty') == [f'a/empty{k}.png' for k in range(3)] and not i.table.near_copy.any()

def test_ink_on_paper_is_neither_dark_nor_light(tmp_path):
    ink = Image.new('L', (100, 100), 255)
    ink.paste(0, (40, 40, 60, 50))
    stored(tmp_path/'ink.png', ink)
    stored(tmp_path/'chalk.png', ImageOps.invert(ink))
    i = inspected(tmp_path)
    assert not i.table[['dark', 'light', 'empty', 'grey']].to_numpy().any() # grey is no issue where all are

def test_tiny_images_are_not_called_blurred(tmp_path):
    for k in range(3): stored(tmp_path/f'{k}.png', photo(k).resize((32, 24), Image.Resampling.BICUBIC))
    i = inspected(tmp_path)
    assert i.table.blurred_score.isna().all() and not i.table.blurred.any()

def test_all_unreadable_files_at_once(photos):
    whole = stored(photos/'a'/'whole.jpg', photo(30)).read_bytes()
    large = stored(photos/'a'/'large.jpg', SOURCES[1].resize((2000, 1500))).read_bytes()
    bad = {'cut.jpg': whole[:len(whole)*2//3], 'large cut.jpg': large[:len(large)*9//10], 'empty.png': b'',
           'text.png': b'<html>404</html>', 'cut.png': (photos/'a'/'0.png').read_bytes()[:3000]}
    for name, data in bad.items(): (photos/'b'/name).write_bytes(data)
    os.symlink('nowhere.png', photos/'b'/'link.png')
    i = inspected(photos)
    assert having(i, 'unreadable') == sorted(f'b/{name}' for name in [*bad, 'link.png'])
    rows = i.table.set_index('path')
    assert 'truncated' in rows.reason['b/large cut.jpg'] and 'No such file' in rows.reason['b/link.png']
    assert rows.width['b/cut.jpg'] == 0 and not rows.reason['a/0.png']
    assert (i.files('unreadable').path == having(i, 'unreadable')).all()

def test_only_unreadable_files(tmp_path):
    for k in range(2): (tmp_path/f'{k}.png').write_bytes(b'x')
    i = inspected(tmp_path)
    assert i.issues.n['unreadable'] == 2 and others(i, 'unreadable') == 0
    assert set(p.name for p in i.save(tmp_path/'out').iterdir()) == set(saved_files)

def test_outliers_by_features(photos):
    rng = np.random.default_rng(0)
    features = np.array([1., 0, 0, 0]) + .1*rng.standard_normal((12, 4))
    features[5] = 0, 0, 1, 0
    assert 'outlier' not in inspected(photos).table
    i = inspected(photos, features=features)
    assert having(i, 'outlier') == [i.table.path[5]]
    features[7] = np.nan # an image without features
    assert having(inspected(photos, features=features), 'outlier') == [i.table.path[5]]
    assert np.isnan(outlier_distances(np.ones((1, 4)))).all()

def test_outliers_by_a_network(photos):
    from fastai.vision.all import DataLoaders, Learner, nn, torch
    from visionkit.data import image_block
    dls = image_block(24).dataloaders(photos, bs=4)
    assert isinstance(dls, DataLoaders)
    net = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 2))
    stored(photos/'a'/'bad.png', Image.new('RGB', (240, 180), (255, 0, 0)))
    (photos/'a'/'broken.png').write_bytes(b'x')
    torch.manual_seed(0)
    i = inspected(photos, features=Learner(dls, net, loss_func=nn.CrossEntropyLoss()))
    assert i.table.outlier_score.idxmax() == i.table.path.tolist().index('a/bad.png')
    assert np.isnan(i.table.set_index('path').outlier_score['a/broken.png'])


# Folders, names, what is written ------------------------------------------------------------------------------------

def test_notes(tmp_path):
    for k in range(8): stored(tmp_path/('a' if k else 'b')/f'{k}.png', photo(k))
    stored(tmp_path/'loose.png', photo(9))
    (tmp_path/'c').mkdir()
    (tmp_path/'c'/'note.txt').write_text('x')
    i = inspected(tmp_path)
    assert any('imbalance: a has 7 images, b has 1' in n for n in i.notes)
    assert any('beside the class folders' in n and 'without images' in n for n in i.notes)
    assert i.table.label.tolist() == ['a']*7 + ['b', '']

def test_names_of_any_characters(tmp_path):
    names = ['=1+1', 'a\nb', '<b>&amp;"\'', 'ü $x^2$ 图', ' ', "it's; a, name"]
    for k, name in enumerate(names):
        stored(tmp_path/'photos'/name/f'{name}.png', photo(k))
        stored(tmp_path/'photos'/name/f'{name} copy.png', ImageEnhance.Brightness(photo(k)).enhance(.2))
    i = inspected(tmp_path/'photos')
    out = i.save(tmp_path/'out')
    assert read_table(out/'issues.csv').path.tolist() == i.table.path.tolist()
    assert sorted(read_table(out/'issues.csv').label.unique()) == sorted(names)
    dark = (out/'dark.txt').read_text(encoding='utf-8').splitlines()
    assert len(dark) == len(having(i, 'dark')) == 6 and r'a\nb/a\nb copy.png' in dark
    page = (out/'inspection.html').read_text(encoding='utf-8')
    assert '<b>&amp;' not in page and '&lt;b&gt;&amp;amp;' in page and '图' in page
    assert inspected(tmp_path/'photos', against=out).table.equals(i.table)
    i.show('dark')
    assert '\n' not in repr(i).splitlines()[0]

def test_what_is_written(photos):
    stored(photos/'a'/'bad.png', ImageEnhance.Brightness(photo(20)).enhance(.2))
    stored(photos/'b'/'copy.png', photo(0))
    before = {p: p.read_bytes() for p in photos.rglob('*.png')}
    i = inspected(photos)
    out = i.save(photos.parent/'out')
    assert {p.name for p in out.iterdir()} == set(saved_files)
    table = read_table(out/'issues.csv')
    assert [c for c in table if f'{c}_score' in table] == [k for k in issue_kinds if k != 'outlier']
    assert table.path[table.dark == 'True'].tolist() == ['a/bad.png'] == (out/'dark.txt').read_text().splitlines()
    assert (out/'two_labels.txt').read_text().splitlines() == ['a/0.png', 'b/copy.png']
    assert read_table(out/'pairs.csv').kind.tolist() == ['exact']
    about = json.loads((out/'inspection.json').read_text())
    assert about['n'] == 14 and about['issues']['dark']['n'] == 1 and about['folder'] == str(photos)
    assert {p: p.read_bytes() for p in photos.rglob('*.png')} == before
    Path(photos/'a'/'bad.png').unlink()
    inspected(photos).save(out) # a list of an earlier time is replaced
    assert (out/'dark.txt').read_text() == ''

def test_new_images_against_an_earlier_inspection(photos, tmp_path, monkeypatch):
    out = inspected(photos).save(tmp_path/'out')
    import visionkit.inspection as room
    read, measure = [], room.measure_image
    monkeypatch.setattr(room, 'measure_image', lambda path: read.append(Path(path).name) or measure(path))
    stored(tmp_path/'new'/'near.jpg', photo(4), quality=70)
    stored(tmp_path/'new'/'odd.png', photo(50).resize((1200, 900), Image.Resampling.NEAREST))
    i = inspected(tmp_path/'new', against=out)
    assert sorted(read) == ['near.jpg', 'odd.png'] # the earlier images are not read
    assert having(i, 'near_copy') == ['near.jpg'] and i.pairs.other.tolist() == [str(photos/'a'/'4.png')]
    assert having(i, 'odd_size') == ['odd.png'] # by the median of all
    read.clear()
    stored(photos/'a'/'added.png', photo(60))
    stored(photos/'a'/'0.png', ImageEnhance.Brightness(photo(0)).enhance(.2)) # changed since
    again = inspected(photos, against=out)
    assert sorted(read) == ['0.png', 'added.png'] and having(again, 'dark') == ['a/0.png']
    (photos/'b'/'1.png').unlink() # still known, no longer there
    assert 'b/1.png' not in inspected(photos, against=again).table.path.tolist()

@pytest.mark.parametrize('damage', [
    lambda out: (out/'inspection.json').write_text('{"folder": "x"}'),
    lambda out: (out/'inspection.json').unlink(),
    lambda out: (out/'inspection.safetensors').write_bytes(b'damaged'),
    lambda out: (out/'inspection.json').write_text((out/'inspection.json').read_text().replace('"path": [', '"path": ["x", '))])
def test_damaged_inspections(photos, tmp_path, damage):
    out = inspected(photos).save(tmp_path/'out')
    damage(out)
    with pytest.raises(InputError, match='damaged'): inspected(photos, against=out)


# The command --------------------------------------------------------------------------------------------------------

def test_command(shell, photos, tmp_path):
    stored(photos/'b'/'copy.png', photo(0))
    done = shell('inspect', photos)
    assert done.returncode == 0, done.stderr
    assert '2 two_labels' in done.stdout and 'inspection-photos: issues.csv' in done.stdout
    assert {p.name for p in (tmp_path/'inspection-photos').iterdir()} == {*saved_files, '.lock'}
    stored(tmp_path/'new'/'near.jpg', photo(4), quality=70)
    done = shell('inspect', tmp_path/'new', '--against', 'inspection-photos', '--out', 'second')
    assert done.returncode == 0 and '1 near_copy' in done.stdout

def fails(done, *texts):
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
    for text in texts: assert text in done.stderr

def test_command_errors(shell, photos, tmp_path):
    (tmp_path/'empty').mkdir()
    (tmp_path/'file').write_text('')
    fails(shell('inspect', 'nowhere'), 'nowhere is not a folder')
    fails(shell('inspect', 'empty'), 'empty has no images')
    assert not (tmp_path/'inspection-empty').exists()
    fails(shell('inspect', photos, '--out', tmp_path/'file'/'out'), 'cannot be a folder')
    fails(shell('inspect', photos, '--against', 'empty'), 'inspection.json is missing or damaged')
    name = os.fsencode(photos/'a')+b'/\xff.png'
    Path(os.fsdecode(name)).write_bytes(b'x')
    fails(shell('inspect', photos), 'is not UTF-8: rename it')

def test_inspection_imports_no_torch(photos, tmp_path):
    code = ("import sys; from visionkit.cli import main; main(['inspect', sys.argv[1], '--out', sys.argv[2]]); "
            "print([m for m in ('torch', 'fastai', 'sklearn') if m in sys.modules])")
    done = subprocess.run([sys.executable, '-c', code, photos, tmp_path/'out'], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == '[]', done.stderr
