"""Peak memory of one program in a process of its own, which is started for this and prints a number.

python -m conceptseg.benchmark.memory PROGRAM MODEL IMAGE DEVICE DTYPE PHRASE...
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from conceptseg.errors import OptionError


def peak_memory(
    program: str, model: str, image: Path, device: str, dtype: str, phrases: Sequence[str]
) -> dict[str, float]:
    """MiB that a fresh process held at most: resident, and on the GPU if it ran there.

    Raises:
        OptionError: the process failed; its last line says why.
    """
    command = [sys.executable, "-m", __name__, program, model, str(image), device, dtype, *phrases]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        raise OptionError(f"measuring the memory of {program} failed: {last}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main(arguments: Sequence[str]) -> None:
    program, model, image, device, dtype, *phrases = arguments

    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
    from conceptseg.benchmark.programs import Ours, Transformers
    from conceptseg.device import choose_device

    chosen = choose_device(device)
    runs: Ours | Transformers
    if program == Ours.name:
        runs = Ours(model, device, dtype)
    else:
        runs = Transformers(Path(model), chosen, dtype)
    runs.answer(Path(image), phrases)
    found = {"resident": _peak_mib()}
    if chosen.type == "cuda":
        found["gpu"] = round(torch.cuda.max_memory_allocated(chosen) / 2**20, 1)
    print(json.dumps(found))


def _peak_mib() -> float:
    """Linux's own peak (VmHWM) if there is one: ru_maxrss counts what the parent held when it forked."""
    status = Path("/proc/self/status")
    if status.is_file():
        lines = status.read_text(encoding="ascii").splitlines()
        return round(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024, 1)
    import resource

    unit = 2**20 if sys.platform == "darwin" else 2**10
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)


if __name__ == "__main__":
    main(sys.argv[1:])
