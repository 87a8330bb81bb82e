"Evaluate every network kept under results/ on its recipe's held-out images: accuracy must be exactly the stored one."
import json, sys
from visionkit.all import *

def check(weights):
    "A line on one stored network; False if its figure is not reproduced (a changed recipe has none to reproduce)"
    result = json.loads(weights.with_suffix('.json').read_text(encoding='utf-8'))
    recipe = get_recipe(result['recipe'])
    if recipe.recipe_hash != result['recipe_hash']: return print(f'{weights.relative_to(results_dir())}: stale') is None
    learn = recipe_learner(recipe)
    # Statistics that were measured on a batch are those of the run, not measured anew
    set_loader_stats(learn.dls, load_weights(learn.model, weights)['stats'])
    accuracy, stored = Predictions.from_learner(learn).accuracy, result['metrics']['accuracy_last']
    print(f"{weights.relative_to(results_dir())}: {accuracy:.4f}, stored {stored:.4f}")
    return accuracy == stored

if __name__ == '__main__':
    wrong = [w for w in sorted(results_dir().rglob('*.safetensors')) if not check(w)]
    sys.exit(f'{len(wrong)} stored networks do not reproduce their figure' if wrong else 0)
