"""A fork server: processes that start with torch and fastai imported, and with nothing that another one did.

visionkit itself is not imported beforehand: a page or a command that lacks an import must fail here, too."""
import multiprocessing, os, subprocess, sys, tempfile
from pathlib import Path

server = multiprocessing.get_context('forkserver')
server.set_forkserver_preload(['fastai.vision.all', 'sklearn.cluster', 'scipy.stats', 'nbdev.test', 'pytest'])

def job(
    function, # to call; what it returns is the exit status, as with `sys.exit`
    *args, # of `function`
    cwd='.', # working folder
    files=None, # names of files for what is written to standard output and error; None: where it goes by itself
    name=None, # of the process
    **kwargs, # of `function`
):
    "A process, not yet started, that calls `function` with the environment variables of this one"
    return server.Process(target=_call, name=name, args=(function, args, kwargs, dict(os.environ), os.fspath(cwd), files))

def _call(function, args, kwargs, environ, cwd, files):
    os.environ.clear()
    os.environ.update(environ)
    os.chdir(cwd)
    for fd, file in enumerate(files or (), 1): os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND), fd)
    sys.exit(function(*args, **kwargs))

def capture(function, *args, **kwargs):
    "Run a `job` to its end; returns what `subprocess.run` would, with output as text"
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder)/'out', Path(folder)/'err'
        process = job(function, *args, files=(out, err), **kwargs)
        process.start()
        process.join()
        return subprocess.CompletedProcess(function.__name__, process.exitcode, out.read_text(), err.read_text())
