"What the page on images cannot show: all modes and orientations, frames, huge and broken files, links, inputs."
import mimetypes, sys, warnings
from pathlib import Path

import numpy as np
import pytest
from fastai.vision.all import CrossEntropyLossFlat, Learner, PILImage, PILImageBW, TensorImage, nn, torch
from PIL import Image, ImageCms

from visionkit.cache import CachedDL
from visionkit.core import InputError
from visionkit.data import CenterResize, OpenImage, char_label, folder_items, image_block, image_items
from visionkit.images import (UnreadableImage, image_files, image_shape, open_image, real_paths,
                              report_frames_again)
from visionkit.store import description

GREY = np.arange(24, dtype='uint8').reshape(4, 6)*10
COLOUR = np.stack([GREY, 255 - GREY, GREY//2], -1)

def pixels(o, mode='L', **kwargs): return np.array(open_image(o, mode, **kwargs))

def stored(path, im, **kwargs):
    path.parent.mkdir(parents=True, exist_ok=True)
    im.save(path, **kwargs)
    return path

@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv('VISIONKIT_CACHE', str(tmp_path/'.cache'))
    report_frames_again()


# Modes --------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('mode', ['1', 'L', 'P', 'RGB', 'CMYK', 'YCbCr'])
def test_ordinary_modes_are_as_pillow_converts_them(tmp_path, mode):
    im = Image.fromarray(COLOUR).convert(mode)
    file = stored(tmp_path/('a.tif' if mode in ('CMYK', 'YCbCr') else 'a.png'), im)
    for to in ('L', 'RGB'):
        with Image.open(file) as raw: assert np.array_equal(pixels(file, to), np.array(raw.convert(to)))

@pytest.mark.parametrize('name, array', [
    ('png', (GREY.astype('uint16') << 8)), ('tif', (GREY.astype('uint16') << 8)), ('jp2', (GREY.astype('uint16') << 8)),
    ('pgm', GREY.astype('uint16')*257), ('tif', GREY.astype('int32')*257), ('tif', GREY.astype('float32')/255)])
def test_deep_pixels_by_the_scale_of_their_type(tmp_path, name, array):
    if name == 'pgm':
        file = tmp_path/'a.pgm'
        file.write_bytes(b'P5 6 4 65535\n' + array.astype('>u2').tobytes())
    else: file = stored(tmp_path/f'a.{name}', Image.fromarray(array))
    with Image.open(file) as im: assert im.mode[0] in 'IF'
    assert np.array_equal(pixels(file), GREY)
    assert np.array_equal(pixels(file, 'RGB'), np.stack([GREY]*3, -1))
    assert image_shape(file) == ((4, 6), True)

def test_big_endian(tmp_path):
    im = Image.frombytes('I;16B', (6, 4), (GREY.astype('uint16') << 8).astype('>u2').tobytes())
    assert np.array_equal(pixels(stored(tmp_path/'a.tif', im)), GREY)

def test_dark_images_stay_dark(tmp_path):
    "The scale depends on the type, never on the image"
    dark = stored(tmp_path/'a.png', Image.fromarray(GREY.astype('uint16')))
    assert pixels(dark).max() == 0
    assert pixels(stored(tmp_path/'b.tif', Image.fromarray((GREY/25500).astype('float32')))).max() == 2

@pytest.mark.parametrize('array', [np.full((2, 2), 300., 'float32'), np.full((2, 2), -1., 'float32'),
                                   np.full((2, 2), np.nan, 'float32'), np.full((2, 2), 70_000, 'int32')])
def test_unknown_scale_is_refused_with_its_values(tmp_path, array):
    file = stored(tmp_path/'a.tif', Image.fromarray(array))
    with pytest.raises(UnreadableImage, match=f'a.tif: pixels of type {array.dtype} from .*scale is not known'):
        open_image(file)

def test_transparency_lies_on_the_ground(tmp_path):
    ink = np.zeros((4, 6, 4), 'uint8') # black, as opaque as GREY says
    ink[..., 3] = GREY
    files = [stored(tmp_path/'rgba.png', Image.fromarray(ink)),
             stored(tmp_path/'la.png', Image.fromarray(np.ascontiguousarray(ink[..., 2:]), 'LA')),
             stored(tmp_path/'a.webp', Image.fromarray(ink), lossless=True, exact=True)]
    memory = ink, Image.fromarray(ink), Image.fromarray(ink).convert('RGBa'), Image.open(files[1]).convert('La')
    for o in (*files, *memory):
        assert abs(pixels(o).astype(int) - (255 - GREY)).max() <= 1
        assert pixels(o, ground='black').max() == 0
        assert pixels(o, 'RGB', ground='red')[0, 0].tolist() == [255, 0, 0]

def test_transparent_levels_of_palettes_and_of_deep_grey(tmp_path):
    palette = Image.fromarray(GREY).quantize(4)
    level = palette.getpixel((5, 3)) # the lightest
    want = np.where(np.array(palette) == level, 255, np.array(palette.convert('L')))
    colours = palette.getpalette()
    colours[3*level:3*level+3] = 0, 0, 0
    palette.putpalette(colours)
    for name in ('a.png', 'a.gif'):
        assert np.array_equal(pixels(stored(tmp_path/name, palette, transparency=level)), want)
    file = stored(tmp_path/'rgb.png', Image.fromarray(COLOUR), transparency=tuple(map(int, COLOUR[0, 0])))
    assert pixels(file, 'RGB')[0, 0].tolist() == [255]*3 and np.array_equal(pixels(file, 'RGB')[1:], COLOUR[1:])
    deep = stored(tmp_path/'deep.png', Image.fromarray(GREY.astype('uint16') << 8), transparency=0)
    assert pixels(deep)[0, 0] == 255 and np.array_equal(pixels(deep)[1:], GREY[1:])

def test_lab(tmp_path):
    lab = ImageCms.buildTransform(ImageCms.createProfile('sRGB'), ImageCms.createProfile('LAB'), 'RGB', 'LAB')
    file = stored(tmp_path/'a.tif', ImageCms.applyTransform(Image.new('RGB', (4, 4), (200, 60, 20)), lab))
    assert abs(pixels(file, 'RGB')[0, 0].astype(int) - [200, 60, 20]).max() < 6
    assert abs(int(pixels(file)[0, 0]) - 97) < 6


# Orientation --------------------------------------------------------------------------------------------------------

BACK = {2: 'FLIP_LEFT_RIGHT', 3: 'ROTATE_180', 4: 'FLIP_TOP_BOTTOM', 5: 'TRANSPOSE', 6: 'ROTATE_90', 7: 'TRANSVERSE',
        8: 'ROTATE_270'} # what a camera held in some way does to the upright image

@pytest.mark.parametrize('name', ['a.png', 'a.webp', 'a.tif', 'a.jpg'])
@pytest.mark.parametrize('orientation', range(1, 9))
def test_every_orientation_comes_out_upright(tmp_path, name, orientation):
    upright = Image.fromarray(COLOUR).resize((60, 40), 0)
    lying = upright.transpose(Image.Transpose[BACK[orientation]]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x112] = orientation
    settings = {'a.webp': dict(lossless=True), 'a.jpg': dict(quality=100, subsampling=0)}.get(name, {})
    file = stored(tmp_path/name, lying, exif=exif, **settings)
    im = open_image(file)
    assert abs(np.array(im).astype(int) - np.array(upright)).max() <= (8 if name == 'a.jpg' else 0)
    assert image_shape(file) == ((40, 60), False)
    assert np.array_equal(np.array(open_image(im)), np.array(im)) # and is not turned twice
    with Image.open(file) as lazy: assert np.array_equal(np.array(open_image(lazy)), np.array(im))

@pytest.mark.parametrize('exif', [b'Exif\0\0rubbish', b'Exif\0\0MM\0*\0\0\0\x08\xff\xff', b'Exif\0\0'])
def test_damaged_exif_does_not_cost_the_image(tmp_path, exif):
    file = stored(tmp_path/'a.jpg', Image.fromarray(GREY), exif=exif, quality=100)
    assert abs(pixels(file).astype(int) - GREY).max() < 3 and image_shape(file)[0] == (4, 6)


# Frames -------------------------------------------------------------------------------------------------------------

def film(path):
    frames = [Image.fromarray(np.full((8, 8, 3), shade, 'uint8')) for shade in (40, 200, 120)]
    settings = dict(lossless=True) if path.suffix == '.webp' else {}
    return stored(path, frames[0], save_all=True, append_images=frames[1:], **settings)

@pytest.mark.parametrize('ending', ['gif', 'tif', 'png', 'webp'])
def test_first_frame_and_one_warning(tmp_path, ending):
    files = [film(tmp_path/c/f'{i}.{ending}') for c in 'ab' for i in range(4)]
    with pytest.warns(UserWarning, match='has several pages: of such files the first frame') as caught:
        for x, _ in image_block(8).dataloaders(tmp_path, bs=2, num_workers=0)[0]: assert (x*255 - 40).abs().max() < 2
        for f in files: assert abs(pixels(f).astype(int) - 40).max() < 2
    assert len(caught) == 1

def test_decoding_processes_warn_once_together(tmp_path, capfd, monkeypatch):
    for c in 'ab':
        for i in range(100): stored(tmp_path/'d'/c/f'{i:03}.png', Image.fromarray(GREY))
    for i in (*range(1, 15), *range(17, 27)): # in two chunks of rows, and in none of the eight that the parent decodes
        film(tmp_path/'d'/'a'/f'{i:03}.gif')
        (tmp_path/'d'/'a'/f'{i:03}.png').unlink()
    monkeypatch.setattr(warnings, 'showwarning', lambda message, *_: print(message, file=sys.stderr))
    block = image_block(8, splitter=lambda o: (list(range(len(o))), []))
    dl = block.dataloaders(tmp_path/'d', bs=2, dl_type=CachedDL, num_workers=2).train
    with warnings.catch_warnings():
        warnings.simplefilter('always')
        dl.build()
    assert capfd.readouterr().err.count('the first frame is used') == 1

def test_depth_map_of_a_phone_is_no_page(tmp_path, recwarn):
    file = stored(tmp_path/'a.jpg', Image.fromarray(GREY), format='MPO', save_all=True, quality=100,
                  append_images=[Image.new('L', (6, 4))])
    with Image.open(file) as im: assert im.format == 'MPO' and im.n_frames == 2
    assert abs(pixels(file).astype(int) - GREY).max() < 3 and not recwarn

def test_the_frame_that_was_chosen(tmp_path, recwarn):
    with Image.open(film(tmp_path/'a.gif')) as im:
        im.seek(1)
        assert pixels(im).max() == 200 and not recwarn


# What cannot be opened ------------------------------------------------------------------------------------------------

def test_huge_images_are_refused_alike_with_the_reason(tmp_path, monkeypatch):
    for c in 'ab':
        for i in range(5): stored(tmp_path/c/f'{i}.png', Image.fromarray(GREY))
    scan = stored(tmp_path/'a'/'scan.png', Image.new('1', (60, 50)))
    assert pixels(scan).shape == (50, 60) # a healthy one
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 1000)
    loader = image_block(8).dataloaders(tmp_path, bs=2, dl_type=CachedDL, num_workers=0)
    for opened in (lambda: open_image(scan), lambda: image_shape(scan), lambda: OpenImage()(scan),
                   lambda: [dl.one_batch() for dl in loader]):
        with pytest.raises(UnreadableImage, match=r'scan.png: too large to decode \(.*3000 pixels.*MAX_IMAGE'): opened()
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', None)
    assert pixels(scan).shape == (50, 60)

@pytest.mark.parametrize('content, reason', [
    (b'', 'damaged, or of a format that Pillow does not know'), (b'GIF89a', 'not a readable image'),
    (b'\x89PNG\r\n\x1a\n', 'not a readable image'),
    (b'<html>404</html>', 'damaged, or of a format'), (None, r'cannot be read \(No such file or directory\)')])
def test_each_failure_is_one_line_with_the_name(tmp_path, content, reason):
    file = tmp_path/'a.png'
    if content is not None: file.write_bytes(content)
    for f in (open_image, image_shape):
        with pytest.raises(UnreadableImage, match=f'a.png: .*{reason}') as e: f(file)
        assert '\n' not in str(e.value)

@pytest.mark.parametrize('name', ['a.png', 'a.jpg', 'a.gif', 'a.webp', 'a.tif', 'a.bmp'])
def test_cut_files(tmp_path, name):
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype='uint8')
    file = stored(tmp_path/name, Image.fromarray(noise))
    file.write_bytes(file.read_bytes()[:file.stat().st_size*2//3])
    with pytest.raises(UnreadableImage, match=name): open_image(file)

def test_all_unreadable_images_are_named_at_once(tmp_path):
    "By the loader, wherever they lie, with and without processes; other errors are raised as they are"
    for c in 'ab':
        for i in range(60): stored(tmp_path/c/f'{i:02}.png', Image.fromarray(GREY))
    block = image_block(8, splitter=lambda o: (list(range(len(o))), []))
    for n, bad in ((2, (0, 17, 59)), (0, (3, 4, 5, 6))):
        for i in bad: (tmp_path/'b'/f'{i:02}.png').write_bytes(b'no image')
        dl = block.dataloaders(tmp_path, bs=4, dl_type=CachedDL, num_workers=n).train
        with pytest.raises(UnreadableImage) as e: dl.build()
        known = sorted(int(f.stem) for f in (tmp_path/'b').iterdir() if f.read_bytes() == b'no image')
        assert str(e.value).startswith(f'{len(known)} images cannot be used: ')
        for i in known[:5]: assert f'b/{i:02}.png: not a readable image' in str(e.value)
    assert '; and 2 more' in str(e.value)


# Inputs ---------------------------------------------------------------------------------------------------------------

@pytest.fixture(scope='module')
def judges(tmp_path_factory):
    "Learners on grey and on colour images that tell light from dark"
    folder = tmp_path_factory.mktemp('shades')
    for c, shade in (('dark', 20), ('light', 230)):
        for i in range(8): stored(folder/c/f'{i}.png', Image.new('RGB', (10, 8), (shade,)*3))
    def learner(n_in):
        model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(n_in, 2))
        with torch.no_grad():
            model[2].weight.copy_(torch.tensor([[-1.], [1.]]).expand(2, n_in)*8)
            model[2].bias.copy_(torch.tensor([4.*n_in, -4.*n_in]))
        dls = image_block(8, n_in).dataloaders(folder, bs=4, dl_type=CachedDL)
        return Learner(dls, model, loss_func=CrossEntropyLossFlat())
    return folder, [learner(1), learner(3)]

def inputs(folder):
    file = folder/'light'/'0.png'
    a = np.array(Image.open(file))
    chw = torch.from_numpy(a).permute(2, 0, 1)
    yield from (file, str(file), file.read_bytes(), PILImage.create(file), PILImageBW.create(file), Image.open(file))
    yield from (Image.open(file).convert(mode) for mode in ('L', 'P', 'CMYK', 'RGBA'))
    yield Image.fromarray(a[..., 0].astype('uint16') << 8)
    yield from (a, a[..., 0], a[..., :1], np.dstack([a, a[..., :1]]))
    yield from (a/255, a.astype('int64'), a.astype('uint16') << 8, a > 99)
    yield from (chw, TensorImage(chw), chw[0], chw[:1], chw/255, (chw/255).half(), chw.long(), chw.permute(1, 2, 0))

def test_predict_takes_what_input_types_promise(judges):
    folder, learners = judges
    for o in inputs(folder):
        assert isinstance(o, OpenImage.input_types)
        for learn in learners:
            with learn.no_bar(): assert learn.predict(o)[0] == 'light', repr(o)[:200]

@pytest.mark.parametrize('o', [np.zeros((2, 3, 4, 5), 'uint8'), np.zeros(5, 'uint8'), np.zeros((4, 4, 2), 'uint8'),
                               np.zeros((0, 4)), torch.zeros(2, 8, 8), np.full((4, 4), 200.), np.array([['a']])])
def test_other_arrays_are_refused_in_one_line(o):
    with pytest.raises(UnreadableImage): OpenImage()(o)

def test_gradcam_takes_one_image(judges):
    pytest.importorskip('pytorch_grad_cam')
    from visionkit.heatmaps import gradcam
    folder, (_, learn) = judges
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                        nn.Linear(4, 2))
    learn = Learner(learn.dls, net, loss_func=CrossEntropyLossFlat())
    file = folder/'light'/'0.png'
    im = Image.open(file)
    want = gradcam(learn, [file])
    for o in (file, str(file), file.read_bytes(), im, PILImage.create(file), np.array(im), [im], [file],
              torch.from_numpy(np.array(im)).permute(2, 0, 1)):
        assert torch.allclose(gradcam(learn, o), want)
    x = learn.dls.test_dl([file]).one_batch()[0]
    for o in (x, x[0]): assert torch.allclose(gradcam(learn, o), want)

