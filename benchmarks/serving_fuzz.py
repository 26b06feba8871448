"""Send a service what no client should: damaged images, giant headers, wrong types, odd prompts.

    python benchmarks/serving_fuzz.py                        # 10,000 requests, writes results/serving_fuzz.md
    python benchmarks/serving_fuzz.py --requests 500 --seed 7

Every request has to be answered or refused in its time, never with 5xx. The requests of a seed are
always the same. They go to the application in this process, with its real limits, queue and model; a request
that does not come back within `--limit` seconds ends the run with the stack of where it hangs.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import faulthandler
import io
import json
import random
import resource
import struct
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import torch
from PIL import Image

from conceptseg.benchmark.report import processor_name
from conceptseg.loading import load
from conceptseg.segmenter import Segmenter
from conceptseg.serving.app import make_app
from conceptseg.serving.settings import MIB, Settings

RESULTS = Path(__file__).resolve().parent / "results"
SETTINGS = Settings(max_upload_bytes=MIB, max_pixels=1_000_000, cache_bytes=16 * MIB, max_exemplars=10)
KINDS_OF_FILES = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "ICO")
ODD_TEXTS = (
    "", " ", "\x00", "coin\x00", "a" * 1001, "\ud800", "\u202e\u0000", "🪙" * 50, "'; DROP TABLE images; --",
    "../../etc/passwd", "file:///etc/passwd", "http://169.254.169.254/", "visual", "%s%n", "\n\n\t", "coin",
    "ﷺ" * 300, "{}", "null", "<script>alert(1)</script>",
)  # fmt: skip
ODD_NUMBERS = (
    0, 1, -1, 2, 0.5, -0.0, 1e-320, 1e38, 1e39, 1e308, float("nan"), float("inf"), float("-inf"), 2**31,
    2**63, 2**64, 10**30, 10**400, True, 12, 34,
)  # fmt: skip
ODD_PATHS = (
    "/", "/docs", "/openapi.json", "/healthz", "/readyz", "/metrics", "/health", "/v1/models",
    "/static/main.js", "/static/../app.py", "/static/%2e%2e/%2e%2e/app.py",
    "/v1/images/..%2f..%2fetc%2fpasswd/segment", "/v1/images/" + "a" * 5000 + "/segment",
    "/v1/models/\ud7ff/info", "//etc/passwd", "/v1/segment/", "/%00",
    "/label-studio", "/label-studio/health", "/label-studio/setup", "/v1/predict", "/v1/export",
    "/v1/exemplars",
)  # fmt: skip
LABEL_CONFIG = (
    '<View><Image name="image" value="$image"/><BrushLabels name="found" toName="image"{threshold}>'
    '<Label value="{label}"/></BrushLabels><RectangleLabels name="like" toName="image" smart="true"/></View>'
)


@dataclass(frozen=True)
class Call:
    """One request."""

    kind: str
    method: str
    path: str
    options: dict[str, Any] = field(default_factory=dict)  # of httpx


@dataclass
class Report:
    """What became of the requests."""

    answers: dict[str, Counter[int]] = field(default_factory=dict)  # kind -> status -> how many
    failures: list[str] = field(default_factory=list)
    slowest: float = 0.0  # seconds
    memory: list[float] = field(default_factory=list)  # MiB at the most, after each tenth

    def count(self, kind: str, first_digit: int) -> int:
        return sum(n for status, n in self.answers[kind].items() if status // 100 == first_digit)


class Maker:
    """Draws requests; what a seed draws does not depend on answers, but for the ids of images."""

    def __init__(self, seed: int, model: str) -> None:
        self.random = random.Random(seed)
        self.model = model
        self.files = {kind: _picture(kind) for kind in KINDS_OF_FILES}
        self.image_id = "0" * 64  # of an image that the service keeps, once it said so
        self.kinds: list[Callable[[], Call]] = [
            self.damaged,
            self.giant,
            self.no_image,
            self.odd_prompt,
            self.odd_prompt_on_kept,
            self.broken_form,
            self.broken_json,
            self.odd_exemplar,
            self.odd_export,
            self.any_labeling,
            self.label_studio,
            self.odd_path,
        ]

    def draw(self) -> Call:
        return self.random.choice(self.kinds)()

    # ---- images

    def damaged(self) -> Call:
        content = bytearray(self.files[self.random.choice(KINDS_OF_FILES)])
        for _ in range(self.random.randint(1, 20)):
            content[self.random.randrange(len(content))] = self.random.randrange(256)
        if self.random.random() < 0.4:
            del content[self.random.randrange(len(content)) :]
        elif self.random.random() < 0.2:
            at = self.random.randrange(len(content))
            content[at:at] = self.files[self.random.choice(KINDS_OF_FILES)][: self.random.randint(1, 400)]
        return self._asked("damaged images", bytes(content), {"text": "coin"})

    def giant(self) -> Call:
        width, height = (self.random.choice((1, 5000, 60_000, 2**31 - 1, 2**32 - 1)) for _ in range(2))
        return self._asked("giant headers", _header(self.random, width, height), {"text": "coin"})

    def no_image(self) -> Call:
        content = self.random.choice(
            (
                b"",
                b"\x00",
                b"GIF89a",
                b"\xff\xd8\xff",
                b"%PDF-1.7",
                b"PK\x03\x04",
                b"<svg/>",
                b"P6 9 9 255\n",
                self.random.randbytes(self.random.randint(1, 3000)),
                b"\x89PNG\r\n\x1a\n" + b"\x00" * 50,
                b"A" * (MIB + 1),
            )
        )
        return self._asked("no images", content, {"text": "coin"})

    # ---- prompts

    def odd_prompt(self) -> Call:
        return self._asked("odd prompts", self.files["PNG"], self._prompt())

    def odd_prompt_on_kept(self) -> Call:
        key = self.random.choice((self.image_id, self.image_id, "0", "..", "%2e%2e", "\u00e9", self._text()))
        path = f"/v1/images/{quote(key, safe='%', errors='replace')}/segment"
        return Call("odd prompts on kept images", "POST", path, _json(self._prompt()))

    def _prompt(self) -> Any:
        if self.random.random() < 0.1:
            return self._value(3)
        names = (
            "text",
            "boxes",
            "labels",
            "exemplar",
            "threshold",
            "presence",
            "dedupe",
            "max_instances",
            "mask_format",
            "tolerance",
            self._text(),
        )
        prompt: dict[str, Any] = {} if self.random.random() < 0.2 else {"text": "coin"}
        for name in self.random.sample(names, self.random.randint(1, 4)):
            prompt[name] = self._value(3)
        if self.random.random() < 0.3:
            prompt["boxes"] = [[self._number() for _ in range(4)] for _ in range(self.random.randint(1, 3))]
        if self.random.random() < 0.2:
            prompt["labels"] = [
                self.random.choice((0, 1, 2, -1, True)) for _ in range(self.random.randint(0, 3))
            ]
        if self.random.random() < 0.1:
            prompt["text"] = ["coin"] * self.random.choice((0, 2, 33, 500))
        return prompt

    def _value(self, depth: int) -> Any:
        kind = self.random.randrange(8 if depth else 5)
        if kind < 2:
            return self._text()
        if kind < 4:
            return self._number()
        if kind == 4:
            return self.random.choice((None, True, False))
        if kind == 5:
            return {self._text(): self._value(depth - 1) for _ in range(self.random.randint(0, 3))}
        return [self._value(depth - 1) for _ in range(self.random.randint(0, 4))]

    def _text(self) -> str:
        return self.random.choice(ODD_TEXTS)

    def _number(self) -> Any:
        return self.random.choice(ODD_NUMBERS)

    # ---- forms and bodies

    def broken_form(self) -> Call:
        image = ("x", self.files["PNG"])
        options = self.random.choice(
            (
                {"files": {"image": image}},
                {"data": {"prompt": "{}"}},
                {"files": {"image": image}, "data": {"prompt": "{"}},
                {"files": {"image": image}, "data": {"prompt": "[" * 5000}},
                {"files": {"image": image, "prompt": ("p", b"{}")}},
                {"files": {"picture": image}, "data": {"prompt": '{"text": "coin"}'}},
                {"data": {"image": "/etc/passwd", "prompt": '{"text": "coin"}'}},
                {"content": b"--x\r\n", "headers": {"Content-Type": "multipart/form-data"}},
                {"content": b"--x\r\n\r\n", "headers": {"Content-Type": "multipart/form-data; boundary=x"}},
                {
                    "content": bytes(300),
                    "headers": {"Content-Type": "multipart/form-data; boundary=é".encode()},
                },
                {"content": b"\xff\xfe", "headers": {"Content-Type": "application/x-www-form-urlencoded"}},
                {"data": {f"f{n}": "" for n in range(1200)}},
                {"files": [("image", image), ("image", image)], "data": {"prompt": '{"text": "coin"}'}},
            )
        )
        path = self.random.choice(("/v1/segment", "/v1/images", "/v1/exemplars"))
        return Call("broken forms", "POST", path, options)

    def broken_json(self) -> Call:
        content = self.random.choice(
            (
                b"",
                b"{",
                b"null",
                b"[]",
                b"\xff",
                b'"',
                b"[" * 20_000,
                b'{"text":' * 3000,
                b"1e999999",
                b"NaN",
                b'{"text": "\\ud800"}',
                b'{"\\ud800": 1}',
                b"9" * 5000,
                b"\xef\xbb\xbf{}",
                b"{}" * 2,
                json.dumps(self._value(3)).encode(),
            )
        )
        path = self.random.choice(
            (
                f"/v1/images/{self.image_id}/segment",
                "/v1/export",
                "/v1/predict",
                "/label-studio/predict",
                "/label-studio/setup",
            )
        )
        kind = self.random.choice(("application/json", "text/plain", "application/x-unknown", ""))
        return Call("broken JSON", "POST", path, {"content": content, "headers": {"Content-Type": kind}})

    def odd_exemplar(self) -> Call:
        examples: Any = {"boxes": self._value(3)}
        if self.random.random() < 0.5:
            examples["boxes"] = [[self._number() for _ in range(4)]]
        if self.random.random() < 0.5:
            examples["labels"] = self._value(2)
        data = {"prompt": json.dumps(examples)}
        if self.random.random() < 0.7:
            data["image_id"] = self.random.choice((self.image_id, "", "..", "0"))
        options: dict[str, Any] = {"data": data}
        if self.random.random() < 0.3:
            options["files"] = {"image": ("x", self.files["JPEG"])}
        return Call("odd exemplars", "POST", "/v1/exemplars", options)

    def odd_export(self) -> Call:
        size = self.random.choice(((4, 3), (1, 1), (0, 5), (10**6, 10**6), (40, 30)))
        instance = {
            "box": [0, 0, 2, 2],
            "score": 0.5,
            "counts": self.random.choice(
                (
                    [6, 6],
                    [0, 12],
                    [12],
                    [],
                    [1, 0, 11],
                    [-1, 13],
                    [2**63, 1],
                    [1] * 12,
                    [600, 600],
                    self._value(2),
                )
            ),
        }
        if self.random.random() < 0.5:
            instance[self.random.choice(("box", "score", "extra"))] = self._value(2)
        wanted: dict[str, Any] = {
            "format": self.random.choice(("coco", "yolo", "labelme", "label_studio", "voc")),
            "file_name": self._text(),
            "width": size[0],
            "height": size[1],
            "results": [{"phrase": "coin", "presence": 0.5, "instances": [instance]}],
        }
        if self.random.random() < 0.4:
            wanted[self.random.choice(tuple(wanted))] = self._value(3)
        return Call("odd exports", "POST", "/v1/export", _json(wanted))

    # ---- protocols of other tools

    def any_labeling(self) -> Call:
        image = self.random.choice(
            (
                base64.b64encode(self.files["JPEG"]).decode(),
                "data:image/png;base64,AAAA",
                "/etc/passwd",
                "",
                "http://127.0.0.1:1/x.png",
                "é",
                self._value(1),
            )
        )
        params: Any = {
            self.random.choice(
                ("text_prompt", "marks", "conf_threshold", "epsilon_factor", "x")
            ): self._value(3)
        }
        if self.random.random() < 0.4:
            params["marks"] = [
                {"type": "rectangle", "data": [self._number() for _ in range(self.random.choice((4, 4, 3)))]}
            ]
        if self.random.random() < 0.5:
            params["text_prompt"] = self.random.choice(("coin", "coin,key", ",", "."))
        model = self.random.choice((self.model, self.model, self.model, self._text()))
        return Call(
            "X-AnyLabeling", "POST", "/v1/predict", _json({"model": model, "image": image, "params": params})
        )

    def label_studio(self) -> Call:
        picture = "data:image/png;base64," + base64.b64encode(self.files["PNG"]).decode()
        image = self.random.choice(
            (picture, picture, "/data/upload/1.png", "http://127.0.0.1:1/", self._value(1))
        )
        threshold = self.random.choice(("", ' model_score_threshold="nan"', ' model_score_threshold="7"'))
        config = self.random.choice(
            (
                LABEL_CONFIG.format(threshold=threshold, label="coin"),
                LABEL_CONFIG.format(threshold="", label=""),
                "<View/>",
                "<View>",
                "<!DOCTYPE x><View/>",
                "\ud800",
                "",
                "<View>" * 3000,
                self._text(),
            )
        )
        value = {name: self._number() for name in ("x", "y", "width", "height")}
        region: Any = {"type": "rectanglelabels", "value": {**value, "rectanglelabels": ["coin"]}}
        context: Any = self.random.choice(
            (None, {"result": [region]}, {"result": self._value(3)}, self._value(2))
        )
        task: Any = self.random.choice(
            ({"data": {"image": image}}, {"data": self._value(2)}, {}, self._value(1))
        )
        wanted = {"tasks": [task], "label_config": config, "params": {"context": context}}
        return Call("Label Studio", "POST", "/label-studio/predict", _json(wanted))

    def odd_path(self) -> Call:
        method = self.random.choice(
            ("GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE", "X")
        )
        headers = self.random.choice(
            (
                {},
                {"Origin": "https://evil.example"},
                {"Origin": "null"},
                {"Authorization": "Basic !!"},
                {"Content-Length": "9" * 30},
                {"Range": "bytes=9-1"},
                {"Host": "evil.example"},
                {"Expect": "x"},
            )
        )
        path = self.random.choice(ODD_PATHS)
        return Call("odd paths, methods and headers", method, path, {"headers": headers})

    def _asked(self, kind: str, content: bytes, prompt: Any) -> Call:
        path = self.random.choice(("/v1/segment", "/v1/segment", "/v1/images"))
        options: dict[str, Any] = {"files": {"image": (self.random.choice(("a.png", "../x", "")), content)}}
        if path == "/v1/segment":
            options["data"] = {"prompt": json.dumps(prompt)}
        return Call(kind, "POST", path, options)


async def fuzz(segmenter: Segmenter, requests: int, seed: int, limit: float) -> Report:
    """Send so many requests, one after the other.

    Args:
        limit: seconds after which a request counts as hanging, which ends the process.
    """
    app = make_app(lambda: segmenter, "fuzzed", SETTINGS)
    maker, report = Maker(seed, "fuzzed"), Report()
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=None) as client,
    ):
        while (await client.get("/readyz")).status_code != 200:
            await asyncio.sleep(0.05)
        good = Call("good", "POST", "/v1/images", {"files": {"image": ("a.png", maker.files["PNG"])}})
        for number in range(requests):
            if number % 100 == 0:
                maker.image_id = (await send(client, good)).json()["id"]
            call = maker.draw()
            faulthandler.dump_traceback_later(limit, exit=True)
            begun = time.monotonic()
            answer = await send(client, call)
            report.slowest = max(report.slowest, time.monotonic() - begun)
            faulthandler.cancel_dump_traceback_later()
            report.answers.setdefault(call.kind, Counter())[answer.status_code] += 1
            if answer.status_code >= 500:
                told = f"{number}: {answer.status_code} to {call!r:.400}: {answer.text:.200}"
                report.failures.append(told)
                print(told, file=sys.stderr, flush=True)
            if (number + 1) % max(requests // 10, 1) == 0:
                report.memory.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    return report


async def send(client: httpx.AsyncClient, call: Call) -> httpx.Response:
    return await client.request(call.method, call.path, **call.options)


def _json(content: Any) -> dict[str, Any]:
    """As JSON with all that Python's own writer lets through, such as NaN and lone surrogates."""
    return {"content": json.dumps(content).encode(), "headers": {"Content-Type": "application/json"}}


