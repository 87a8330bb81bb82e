"Copy finished full runs' results to results/, with the weights of networks under 20,000 parameters."
import argparse, json, sys
from pathlib import Path
from visionkit.core import InputError
from visionkit.assemble import recipe_dls
from visionkit.files import atomic_write, result_name, results_dir
from visionkit.inference import load_run
from visionkit.recipe import get_recipe

def refusal(result):
    "Why the result of a run is no figure to keep; None: it is one"
    recipe = get_recipe(result['recipe'])
    if result['smoke'] or result['fold'] == 'all': return 'a smoke or --all run has no figure'
    if result['recipe_hash'] != recipe.recipe_hash: return 'its recipe has changed since'
    if getattr(recipe.data.split, 'name', '') == 'KFold' and result['fold'] is None:
        return 'this recipe counts by folds, run it with --fold'

def keep(run, result, target, cams):
    "Store the files of `run`; weights and heat maps of another run that was stored before are deleted"
    same = target.exists() and json.loads(target.read_text(encoding='utf-8')) == result
    wanted = ({'.safetensors': 'model.safetensors'} if result['params'] < 20_000 else {}) | (
              {'.cams': 'cams.json'} if cams else {})
    files = {target.with_suffix(ending): (run/name).read_bytes() for ending, name in wanted.items()}
    with atomic_write(target, 'w') as f: json.dump(result, f, indent=1)
    for path, content in files.items():
        with atomic_write(path) as f: f.write(content)
    others = {target.with_suffix('.safetensors'), *target.parent.glob(f'{target.stem}.*cams')} - set(files)
    for old in () if same else others: old.unlink(missing_ok=True)
    print(f"{target.parent.name}/{target.name}: {result['metrics']['accuracy_last']:.4f}"
          + (', from uncommitted code' if result['dirty'] else ''))

def keep_layer(run, result, target, layer):
    "Store heat maps of the worst images at the module called `layer`, made by the weights of `run`"
    from fastai.vision.all import Learner
    from visionkit.interpret import Predictions
    if not target.exists() or json.loads(target.read_text(encoding='utf-8')) != result:
        raise InputError(f'{run}: its result is not the stored one, store it first')
    recipe, model, _ = load_run(run)
    modules = dict(model.named_modules())
    if layer not in modules: raise InputError(f'{recipe.name} has no layer {layer!r}: it has {", ".join(modules)}')
    preds = Predictions.from_learner(Learner(recipe_dls(recipe, recipe.stages[-1]), model))
    path = target.with_suffix(f'.{layer}.cams')
    with atomic_write(path, 'w') as f: json.dump(preds.cams(layer=modules[layer]), f)
    print(f'{path.parent.name}/{path.name}')

def main(args=None):
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('runs', nargs='+', type=Path, help="runs' folders")
    maps = p.add_mutually_exclusive_group()
    maps.add_argument('--cams', action='store_true', help='also the heat maps of the images of highest loss')
    maps.add_argument('--layer', help='only heat maps at the layer of this name, for a result that is stored')
    p = p.parse_args(args)
    for run in p.runs:
        result = json.loads((run/'result.json').read_text(encoding='utf-8'))
        target = results_dir()/result['recipe']/f'{result_name(result)}.json'
        if p.cams and not (run/'cams.json').exists(): raise InputError(f'{run} has no heat maps: leave --cams out')
        if why := refusal(result): print(f'{run}: {why}, left alone')
        elif p.layer: keep_layer(run, result, target, p.layer)
        else: keep(run, result, target, p.cams)

if __name__ == '__main__':
    try: main()
    except InputError as e: sys.exit(f'keep_result: {e}')