def test_ground_of_a_block(tmp_path):
    for c in 'ab':
        for i in range(4): stored(tmp_path/c/f'{i}.png', Image.new('RGBA', (8, 8), (90, 90, 90, 0)))
    for ground, value in ((OpenImage(), 1.), (OpenImage(ground='black'), 0.)):
        assert (image_block(8, ground).dataloaders(tmp_path, bs=2, dl_type=CachedDL).one_batch()[0] == value).all()


# Finding --------------------------------------------------------------------------------------------------------------

def tree(root, *names):
    for name in names: stored(root/name, Image.fromarray(GREY), format='PNG')
    return root

def below(root, found): return sorted(Path(f).relative_to(root).as_posix() for f in found)

def test_endings_do_not_depend_on_the_machine(tmp_path, monkeypatch):
    endings = '.webp', '.jfif', '.JPG', '.tiff', '.Png', '.bmp', '.gif', '.avif'
    names = [f'{c}/{i}{e}' for c in 'ab' for i, e in enumerate(endings)]
    for types in (mimetypes.types_map, {}):
        monkeypatch.setattr(mimetypes, 'types_map', types)
        assert below(tmp_path, image_items(tree(tmp_path, *names))) == sorted(names)

def test_hidden_files_and_what_systems_add(tmp_path, recwarn):
    tree(tmp_path, 'a/1.png', 'b/2.png', 'a/.hidden.png', '.cache/3.png', '__MACOSX/a/._1.png', '__MACOSX/a/4.png',
         'a/@eaDir/5.png')
    for name in ('a/Thumbs.db', 'b/.DS_Store', 'desktop.ini'): (tmp_path/name).write_bytes(b'x')
    assert below(tmp_path, image_items(tmp_path)) == ['a/1.png', 'b/2.png'] and not recwarn

