// An exported conceptseg model in ONNX Runtime Web: the same file runs in a browser and in Node.
//
//   const model = await openModel(ort, (name) => fetchBytes(`nano-onnx/${name}`));
//   const image = await model.encodeImage(pixels);           // Float32Array, 3 * R * R, normalised
//   const found = await model.segment(image, { tokenIds, boxes, labels, threshold: 0.5 });
//
// Names and shapes of inputs and outputs: docs/export.md.

/** Open the graphs. `ort` is the onnxruntime-web module, `read(name)` gives the bytes of a file of the folder. */
export async function openModel(ort, read) {
  const config = JSON.parse(new TextDecoder().decode(await read("config.json")));
  const open = async (graph) =>
    ort.InferenceSession.create(await read(`${graph}.onnx`), { executionProviders: ["wasm"] });
  const sessions = {};
  for (const graph of ["vision", "text", "exemplar", "detector"]) sessions[graph] = await open(graph);
  return new Model(ort, config, sessions);
}

class Model {
  constructor(ort, config, sessions) {
    this.ort = ort;
    this.config = config;
    this.sessions = sessions;
    this.resolution = config.onnx.resolution;
    this.width = config.architecture.width;
  }

  /** Run the vision encoder, once for any number of prompts: the feature levels by name. */
  async encodeImage(pixels) {
    const side = this.resolution;
    return this.sessions.vision.run({ pixels: this.#floats(pixels, [1, 3, side, side]) });
  }

  /**
   * Find every object that a phrase, example boxes or both mean.
   *
   * tokenIds: one phrase, padded with zeros to the context length. boxes: [[cx, cy, w, h], ...] in 0..1.
   * labels: 1 = like this, 0 = not like this. dedupe: "none", "nms" or "containment"; what the model says, if
   * not given. Gives what scores above the threshold, best first; masks are Uint8Arrays of
   * maskSize = [height, width].
   */
  async segment(levels, { tokenIds, boxes = [], labels = [], threshold = 0.5, dedupe = this.config.dedupe ?? "none" }) {
    const words = await this.sessions.text.run({ token_ids: this.#whole(tokenIds, [1, tokenIds.length]) });
    const shown = await this.#examples(levels, boxes, labels);
    const prompt = this.#join(words, shown);
    const output = await this.sessions.detector.run({
      ...levels,
      image_index: this.#whole([0], [1]),
      ...prompt,
    });
    return this.#read(output, threshold, dedupe);
  }

  /** The graph wants at least one box: without any, a padded one, whose token is left out again by its mask. */
  async #examples(levels, boxes, labels) {
    const given = boxes.length ? boxes : [[0.5, 0.5, 0.5, 0.5]];
    const kinds = boxes.length ? labels : [0];
    const last = this.sessions.exemplar.inputNames.find((name) => name.startsWith("level_"));
    return this.sessions.exemplar.run({
      [last]: levels[last],
      image_index: this.#whole([0], [1]),
      boxes_cxcywh: this.#floats(Float32Array.from(given.flat()), [1, given.length, 4]),
      box_labels: this.#whole(kinds, [1, given.length]),
      box_padding: this.#flags(given.map(() => (boxes.length ? 0 : 1)), [1, given.length]),
    });
  }

  /** Words and examples, one after the other. */
  #join(words, shown) {
    const count = words.tokens.dims[1] + shown.tokens.dims[1];
    const tokens = new Float32Array(count * this.width);
    tokens.set(words.tokens.data);
    tokens.set(shown.tokens.data, words.tokens.data.length);
    const padding = [...words.padding_mask.data, ...shown.padding_mask.data];
    return {
      prompt_tokens: this.#floats(tokens, [1, count, this.width]),
      prompt_padding_mask: this.#flags(padding, [1, count]),
    };
  }

  #read(output, threshold, dedupe) {
    const presence = sigmoid(output.presence_logits.data[0]);
    const scores = Array.from(output.class_logits.data, (logit) => sigmoid(logit) * presence);
    const found = scores.map((_, query) => query).filter((query) => scores[query] > threshold);
    found.sort((a, b) => scores[b] - scores[a]);
    const [height, width] = output.mask_logits.dims.slice(2);
    const mask = (query) => {
      const logits = output.mask_logits.data.subarray(query * height * width, (query + 1) * height * width);
      return Uint8Array.from(logits, (logit) => (logit > 0 ? 1 : 0));
    };
    const all = found.map(mask);
    const distinct = keepDistinct(all, dedupe);
    const kept = found.filter((_, place) => distinct[place]);
    const boxes = kept.map((query) => Array.from(output.boxes_cxcywh.data.subarray(4 * query, 4 * query + 4)));
    const masks = all.filter((_, place) => distinct[place]);
    const margin = this.config.mask_margin ?? null;
    if (margin !== null) masks.forEach((mask, place) => cutMask(mask, height, width, boxes[place], margin));
    return { presence, scores: kept.map((query) => scores[query]), boxes, masks, maskSize: [height, width] };
  }

  #floats(values, shape) {
    return new this.ort.Tensor("float32", values, shape);
  }

  #whole(values, shape) {
    return new this.ort.Tensor("int64", BigInt64Array.from(values, BigInt), shape);
  }

  #flags(values, shape) {
    return new this.ort.Tensor("bool", Uint8Array.from(values), shape);
  }
}

const TOO_MUCH = {
  none: () => false,
  nms: (shared, own, better) => shared / Math.max(own + better - shared, 1) > 0.5,
  containment: (shared, own) => shared / Math.max(own, 1) > 0.8,
};

/** Which masks to keep, going from the best down: as `conceptseg/dedupe.py`. */
function keepDistinct(masks, mode) {
  if (!(mode in TOO_MUCH)) throw new Error(`unknown dedupe "${mode}"; choose ${Object.keys(TOO_MUCH).join(", ")}`);
  const areas = masks.map((mask) => mask.reduce((sum, pixel) => sum + pixel, 0));
  const shared = (a, b) => masks[a].reduce((sum, pixel, i) => sum + (pixel & masks[b][i]), 0);
  const kept = [];
  for (const place of masks.keys()) {
    kept.push(!kept.some((keep, better) => keep && TOO_MUCH[mode](shared(place, better), areas[place], areas[better])));
  }
  return kept;
}

/** Clear what lies far outside its box, for models whose config says so: as `conceptseg/postprocess.py`. */
function cutMask(mask, height, width, [cx, cy, w, h], margin) {
  const far = (x, centre, side) => Math.abs(x - centre) > (0.5 + margin) * side;
  for (let i = 0; i < mask.length; i++) {
    const [x, y] = [((i % width) + 0.5) / width, (Math.floor(i / width) + 0.5) / height];
    if (far(x, cx, w) || far(y, cy, h)) mask[i] = 0;
  }
}

function sigmoid(x) {
  return 1 / (1 + Math.exp(-x));
}
