"""Make .venv and install conceptseg into it, once; say in one line what is wrong when that fails.

    python3 scripts/setup_venv.py [EXTRA ...]

Called by the Makefile with whatever Python the machine has, so this file keeps to syntax that every
Python understands (no f-strings, no annotations): an old one must get as far as saying that it is too old.

A stamp in .venv holds a fingerprint of what was installed; pip runs again only when that changes.
"""

import hashlib
import os
import subprocess
import sys
import time

OLDEST, NEWEST = (3, 10), (3, 13)
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
STAMP = os.path.join(VENV, ".installed")
LOG = os.path.join(VENV, "install.log")
NETWORK_SIGNS = (
    "Failed to establish a new connection",
    "NewConnectionError",
    "NameResolutionError",
    "Temporary failure in name resolution",
    "Network is unreachable",
    "ConnectTimeoutError",
    "ReadTimeoutError",
    "ProxyError",
    "ConnectionResetError",
    "RemoteDisconnected",
)


def fail(message):
    sys.stderr.write("error: " + message + "\n")
    sys.exit(2)


def say(message):
    sys.stderr.write(message + "\n")
    sys.stderr.flush()


def name_of(version):
    return ".".join(str(part) for part in version)


def check_python():
    """Stop unless this Python can run conceptseg and make virtual environments."""
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        needed = name_of(OLDEST) + " to " + name_of(NEWEST)
        this = name_of(sys.version_info[:3])
        fail("conceptseg needs Python " + needed + ", this is " + this + "; set PYTHON=" + fitting_python())
    try:
        import ensurepip  # noqa: F401  Debian leaves this half of venv out
        import venv  # noqa: F401
    except ImportError:
        package = "python" + name_of(sys.version_info[:2]) + "-venv"
        fail("this Python has no venv module; install it (Debian, Ubuntu: apt install " + package + ")")


def fitting_python():
    """Returns: a Python on this machine that would do, else the shape of the answer."""
    try:
        from shutil import which
    except ImportError:  # Python 2
        return "/path/to/python3.11"
    for minor in range(NEWEST[1], OLDEST[1] - 1, -1):
        found = which("python3." + str(minor))
        # A stand-in of pyenv may have nothing behind it.
        if found and runs_quietly([found, "-c", "import ensurepip"]):
            return found
    return "/path/to/python3.11"


def venv_python():
    folder = "Scripts" if os.name == "nt" else "bin"
    return os.path.join(VENV, folder, "python")


def venv_works():
    """Whether .venv holds a Python that starts and fits; not so once the system's Python was moved."""
    if not os.path.exists(venv_python()):
        return False
    fits = str(OLDEST) + " <= sys.version_info[:2] <= " + str(NEWEST)
    check = "import sys, pip; sys.exit(not " + fits + ")"
    return runs_quietly([venv_python(), "-c", check])


def runs_quietly(command):
    with open(os.devnull, "w") as nowhere:
        return subprocess.call(command, stdout=nowhere, stderr=nowhere) == 0


def fingerprint():
    """What an installation depends on: the project file, and where the checkout is (installed in place)."""
    with open(os.path.join(ROOT, "pyproject.toml"), "rb") as file:
        return hashlib.sha256(file.read() + ROOT.encode()).hexdigest()


def read_stamp():
    """Returns: the fingerprint and the extras of the last complete installation."""
    if not os.path.exists(STAMP):
        return None, set()
    with open(STAMP) as file:
        words = file.read().split()
    return words[0] if words else None, set(words[1:])


def run_logged(command):
    with open(LOG, "ab") as log:
        return subprocess.call(command, stdout=log, stderr=subprocess.STDOUT, cwd=ROOT)


def why_it_failed():
    """Returns: the reason in a few words, from pip's log."""
    with open(LOG, "rb") as log:
        text = log.read().decode("utf-8", "replace")
    if "No space left on device" in text:
        return "could not install the dependencies (the disk is full)"
    if any(sign in text for sign in NETWORK_SIGNS):
        return "could not install the dependencies (no network?)"
    reasons = [line for line in text.splitlines() if line.startswith("ERROR:")]
    return "could not install the dependencies" + (" (" + reasons[0][7:] + ")" if reasons else "")


def make_venv():
    say("making .venv with Python " + name_of(sys.version_info[:3]))
    if not os.path.isdir(VENV):
        os.makedirs(VENV)
    open(LOG, "wb").close()
    if os.path.exists(STAMP):
        os.remove(STAMP)
    # --clear would delete the log that is open here; --upgrade mends a .venv whose Python is gone.
    upgrade = ["--upgrade"] if os.path.exists(os.path.join(VENV, "pyvenv.cfg")) else []
    if run_logged([sys.executable, "-m", "venv"] + upgrade + [VENV]) != 0:
        fail("could not make .venv; see .venv/install.log")


def install(extras):
    what = "what the tests need" if "test" in extras else "conceptseg and PyTorch"
    say("installing " + what + " (a few minutes the first time; log: .venv/install.log)")
    pip = [venv_python(), "-m", "pip", "--disable-pip-version-check", "--no-input", "install"]
    target = ROOT + ("[" + ",".join(extras) + "]" if extras else "")
    if run_logged(pip + ["--editable", target]) != 0:
        fail(why_it_failed() + "; see .venv/install.log")
    # A CPU build of one beside a CUDA build of the other installs well and fails here.
    if run_logged([venv_python(), "-c", "import torch, torchvision"]) != 0:
        fail("torch and torchvision were installed but do not load together; see .venv/install.log")


def main(extras):
    check_python()
    wanted = fingerprint()
    if not venv_works():
        make_venv()
    installed_fingerprint, installed = read_stamp()
    if installed_fingerprint == wanted and installed.issuperset(extras):
        return
    started = time.time()
    open(LOG, "wb").close()
    extras = sorted(installed.union(extras))
    install(extras)
    with open(STAMP, "w") as file:  # last, so that an interrupted installation is taken up again
        file.write(" ".join([wanted] + extras))
    say("installed in " + str(int(time.time() - started)) + " s")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        say("interrupted; the next make takes it up again")
        sys.exit(130)