def test_links_count_each_real_file_once(tmp_path):
    root = tree(tmp_path/'d', *[f'{c}/{i}.png' for c in ('cat', 'dog') for i in range(3)])
    want = below(root, image_files(root))
    for link, to in (('cat/all', '..'), ('dog/all', '..'), ('cat/dogs', '../dog'), ('ant', 'dog'), ('cat/itself', '.')):
        (root/link).symlink_to(to)
    (root/'cat'/'a.png').symlink_to('../dog/1.png')
    (root/'cat'/'b.png').symlink_to('b.png') # leads nowhere
    assert below(root, image_files(root)) == [*want[:3], 'cat/b.png', *want[3:]]
    with pytest.raises(UnreadableImage, match='cat/b.png: cannot be read'): open_image(root/'cat'/'b.png')
    (root/'cat'/'b.png').unlink()
    with pytest.warns(UserWarning, match=r'left out: ant, cat/a.png, cat/all, … \(6\)'): items = image_items(root)
    assert [char_label(o) for o in items] == ['cat']*3 + ['dog']*3

def test_links_to_files_elsewhere_are_images(tmp_path):
    tree(tmp_path/'store', '1.png', '2.png')
    for c, to in (('a', '1'), ('b', '2'), ('c', '2')): # the second link to one file counts no more
        (tmp_path/'d'/c).mkdir(parents=True)
        (tmp_path/'d'/c/'0.png').symlink_to(tmp_path/'store'/f'{to}.png')
    with pytest.warns(UserWarning, match='no classes: c.*left out: c/0.png'):
        assert below(tmp_path/'d', image_items(tmp_path/'d')) == ['a/0.png', 'b/0.png']
    linked = tmp_path/'link'
    linked.symlink_to('d')
    with pytest.warns(UserWarning): assert below(linked, image_items(linked)) == ['a/0.png', 'b/0.png']

