// Ask an exported model in Node:  node segment.mjs FOLDER REQUEST.json > answer.json
//
// The request names a file of raw float32 pixels (3 x R x R, normalised) and holds a list of prompts:
//   { "pixels": "pixels.bin", "prompts": [{ "tokenIds": [...], "boxes": [[cx, cy, w, h]], "labels": [1] }] }
// The answer holds, per prompt, presence, scores, boxes (cx, cy, w, h in 0..1) and masks as strings of 0 and 1.

import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import * as ort from "onnxruntime-web";
import { openModel } from "./concept.mjs";

ort.env.wasm.numThreads = 1;
ort.env.logLevel = "error";

const [folder, requestPath] = process.argv.slice(2);
if (!requestPath) {
  console.error("usage: node segment.mjs FOLDER REQUEST.json");
  process.exit(2);
}
const request = JSON.parse(await readFile(requestPath, "utf8"));
const bytes = await readFile(join(dirname(requestPath), request.pixels));
const pixels = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));

const model = await openModel(ort, (name) => readFile(join(folder, name)));
const image = await model.encodeImage(pixels);
const answers = [];
for (const prompt of request.prompts) {
  const found = await model.segment(image, prompt);
  answers.push({ ...found, masks: found.masks.map((mask) => mask.join("")) });
}
process.stdout.write(JSON.stringify(answers));
