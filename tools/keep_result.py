"""Copy finished full runs' results to results/, with weights of networks under 20,000 parameters: keep_result.py RUN...
With --cams also the heat maps of the images of highest loss: keep_result.py --cams RUN...
With --layer=NAME only heat maps at another layer of a stored run's network: keep_result.py --layer=layer3.1.conv2 RUN..."""
import json, sys
from pathlib import Path
from visionkit.core import atomic_write, result_name
from visionkit.recipes.core import get_recipe, load_run, recipe_dls

ROOT = Path(__file__).resolve().parent.parent

def stored(result):
    "Where the result of a run is kept"
    return ROOT/'results'/result['recipe']/f'{result_name(result)}.json'

def keep(run, result, cams):
    if cams and not (run/'cams.json').exists(): return print(f'{run}: it has no heat maps, run this without --cams')
    target = stored(result)
    for old in (target.with_suffix('.safetensors'), *target.parent.glob(f'{target.stem}.*cams')):
        old.unlink(missing_ok=True) # of the run stored before
    with atomic_write(target, 'w') as f: json.dump(result, f, indent=1)
    for wanted, name, ending in ((result['params'] < 20_000, 'model.safetensors', '.safetensors'),
                                 (cams, 'cams.json', '.cams')):
        if wanted:
            with atomic_write(target.with_suffix(ending)) as f: f.write((run/name).read_bytes())
    print(f"{target.relative_to(ROOT)}: {result['metrics']['accuracy_last']:.4f}"
          + (', from uncommitted code' if result['dirty'] else ''))

def keep_layer(run, result, layer):
    from fastai.vision.all import Learner
    from visionkit.interpret import Predictions
    if not stored(result).exists() or json.loads(stored(result).read_text(encoding='utf-8')) != result:
        return print(f'{run}: its result is not the stored one, left alone')
    recipe, model, _ = load_run(run)
    learn = Learner(recipe_dls(recipe, recipe.stages[-1]), model)
    target = stored(result).with_suffix(f'.{layer}.cams')
    cams = Predictions.from_learner(learn).cams(layer=model.get_submodule(layer))
    with atomic_write(target, 'w') as f: json.dump(cams, f)
    print(target.relative_to(ROOT))

def main(args):
    cams, layer = '--cams' in args, next((a.removeprefix('--layer=') for a in args if a.startswith('--layer=')), None)
    runs = [Path(a) for a in args if not a.startswith('--')]
    if not runs: sys.exit(__doc__)
    for run in runs:
        result = json.loads((run/'result.json').read_text(encoding='utf-8'))
        recipe = get_recipe(result['recipe'])
        if result['smoke'] or result['fold'] == 'all': print(f'{run}: a smoke or --all run has no figure, left alone')
        elif result['recipe_hash'] != recipe.recipe_hash: print(f'{run}: its recipe has changed since, left alone')
        elif getattr(recipe.split, 'name', '') == 'KFold' and result['fold'] is None:
            print(f'{run}: this recipe counts by folds, run it with --fold')
        elif layer: keep_layer(run, result, layer)
        else: keep(run, result, cams)

if __name__ == '__main__': main(sys.argv[1:])