def test_classes_are_the_upper_folders(tmp_path):
    tree(tmp_path, 'cat/day1/1.png', 'cat/day2/2.png', 'dog/day1/3.png', 'dog/4.png', 'poster.png')
    with pytest.warns(UserWarning, match='beside the class folders are left out: poster.png; images in deeper folders'):
        items = image_items(tmp_path)
    assert [char_label(o) for o in items] == ['cat', 'cat', 'dog', 'dog']
    block = image_block(8, splitter=lambda o: ([0, 2], [1, 3]))
    with pytest.warns(UserWarning): dls = block.dataloaders(tmp_path, bs=2)
    assert list(dls.vocab) == ['cat', 'dog'] and [dls.vocab[int(y)] for _, y in dls.valid_ds] == ['cat', 'dog']

@pytest.mark.parametrize('names', [('train', 'valid'), ('Train', 'Val'), ('training', 'testing'), ('test',)])
def test_folders_of_a_split_are_no_classes(tmp_path, names, recwarn):
    tree(tmp_path, *[f'{s}/{c}/{i}.png' for s in names for c in ('Sample011', 'b') for i in range(2)])
    assert {char_label(o) for o in image_items(tmp_path)} == {'A', 'b'} and not recwarn

def test_characters_in_deeper_folders(tmp_path):
    tree(tmp_path, 'Sample011/scan/1.png', 'Sample037/scan/2.png')
    with pytest.warns(UserWarning, match='upper one'): items = folder_items(tmp_path)
    assert [char_label(o) for o in items] == ['A', 'a']

