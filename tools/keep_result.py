"""Copy finished full runs' results to results/, with weights of networks under 20,000 parameters: keep_result.py RUN...
With --cams also the heat maps of the images of highest loss: keep_result.py --cams RUN..."""
import json, sys
from pathlib import Path
from visionkit.core import atomic_write, result_name
from visionkit.recipes.core import get_recipe

ROOT = Path(__file__).resolve().parent.parent

def keep(run, cams):
    run = Path(run)
    result = json.loads((run/'result.json').read_text(encoding='utf-8'))
    if result['smoke'] or result['fold'] == 'all':
        return print(f'{run}: a smoke or --all run has no figure, left alone')
    if result['recipe_hash'] != get_recipe(result['recipe']).recipe_hash:
        return print(f'{run}: its recipe has changed since, left alone')
    if getattr(get_recipe(result['recipe']).split, 'name', '') == 'KFold' and result['fold'] is None:
        return print(f'{run}: this recipe counts by folds, run it with --fold')
    if cams and not (run/'cams.json').exists(): return print(f'{run}: it has no heat maps, run this without --cams')
    target = ROOT/'results'/result['recipe']/f'{result_name(result)}.json'
    with atomic_write(target, 'w') as f: json.dump(result, f, indent=1)
    for wanted, name, ending in ((result['params'] < 20_000, 'model.safetensors', '.safetensors'),
                                 (cams, 'cams.json', '.cams')):
        kept = target.with_suffix(ending)
        kept.unlink(missing_ok=True) # of the run stored before
        if wanted:
            with atomic_write(kept) as f: f.write((run/name).read_bytes())
    print(f"{target.relative_to(ROOT)}: {result['metrics']['accuracy_last']:.4f}"
          + (', from uncommitted code' if result['dirty'] else ''))

if __name__ == '__main__':
    cams, runs = '--cams' in sys.argv, [a for a in sys.argv[1:] if a != '--cams']
    if not runs: sys.exit(__doc__)
    for run in runs: keep(run, cams)
