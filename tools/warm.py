"""A fork server: processes that start with torch and fastai imported, and with nothing that another one did.

visionkit itself is not imported beforehand: a page or a command that lacks an import must fail here, too."""
import gc, multiprocessing, os, runpy, subprocess, sys, tempfile
from pathlib import Path

server = multiprocessing.get_context('forkserver')
server.set_forkserver_preload(['fastai.vision.all', 'sklearn.cluster', 'scipy.stats', 'nbdev.test', 'pytest'])

def job(
    function, # to call; what it returns is the exit status, as with `sys.exit`
    *args, # of `function`
    cwd='.', # working folder
    files=None, # names of files for what is written to standard output and error; None: where it goes by itself
    name=None, # of the process
    environ=None, # its environment variables; None: those of this process
    **kwargs, # of `function`
):
    "A process, not yet started, that calls `function`"
    environ = dict(os.environ if environ is None else environ)
    return server.Process(target=_call, name=name, args=(function, args, kwargs, environ, os.fspath(cwd), files))

def _call(function, args, kwargs, environ, cwd, files):
    gc.freeze() # what is imported already lasts: the collector need not look at it again
    os.environ.clear()
    os.environ.update(environ)
    os.chdir(cwd)
    for fd, file in enumerate(files or (), 1): os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND), fd)
    sys.exit(function(*args, **kwargs))

def script(code, *words):
    "Run `code` as `python -c CODE WORDS` does"
    sys.argv[1:] = words
    exec(code, dict(__name__='__main__'))

def module(name, *words):
    "Run the module `name` as `python -m NAME WORDS` does"
    sys.argv[1:] = words
    runpy.run_module(name, run_name='__main__', alter_sys=True)

def capture(function, *args, timeout=None, **kwargs):
    "Run a `job` to its end, `timeout` seconds at most; returns what `subprocess.run` would, with output as text"
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder)/'out', Path(folder)/'err'
        process = job(function, *args, files=(out, err), **kwargs)
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(function.__name__, timeout, out.read_text(), err.read_text())
        return subprocess.CompletedProcess(function.__name__, process.exitcode, out.read_text(), err.read_text())