def test_a_class_never_vanishes_without_a_word(tmp_path):
    tree(tmp_path, 'a/1.png', 'b/2.png', 'c/3', 'c/4')
    with pytest.raises(InputError, match=r'c: its files are images without the ending of one \(c/3, c/4\)'):
        image_items(tmp_path)
    for n in '34': (tmp_path/'c'/n).write_text('text')
    with pytest.warns(UserWarning, match='no classes: c; files without the ending of an image are left out: c/3, c/4'):
        assert len(image_items(tmp_path)) == 2
    for n in '34': (tmp_path/'c'/n).unlink() # an empty folder, such as fastai's `models`, is no class
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert len(image_items(tmp_path)) == 2

def test_two_spellings_are_one_file(tmp_path, monkeypatch):
    tree(tmp_path, 'd/a/1.png')
    (tmp_path/'link').symlink_to('d')
    monkeypatch.chdir(tmp_path)
    spellings = ['d/a/1.png', './d/a/1.png', 'd/a/../a/1.png', 'link/a/1.png', str(tmp_path/'d'/'a'/'1.png')]
    assert len(set(real_paths(spellings))) == 1


# Large photographs ---------------------------------------------------------------------------------------------------

@pytest.fixture(scope='module')
def photographs(tmp_path_factory):
    "Photographs of scikit-learn at 3 million pixels, with grain; lying, standing, turned by EXIF, grey, CMYK, progressive"
    from sklearn.datasets import load_sample_images
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp('photographs')
    exif = Image.Exif()
    exif[0x112] = 6
    settings = dict(lying={}, standing={}, turned=dict(exif=exif), grey={}, cmyk={}, progressive=dict(progressive=True))
    for i, (name, kwargs) in enumerate(settings.items()):
        im = Image.fromarray(load_sample_images().images[i % 2]).resize((2000, 1500), Image.Resampling.BICUBIC)
        im = Image.fromarray((np.array(im) + rng.normal(0, 6, (1500, 2000, 1))).clip(0, 255).astype('uint8'))
        if name == 'standing': im = im.rotate(90, expand=True)
        stored(folder/'ab'[i % 2]/f'{name}.jpg', im.convert({'grey': 'L', 'cmyk': 'CMYK'}.get(name, 'RGB')),
               quality=90, **kwargs)
    return folder

