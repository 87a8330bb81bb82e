"""`inspect_folder`: images per second, memory, and which planted faults it finds, beside cleanvision.

Speed is that of n JPEGs of 256 × 256 pixels, made from photographs, and of a quarter of them: memory is flat if both
need about the same. Large JPEGs (12 megapixels) have a line of their own. Then faults are planted among photographs, and
found ones and false ones are counted. Each inspection runs in a process of its own. cleanvision is AGPL, so it is no
dependency: give the Python of another environment that has it, and it runs there."""
import argparse, json, os, random, subprocess, sys, tempfile, time
from pathlib import Path
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from visionkit.core import run_info

OURS = """import json, resource, sys, time
from visionkit.inspection import inspect_folder
start = time.time()
inspection = inspect_folder(sys.argv[1], bars=False)
seconds = time.time() - start
usage = resource.getrusage(resource.RUSAGE_SELF)
found = {k: inspection.files(k).path.tolist() for k in inspection.issues.index}
print(json.dumps(dict(seconds=seconds, cpu=usage.ru_utime + usage.ru_stime, mb=usage.ru_maxrss/1024, found=found)))
"""
THEIRS = """import contextlib, json, os, resource, sys, time
from cleanvision import Imagelab
names = dict(exact_duplicates='exact_copy', near_duplicates='near_copy', dark='dark', light='light', blurry='blurred',
             low_information='empty', grayscale='grey', odd_size='odd_size', odd_aspect_ratio='odd_aspect')
start = time.time()
with contextlib.redirect_stdout(sys.stderr):
    lab = Imagelab(data_path=sys.argv[1])
    lab.find_issues()
seconds = time.time() - start
usage = [resource.getrusage(o) for o in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
found = {ours: [os.path.relpath(p, sys.argv[1]) for p in lab.issues.index[lab.issues[f'is_{name}_issue']]]
         for name, ours in names.items()}
print(json.dumps(dict(seconds=seconds, cpu=sum(u.ru_utime + u.ru_stime for u in usage),
                      mb=sum(u.ru_maxrss for u in usage)/1024, found=found)))
"""
HALF = lambda im: im.resize((im.width//2, im.height//2))
FAULTS = dict( # name → (issue, change of the image, options for saving it); a copy stands beside its original
    same_pixels=('exact_copy', lambda im: im, {}), jpeg_30=('near_copy', lambda im: im, dict(quality=30)),
    half_size=('near_copy', HALF, {}), mirrored=('near_copy', ImageOps.mirror, {}),
    brighter=('near_copy', lambda im: ImageEnhance.Brightness(im).enhance(1.3), {}),
    crop_3=('near_copy', lambda im: im.crop((im.width//66, im.height//66, im.width*65//66, im.height*65//66)), {}),
    dark=('dark', lambda im: ImageEnhance.Brightness(im).enhance(.15), {}),
    light=('light', lambda im: Image.blend(im, Image.new('RGB', im.size, 'white'), .92), {}),
    blurred=('blurred', lambda im: im.filter(ImageFilter.GaussianBlur(3)), {}),
    empty=('empty', lambda im: Image.new('RGB', im.size, im.getpixel((0, 0))), {}),
    grey=('grey', lambda im: im.convert('L'), {}),
    odd_size=('odd_size', lambda im: im.resize((im.width*6, im.height*6)), {}),
    odd_aspect=('odd_aspect', lambda im: im.crop((0, 0, im.width, im.height//5)), {}),
    truncated=('unreadable', lambda im: im, dict(quality=90)))

def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('photos', help='a folder of photographs, such as the clothing data')
    p.add_argument('--n', type=int, default=5000, help='images to measure the speed with (default 5000)')
    p.add_argument('--plants', type=int, default=20, help='images with each fault (default 20)')
    p.add_argument('--cleanvision', metavar='PYTHON', help='the Python of an environment with cleanvision')
    p.add_argument('--out', default='results/benchmarks/inspection.json', help='the file to write')
    return p.parse_args()

def small_jpegs(photos, folder, n):
    "`n` JPEGs of 256 × 256 pixels, parts of photographs at random places"
    rng = random.Random(0)
    folder.mkdir()
    for i in range(n):
        im = Image.open(photos[i % len(photos)]).convert('RGB')
        side = int(min(im.size)*rng.uniform(.5, .8))
        x, y = rng.randrange(im.width - side), rng.randrange(im.height - side)
        im.crop((x, y, x + side, y + side)).resize((256, 256)).save(folder/f'{i:05}.jpg', quality=90)
    return folder

def large_jpegs(photos, folder, n=60):
    folder.mkdir()
    for i, photo in enumerate(photos[:n]):
        Image.open(photo).convert('RGB').resize((4000, 3000)).save(folder/f'{i:02}.jpg')
    return folder

def planted(photos, folder, each):
    "A folder with faults; {name of the fault: paths of the faulty images and, of copies, their originals}"
    folder.mkdir()
    rest, truth = iter(photos), {}
    for fault, (issue, change, options) in FAULTS.items():
        for i in range(each):
            im, name = Image.open(next(rest)).convert('RGB'), f'{fault}-{i:02}.{"jpg" if options else "png"}'
            change(im).save(folder/name, **options)
            truth.setdefault(fault, set()).add(name)
            if issue.endswith('copy'):
                im.save(folder/f'original-of-{fault}-{i:02}.png')
                truth[fault].add(f'original-of-{fault}-{i:02}.png')
            if fault == 'truncated':
                data = (folder/name).read_bytes()
                (folder/name).write_bytes(data[:len(data)*3//4])
    for i, photo in zip(range(10*each), rest): Image.open(photo).convert('RGB').save(folder/f'sound-{i:03}.png')
    return folder, truth

def inspected(python, code, folder):
    done = subprocess.run([python, '-c', code, str(folder)], capture_output=True, text=True)
    if done.returncode: raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return json.loads(done.stdout.splitlines()[-1])

def speed(result, n):
    "Rates in images a second: by the clock, and per second of processor time, which a busy machine changes less"
    rates = dict(rate=round(n/result['seconds'], 1), rate_cpu=round(n/result['cpu'], 1))
    return dict(n=n, **{k: round(result[k], 1) for k in ('seconds', 'cpu', 'mb')}, **rates)

def found_faults(python, code, folder):
    "(found, the error that cut-off files cause, or None); after an error they are taken away"
    try: return inspected(python, code, folder)['found'], None
    except RuntimeError as e:
        for file in folder.glob('truncated-*'): file.unlink()
        return inspected(python, code, folder)['found'], str(e)

def recall(found, truth):
    "Fault → share of its images that were found; issue → how many others were reported"
    issue_of = {fault: issue for fault, (issue, *_) in FAULTS.items()}
    shares = {f: round(len(paths & set(found.get(issue_of[f], ())))/len(paths), 3) for f, paths in truth.items()}
    faulty = {issue: set().union(*(truth[f] for f in truth if issue_of[f] == issue)) for issue in issue_of.values()}
    return shares, {issue: len(set(found.get(issue, ())) - paths) for issue, paths in faulty.items()}

def main():
    args = arguments()
    photos = sorted(p for p in Path(args.photos).rglob('*') if p.suffix.lower() in ('.jpg', '.jpeg', '.png'))
    random.Random(0).shuffle(photos)
    tools = dict(visionkit=(sys.executable, OURS))
    if args.cleanvision: tools['cleanvision'] = args.cleanvision, THEIRS
    report = dict(cpu=run_info()['hardware']['cpu'], cores=os.cpu_count(), load=round(os.getloadavg()[0], 1),
                  date=time.strftime('%Y-%m-%d'))
    with tempfile.TemporaryDirectory() as d:
        folder = small_jpegs(photos, Path(d)/'small', args.n)
        quarter = small_jpegs(photos, Path(d)/'quarter', args.n//4)
        large = large_jpegs(photos, Path(d)/'large')
        faults, truth = planted(photos, Path(d)/'faults', args.plants)
        for tool, (python, code) in tools.items():
            runs = {name: speed(inspected(python, code, f), len(list(f.iterdir())))
                    for name, f in dict(quarter=quarter, all=folder, large=large).items()}
            found, error = found_faults(python, code, faults)
            shares, false = recall(found, truth)
            report[tool] = dict(speed=runs, found=shares, false=false, error_at_truncated_files=error)
            print(tool, json.dumps(report[tool], indent=1), flush=True)
    Path(args.out).parent.mkdir(parents=True, exist_ok=True)
    Path(args.out).write_text(json.dumps(report, indent=1) + '\n', encoding='utf-8')

if __name__ == '__main__': main()