def _picture(kind: str) -> bytes:
    file = io.BytesIO()
    Image.radial_gradient("L").resize((48, 36)).convert("RGB").save(file, format=kind)
    return file.getvalue()


def _header(drawn: random.Random, width: int, height: int) -> bytes:
    """The beginning of a file that says how large its picture is, and little or nothing after it."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    short = struct.pack("<HH", width & 0xFFFF, height & 0xFFFF)
    turned = struct.pack(">HH", height & 0xFFFF, width & 0xFFFF)
    bits = drawn.choice((1, 8, 16))
    return drawn.choice(
        (
            b"\x89PNG\r\n\x1a\n"
            + chunk(b"IHDR", struct.pack(">IIBB3x", width, height, bits, drawn.choice((0, 2, 6))))
            + chunk(b"IDAT", zlib.compress(bytes(drawn.choice((0, 10_000)))))
            + chunk(b"IEND", b""),
            b"GIF89a" + short + b"\x80\0\0" + bytes(6) + b"," + bytes(4) + short + b"\0\2\2\x44\1\0;",
            b"BM" + struct.pack("<IIIIIIHHIIIIII", 54, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0),
            b"\xff\xd8\xff\xc0\0\x11\x08" + turned + b"\3\1\x22\0\2\x11\1\3\x11\1" + bytes(40),
            f"P6 {width} {height} 255\n".encode() + bytes(20),
            f"P5 {width} {height} 65535\n".encode(),
            b"RIFF\x1a\x00\x00\x00WEBPVP8L\x0d\x00\x00\x00\x2f"
            + struct.pack("<I", (width & 0x3FFF) | (height & 0x3FFF) << 14)
            + bytes(8),
        )
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=300, help="seconds for one request, on a busy machine")
    parser.add_argument("--resolution", type=int, default=64, help="that nano sees")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    report = asyncio.run(
        fuzz(load("nano", resolution=given.resolution), given.requests, given.seed, given.limit)
    )
    options = "" if given.requests == 10_000 else f" --requests {given.requests}"
    lines = [
        "# A service, fuzzed",
        "",
        f"Written by `python benchmarks/serving_fuzz.py{options} --seed {given.seed}`.",
        "",
        f"{processor_name()}, one busy core; nano at {given.resolution} px. {given.requests:,} requests, "
        f"{len(report.failures)} failures (5xx); the slowest took {report.slowest:.1f} s by the clock. "
        f"Memory at its most, after each tenth, MiB: {', '.join(f'{m:.0f}' for m in report.memory)}. "
        "X-AnyLabeling's protocol refuses with status 200 and `success: false`.",
        "",
        "| kind | requests | answered (2xx, 3xx) | refused (4xx) | failed (5xx) |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for kind in sorted(report.answers):
        answered = report.count(kind, 2) + report.count(kind, 3)
        refused, failed = report.count(kind, 4), report.count(kind, 5)
        lines.append(
            f"| {kind} | {report.answers[kind].total():,} | {answered:,} | {refused:,} | {failed:,} |"
        )
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "serving_fuzz.md").write_text("\n".join([*lines, ""]), encoding="utf-8")
    print("\n".join(lines))
    if report.failures:
        raise SystemExit(f"{len(report.failures)} requests failed")


if __name__ == "__main__":
    main()