@pytest.mark.parametrize('size', [64, 224, (160, 320)])
@pytest.mark.parametrize('method', ['squish', 'crop', 'pad'])
def test_photographs_decoded_at_a_fraction(photographs, size, method):
    "Mean difference to the whole decode of at most 2 of 255, and fewer pixels decoded"
    for n_in in (1, 3):
        block = image_block(size, n_in, method=method)
        opener, resize = block.type_tfms[0][0], CenterResize(size, method)
        for file in image_files(photographs):
            whole, part = OpenImage(opener.cls)(file), opener(file)
            assert whole.size == part.size or part.size[0] <= whole.size[0]/2
            assert min(part.size) >= 2*max(resize.resize.size)
            a, b = (np.array(resize(im)).astype(int) for im in (whole, part))
            assert a.shape == b.shape and abs(a - b).mean() <= 2, file
    if size == 64: assert part.size != whole.size

def test_training_and_inference_decode_alike(photographs):
    "The loaders of training and the one of `evaluate` and `predict` give the same bytes"
    from visionkit.inference import run_loader
    from visionkit.plan import Spec, Stage
    from visionkit.recipe import ImageSet, Recipe
    items = image_items(photographs)
    for size in (96, (120, 160)):
        block = image_block(size, splitter=lambda o: (range(len(o)), []))
        dl = block.dataloaders(photographs, bs=6, num_workers=0).train
        recipe = Recipe('photographs', 'Photographs', data=ImageSet(folder=str(photographs)), model=Spec('resnet18'),
                        stages=(Stage(size, 6, 1, 1e-3),))
        theirs = run_loader(recipe, dict(stats=[]), items)
        for i in range(6): assert torch.equal(dl.do_item(i)[0], theirs.do_item(i)[0])

def test_what_acts_before_the_resize_gets_the_whole_photograph(photographs):
    from fastai.vision.all import CropPad, ToTensor
    def opener(*tfms): return image_block(64, item_tfms=tfms).type_tfms[0][0]
    assert opener().size == opener(ToTensor()).size == 64
    assert opener(CropPad(100)).size is opener(lambda im: im).size is None
    assert image_block(64, OpenImage(ground='black')).type_tfms[0][0].ground == 'black'

def test_a_photograph_of_the_caller_stays_as_it_is(photographs):
    file = photographs/'a'/'lying.jpg'
    with Image.open(file) as im:
        small = open_image(im, size=100)
        assert im.size == (2000, 1500) and max(small.size) == 100
        again = PILImage(open_image(im))
        assert type(im) is not PILImage and again.im is not im.im

def test_fractions_are_part_of_the_key_of_the_cache():
    assert description(OpenImage(size=224)) != description(OpenImage()) == description(OpenImage())
