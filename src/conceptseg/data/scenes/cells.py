"""What a microscope shows: nuclei, whole cells, red and white blood cells, platelets."""

from __future__ import annotations

import math

import numpy as np

from conceptseg.data.scenes.colors import mix
from conceptseg.data.scenes.drawing import Drawing, Parts
from conceptseg.data.scenes.outlines import at, blob, disc
from conceptseg.data.scenes.paint import BLACK, Artist, Form, Paint


def nucleus(form: Form, rng: np.random.Generator, paint: Paint) -> Drawing:
    stretch = 0.55 + 0.45 * (form[0] * 0.5 + 0.5 * float(rng.random()))
    outline = blob(rng, 0.07, harmonics=4) * at(1.0, stretch)
    return Drawing([(outline, paint.base)], shade="chromatin", softness=0.02 + 0.10 * form[1])


def cell(form: Form, rng: np.random.Generator, paint: Paint) -> Drawing:
    outline = blob(rng, 0.05 + 0.12 * form[0], harmonics=4) * at(1.0, 0.75 + 0.25 * float(rng.random()))
    parts: Parts = []
    if form[1] < 0.6:
        parts += [(outline, mix(paint.base, BLACK, 0.35)), (outline * np.float32(0.9), paint.base)]
    else:
        parts.append((outline, paint.base))
    angle, offset = 2 * math.pi * float(rng.random()), 0.25 * float(rng.random())
    core = blob(rng, 0.05, harmonics=3) * np.float32(0.34 + 0.12 * form[2])
    parts.append((core + at(offset * math.cos(angle), offset * math.sin(angle)), paint.accent))
    return Drawing(parts, shade="speckled", softness=0.02 + 0.06 * form[3])


def red_blood_cell(form: Form, rng: np.random.Generator, paint: Paint) -> Drawing:
    outline = blob(rng, 0.03 + 0.05 * form[0], harmonics=3) * at(1.0, 0.82 + 0.18 * float(rng.random()))
    return Drawing([(outline, paint.base)], shade="biconcave", softness=0.03 + 0.04 * form[1])


def white_blood_cell(form: Form, rng: np.random.Generator, paint: Paint) -> Drawing:
    parts: Parts = [(blob(rng, 0.06, harmonics=5), paint.base)]
    for _ in range(1 + int(4 * form[0])):
        angle, offset = 2 * math.pi * float(rng.random()), 0.38 * float(rng.random())
        lobe = blob(rng, 0.1, harmonics=3) * np.float32(0.36 + 0.22 * float(rng.random()))
        parts.append((lobe + at(offset * math.cos(angle), offset * math.sin(angle)), paint.accent))
    return Drawing(parts, shade="speckled", softness=0.05)


def platelet(form: Form, rng: np.random.Generator, paint: Paint) -> Drawing:
    return Drawing(
        [(blob(rng, 0.14), paint.base), (disc(0, 0, 0.5), mix(paint.base, BLACK, 0.2))],
        shade="speckled",
        softness=0.1,
    )


CELLS: dict[str, Artist] = {
    "nucleus": nucleus,
    "cell": cell,
    "red blood cell": red_blood_cell,
    "white blood cell": white_blood_cell,
    "platelet": platelet,
}
