"Package metadata from settings.ini; the version stands in visionkit/__init__.py. Build with `python -m build`."
import re
from configparser import ConfigParser
from pathlib import Path
from setuptools import find_packages, setup

cfg = ConfigParser(delimiters=['='])
cfg.read('settings.ini', encoding='utf-8')
cfg = cfg['DEFAULT']
status = {'3': '3 - Alpha', '4': '4 - Beta', '5': '5 - Production/Stable'}[cfg['status']]
results = {f'visionkit.{d.as_posix().replace("/", ".")}': d.as_posix() for d in [Path('results'), *Path('results').glob('*')] if d.is_dir()}

setup(
    version=re.search(r'__version__ = "(.+)"', Path('visionkit/__init__.py').read_text(encoding='utf-8'))[1],
    license_expression=cfg['license'],
    author=cfg['author'],
    keywords=cfg['keywords'].split(),
    classifiers=[f'Development Status :: {status}', 'Intended Audience :: Developers', 'Intended Audience :: Science/Research',
                 'Programming Language :: Python :: 3', 'Topic :: Scientific/Engineering :: Artificial Intelligence'],
    # The stored figures travel inside the wheel, so that `visionkit list` can show them anywhere.
    packages=find_packages(include=['visionkit', 'visionkit.*']) + list(results),
    package_dir=results,
    package_data={'': ['*.json', '*.csv', '*.safetensors', '*.cams'], 'visionkit': ['assets/*']},
    install_requires=cfg['requirements'].split(),
    extras_require={k.removesuffix('_requirements'): v.split() for k, v in cfg.items() if k.endswith('_requirements')},
    entry_points={'console_scripts': cfg['console_scripts'].split(), 'nbdev': ['visionkit=visionkit._modidx:d']},
)
