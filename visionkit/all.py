"Everything for a notebook: `from visionkit.all import *`. By hand: an imports-only notebook exports nothing."
from visionkit.core import *
from visionkit.data import *
from visionkit.cache import *
from visionkit.augment import *
from visionkit.models import *
from visionkit.train import *
from visionkit.interpret import *
from visionkit.noise import *
from visionkit.report import *
from visionkit.recipes.core import *
from visionkit.recipes.stored import *
