"Remote folders: the commands take a URL; downloads that are killed, several at once, errors of one line."
import os, shutil, signal, sys
from pathlib import Path
import pytest
from PIL import Image
from warm import capture, job
from visionkit.cli import main, parser

@pytest.fixture
def photos(tmp_path, monkeypatch):
    "The folder `far/photos` with 8 digits of each of 5 classes; cache and working folder are empty"
    from visionkit.sources import get_source
    for c in '01234':
        (tmp_path/'far'/'photos'/c).mkdir(parents=True)
        for p in sorted((get_source('digits')/c).iterdir())[:8]: shutil.copy(p, tmp_path/'far'/'photos'/c)
    monkeypatch.setenv('VISIONKIT_CACHE', str(tmp_path/'cache'))
    monkeypatch.chdir(tmp_path)
    return tmp_path/'far'/'photos'

def copies(folder): return sorted(p for p in Path(folder).rglob('*.png'))

def fetch(url, die_at=0):
    "Fetch the folder; this process kills itself in the middle of download `die_at`"
    from fsspec.implementations.local import LocalFileSystem
    from visionkit.remote import fetch_folder
    whole, seen = LocalFileSystem.get_file, []
    def get_file(fs, path, file, **kwargs):
        seen.append(path)
        whole(fs, path, file, **kwargs)
        if len(seen) == die_at:
            os.truncate(file, 10)
            os.kill(os.getpid(), signal.SIGKILL)
    LocalFileSystem.get_file = get_file
    fetch_folder(url)
    print(len(seen))

def test_a_command(photos, shell):
    done = shell('inspect', f'file://{photos}')
    assert done.returncode == 0, done.stderr
    note, = [l for l in done.stderr.splitlines() if l.startswith('local copy: ')]
    folder = Path(note.removeprefix('local copy: '))
    assert (Path.cwd()/'inspection-photos'/'inspection.html').exists()
    assert [p.relative_to(folder) for p in copies(folder)] == [p.relative_to(photos) for p in copies(photos)]
    assert all(p.read_bytes() == (photos/p.relative_to(folder)).read_bytes() for p in copies(folder))

def test_a_killed_download(photos, tmp_path):
    url = f'file://{photos}'
    assert capture(fetch, url, 36).returncode == -signal.SIGKILL
    place, = (tmp_path/'cache'/'remote').iterdir()
    assert len(copies(place/'photos')) == 32 and len(list(place.glob('.part-*'))) == 1
    for p in copies(place/'photos'): Image.open(p).load()
    assert capture(fetch, url).stdout == '8\n' # only the rest
    assert len(copies(place/'photos')) == 40 and not list(place.glob('.part-*'))
    (photos/'0'/'new.png').write_bytes(copies(photos)[0].read_bytes())
    copies(photos)[7].unlink()
    assert capture(fetch, url).stdout == '1\n'
    assert [p.name for p in copies(place)] == [p.name for p in copies(photos)]

def test_two_at_once(photos, tmp_path):
    files = [(tmp_path/f'out{i}', tmp_path/f'err{i}') for i in range(2)]
    running = [job(fetch, f'file://{photos}', files=f) for f in files]
    for p in running: p.start()
    for p in running: p.join()
    assert sorted(int(out.read_text() or -1) for out, _ in files) == [0, 40], [err.read_text() for _, err in files]

@pytest.mark.parametrize('url, words', [
    ('s3://bucket/photos', 's3://bucket/photos: a package is missing (Install s3fs to access S3)'),
    ('ftp://me:secret@127.0.0.1:9/photos', 'ftp://***@127.0.0.1:9/photos cannot be copied ([Errno'),
    ('s4://bucket', 's4://bucket cannot be copied (Protocol not known: s4)'),
    ('memory://nothing', 'memory://nothing holds no images')])
def test_errors(url, words, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('VISIONKIT_CACHE', str(tmp_path/'cache'))
    monkeypatch.setitem(sys.modules, 's3fs', None) # as if it were not installed
    assert main(['inspect', url]) == 2
    line, = capsys.readouterr().err.splitlines()
    assert line.startswith(f'visionkit: {words}')

def test_a_cache_that_cannot_be_written(photos, capsys, tmp_path):
    (tmp_path/'cache').write_text('') # a file in the way
    assert main(['inspect', f'file://{photos}']) == 2
    line, = capsys.readouterr().err.splitlines()
    assert 'cannot be copied' in line and 'the disk' in line

@pytest.mark.parametrize('line', ['train URL', 'train URL --test URL', 'sweep URL --space f', 'inspect URL', 'labels URL',
                                  'evaluate run URL', 'predict run URL URL a.png', 'export run --images URL'])
def test_every_command_takes_a_url(line, monkeypatch, tmp_path, capsys):
    from visionkit import cli, remote
    monkeypatch.setattr(remote, 'fetch_folder', lambda url, bars: tmp_path)
    args = parser().parse_args(line.replace('URL', 's3://bucket/photos').split())
    cli._copy_remote(args)
    given = [str(v) for v in vars(args).values() if isinstance(v, (str, list))]
    assert not any('s3://' in v for v in given) and sum(v.count(str(tmp_path)) for v in given) == line.count('URL')
    assert capsys.readouterr().err.count('local copy: ') == line.count('URL')
