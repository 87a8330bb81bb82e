"""`train_folder` against fastai's quickstart on one folder: the same images, weights and minutes, one after the other.

    python benchmarks/own.py FOLDER --minutes 15 [--arch tf_efficientnet_lite0] [--weights imagenet|none] [--out FILE]

The rival is `vision_learner(dls, arch).fine_tune(n)` with `Resize(224)` and `aug_transforms()`, for as many epochs as fit.
`--smoke` takes the embedded digits and one epoch each."""
import argparse, json, os, time, warnings
from pathlib import Path

def arguments():
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('folder', nargs='?', help='class folders, perhaps in train and valid (default: the digits)')
    p.add_argument('--minutes', type=float, default=15)
    p.add_argument('--arch', default='tf_efficientnet_lite0')
    p.add_argument('--weights', default='imagenet', help='imagenet or none')
    p.add_argument('--runs', default='runs/own', help='where run folders go')
    p.add_argument('--out', help='JSON file to write')
    p.add_argument('--smoke', action='store_true', help='the digits, a small size, one epoch each')
    return p.parse_args()

def rival_learner(run, args, size):
    "fastai's quickstart on the images of `run`, divided as there"
    from fastai.vision.all import (ImageDataLoaders, Normalize, Resize, accuracy, aug_transforms, vision_learner)
    from visionkit.architectures import architecture, imagenet_state, load_state
    from visionkit.folder import folder_table
    items, _ = folder_table(run.path)
    like = architecture(args.arch, items.label.nunique(), 'none')
    tfms = [*aug_transforms(), Normalize.from_stats(like.mean, like.std)]
    names = [os.path.relpath(p, args.folder) for p in items.path]
    dls = ImageDataLoaders.from_df(items.assign(path=names), path=args.folder, fn_col='path', label_col='label',
                                   valid_col='is_valid', item_tfms=Resize(size), batch_tfms=tfms)
    learn = vision_learner(dls, args.arch, metrics=accuracy, pretrained=False, normalize=False)
    if args.weights == 'imagenet': load_state(learn.model[0], imagenet_state(args.arch), partial=True)
    return learn

def epochs_that_fit(learn, seconds):
    "How many epochs of `fine_tune`, besides its frozen one, take `seconds`; from a few steps"
    learn.unfreeze()
    batches = iter(learn.dls.train)
    spent = []
    for _ in range(4):
        began = time.time()
        x, y = next(batches)
        learn.loss_func(learn.model(x), y).backward()
        spent.append(time.time() - began)
    epoch = min(spent[1:])*len(learn.dls.train)*1.15 # and the validation
    return max(1, round(seconds/epoch - .5))

def train_rival(run, args, seconds, size=224):
    "Accuracy, epochs and seconds of fastai's quickstart"
    from fastai.vision.all import set_seed
    set_seed(0)
    began = time.time()
    n = 1 if args.smoke else epochs_that_fit(rival_learner(run, args, size), seconds)
    set_seed(0)
    learn = rival_learner(run, args, size)
    with learn.no_bar(): learn.fine_tune(n)
    return dict(accuracy=float(learn.validate()[1]), epochs=n + 1, size=size, seconds=round(time.time() - began, 1))

def main():
    args = arguments()
    warnings.filterwarnings('ignore')
    from visionkit.core import run_info
    from visionkit.folder import train_folder
    from visionkit.sources import get_source
    args.folder = args.folder or get_source('digits')
    tiny = dict(epochs=1, size=32) if args.smoke else {}
    began = time.time()
    run = train_folder(args.folder, args.minutes, out=args.runs, arch=args.arch, weights=args.weights, bars=False, **tiny)
    stages = [f'{s["epochs"]} epochs at {s["size"]} px' for s in run.recipe['settings']['stages']]
    ours = dict(accuracy=run.metric('accuracy_last'), stages=stages, seconds=round(time.time() - began, 1))
    rival = train_rival(run, args, 60*args.minutes, 32 if args.smoke else 224)
    result = dict(folder=Path(args.folder).name, minutes=args.minutes,
                  arch=args.arch, weights=args.weights, visionkit=ours, fastai=rival, **run_info())
    print(json.dumps(result, indent=1))
    if args.out:
        from visionkit.files import atomic_write
        with atomic_write(args.out, 'w') as f: json.dump(result, f, indent=1)

if __name__ == '__main__': main()
