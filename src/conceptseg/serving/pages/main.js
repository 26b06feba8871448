// The page: what a reader does -> one prompt -> one request; what is shown is chosen here, without asking again.

import * as api from "./api.js";
import { PALETTE, countsOf, paint, windowOf } from "./masks.js";
import { presenceOf, scoreOf, showResults, swatch } from "./results.js";
import { Stage } from "./stage.js";

const FLOOR = 0.05; // class scores above this are asked for, so that the slider can go down to it
const MOST = 200; // objects per phrase
const PAUSE = 250; // milliseconds of rest before boxes are asked

const at = (id) => document.getElementById(id);
const stage = new Stage(at("canvas"), () => boxesChanged());
const calibration = { scale: 1, offset: 0 };
let file = null;
let imageId = null;
let phrases = []; // {text, color}
let exemplar = null; // {id, text}
let concepts = [];
let request = null; // AbortController of the question under way
let pause = 0;
let carrying = false; // the next image is chosen to look for these boxes in

// ---- asking

async function ask() {
  clearTimeout(pause);
  request?.abort();
  const boxes = stage.boxes.map(({ x0, y0, x1, y1 }) => [x0, y0, x1, y1]);
  if (!file || !(phrases.length || boxes.length || exemplar)) {
    concepts = [];
    show();
    at("status").textContent = file ? "Type a phrase, or draw a box around an example." : "Choose an image to begin.";
    return;
  }
  const prompt = {
    text: phrases.length ? phrases.map(({ text }) => text) : null,
    boxes: boxes.length ? boxes : null,
    labels: boxes.length ? stage.boxes.map(({ label }) => label) : null,
    exemplar: exemplar?.id ?? null,
    threshold: FLOOR,
    presence: "ignore",
    max_instances: MOST,
  };
  const asked = phrases.map((phrase) => phrase.color);
  await busy(async (signal) => {
    const answer = await askOfImage(prompt, signal);
    concepts = answer.results.map((result, number) => read(result, asked[number] ?? PALETTE[0], answer.image.height));
    show();
  });
}

async function askOfImage(prompt, signal) {
  if (!imageId) imageId = (await api.addImage(file, signal)).id;
  try {
    return await api.segment(imageId, prompt, signal);
  } catch (error) {
    if (error.status !== 404) throw error;
    imageId = (await api.addImage(file, signal)).id; // it had made room for others
    return api.segment(imageId, prompt, signal);
  }
}

function read(result, color, imageHeight) {
  for (const instance of result.instances) {
    instance.counts = countsOf(instance.mask.counts);
    const area = windowOf(instance.counts, imageHeight);
    instance.picture = area && { canvas: paint(area, color), x: area.x, y: area.y };
  }
  return { ...result, color };
}

async function busy(work) {
  request?.abort();
  const mine = (request = new AbortController());
  document.body.classList.add("busy");
  at("status").textContent = "Looking …";
  say(null);
  try {
    await work(mine.signal);
    at("key-form").hidden = true;
  } catch (error) {
    if (error.name === "AbortError") return;
    at("status").textContent = "";
    at("key-form").hidden = error.status !== 401;
    say(error.message);
  } finally {
    if (request === mine) document.body.classList.remove("busy");
  }
}

function say(message) {
  at("message").hidden = message === null;
  at("message").firstElementChild.textContent = message ?? "";
}

// ---- showing

const mode = () => document.querySelector('input[name="presence"]:checked')?.value ?? "multiply";

function show() {
  const threshold = Number(at("threshold").value);
  at("threshold-value").textContent = threshold.toFixed(2);
  for (const concept of concepts) {
    concept.presence = presenceOf(concept, mode(), calibration);
    concept.shown = concept.instances
      .map((instance) => ({ instance, score: scoreOf(instance, concept, mode(), calibration) }))
      .filter(({ score }) => score > threshold);
  }
  showResults(at("results"), concepts, mode(), show);
  const visible = visibleConcepts();
  stage.masks = visible.flatMap(({ found }) => found.map(({ instance }) => instance.picture).filter(Boolean));
  stage.draw();
  if (concepts.length) {
    const found = concepts.reduce((sum, concept) => sum + concept.shown.length, 0);
    at("status").textContent = found ? `${found} found above ${threshold.toFixed(2)}.` : "Nothing above this score.";
  }
  for (const button of document.querySelectorAll("[data-download]")) button.disabled = !concepts.length;
}

function visibleConcepts() {
  return concepts
    .filter((concept) => !concept.hidden)
    .map((concept) => ({ concept, found: concept.shown.filter(({ instance }) => !instance.hidden) }));
}

// ---- the image

async function openImage(chosen) {
  if (!chosen) return;
  let bitmap;
  try {
    bitmap = await createImageBitmap(chosen, { imageOrientation: "from-image" });
  } catch {
    say(`${chosen.name || "This"} is not an image that this browser can show.`);
    return;
  }
  request?.abort();
  say(null);
  [file, imageId, concepts] = [chosen, null, []];
  at("empty").hidden = true;
  stage.setImage(bitmap);
  boxesChanged();
  await ask();
}

function boxesChanged() {
  at("undo").disabled = !stage.history.past.length;
  at("redo").disabled = !stage.history.future.length;
  at("other").disabled = !stage.boxes.length;
  stage.draw();
  clearTimeout(pause);
  pause = setTimeout(ask, PAUSE);
}

stage.selectionChanged = () => { at("delete").disabled = stage.chosen < 0; };

for (const id of ["choose", "new"]) at(id).onclick = () => { carrying = false; at("file").click(); };
at("file").oncancel = () => { carrying = false; };
at("file").onchange = () => {
  const [chosen] = at("file").files;
  at("file").value = "";
  if (carrying) carry(chosen); else openImage(chosen);
};
addEventListener("dragover", (event) => { event.preventDefault(); at("drop").classList.add("over"); });
addEventListener("dragleave", () => at("drop").classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  at("drop").classList.remove("over");
  openImage(event.dataTransfer.files[0]);
});
addEventListener("paste", (event) => {
  const pasted = [...event.clipboardData.files].find(({ type }) => type.startsWith("image/"));
  if (pasted) openImage(pasted);
});
at("canvas").addEventListener("contextmenu", (event) => event.preventDefault());

// ---- phrases and examples

at("phrase-form").onsubmit = (event) => {
  event.preventDefault();
  const text = at("phrase").value.trim();
  at("phrase").value = "";
  if (!text || phrases.some((phrase) => phrase.text === text)) return;
  const free = PALETTE.find((color) => !phrases.some((phrase) => phrase.color === color));
  phrases.push({ text, color: free ?? PALETTE[phrases.length % PALETTE.length] });
  showChips();
  ask();
};

function chip(text, color, remove) {
  const item = document.createElement("li");
  const button = Object.assign(document.createElement("button"), { type: "button", textContent: "×", onclick: remove });
  button.setAttribute("aria-label", `Remove ${text}`);
  item.append(...(color ? [swatch(color)] : []), text, button);
  return item;
}

function showChips() {
  at("phrases").replaceChildren(...phrases.map((phrase) => chip(phrase.text, phrase.color, () => {
    phrases = phrases.filter((other) => other !== phrase);
    showChips();
    at("phrase").focus();
    ask();
  })));
  at("examples").replaceChildren(...(exemplar ? [chip(exemplar.text, null, () => {
    exemplar = null;
    showChips();
    ask();
  })] : []));
}

// Browsers open the file dialogue only right after a click, so the exemplar is made after it.
at("other").onclick = () => { carrying = true; at("file").click(); };

async function carry(chosen) {
  carrying = false;
  let made = null;
  await busy(async (signal) => {
    if (!imageId) imageId = (await api.addImage(file, signal)).id;
    const boxes = stage.boxes.map(({ x0, y0, x1, y1 }) => [x0, y0, x1, y1]);
    made = await api.addExemplar(imageId, boxes, stage.boxes.map(({ label }) => label));
  });
  if (!made) return;
  const count = made.positive + made.negative;
  exemplar = { id: made.id, text: `${count} example${count > 1 ? "s" : ""} on ${file.name || "the first image"}` };
  showChips();
  await openImage(chosen);
}
at("find").onclick = ask;

// ---- tools and keys

function useTool(tool) {
  stage.tool = tool;
  for (const button of document.querySelectorAll("[data-tool]")) {
    button.setAttribute("aria-pressed", String(button.dataset.tool === tool));
  }
  at("canvas").style.cursor = tool === "move" ? "grab" : "crosshair";
}

for (const button of document.querySelectorAll("[data-tool]")) button.onclick = () => useTool(button.dataset.tool);
at("undo").onclick = () => stage.undo();
at("redo").onclick = () => stage.redo();
at("delete").onclick = () => stage.remove();
at("zoom-in").onclick = () => stage.zoom(1.25);
at("zoom-out").onclick = () => stage.zoom(0.8);
at("fit").onclick = () => stage.fit();

addEventListener("keydown", (event) => {
  if (["text", "password"].includes(event.target.type)) return;
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z") {
    event.preventDefault();
    if (event.shiftKey) stage.redo(); else stage.undo();
  } else if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "y") {
    event.preventDefault();
    stage.redo();
  } else if ("123".includes(event.key) && !event.ctrlKey && !event.metaKey && !event.altKey) {
    useTool(["move", "like", "unlike"][Number(event.key) - 1]);
  }
});

at("threshold").oninput = show;
for (const radio of document.querySelectorAll('input[name="presence"]')) radio.onchange = show;
at("message").lastElementChild.onclick = () => say(null);
at("theme").onclick = () => {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const now = document.documentElement.dataset.theme ?? (dark ? "dark" : "light");
  document.documentElement.dataset.theme = now === "dark" ? "light" : "dark";
};

// ---- downloads

function save(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

const ENDINGS = { coco: "coco.json", yolo: "txt", labelme: "json", label_studio: "label-studio.json" };

for (const button of document.querySelectorAll("[data-download]")) {
  button.onclick = async () => {
    const format = button.dataset.download;
    const name = file.name || "image.png";
    const stem = name.replace(/\.[^.]*$/, "");
    try {
      if (format === "png") return save(await stage.picture(), `${stem}.overlay.png`);
      const wanted = {
        format, file_name: name, width: stage.image.width, height: stage.image.height,
        results: visibleConcepts().map(({ concept, found }) => ({
          phrase: concept.phrase,
          presence: concept.presence,
          instances: found.map(({ instance, score }) => ({ box: instance.box, score, counts: instance.counts })),
        })),
      };
      if (!wanted.results.length) return say("Every phrase is hidden, so there is nothing to download.");
      save(await api.exportAs(wanted), `${stem}.${ENDINGS[format]}`);
    } catch (error) {
      say(error.message);
    }
  };
}

// ---- beginning

async function begin() {
  const model = await api.describeModel();
  Object.assign(calibration, model.presence);
  at("model").textContent = `${model.display_name.replace("conceptseg ", "")} · ${model.resolution} px · ${model.device}`;
  document.querySelector(`input[name="presence"][value="${model.presence.mode}"]`).checked = true;
  show();
}

function tryToBegin() {
  begin().catch((error) => {
    at("key-form").hidden = error.status !== 401;
    say(error.message);
    if (error.status === 503) setTimeout(() => { say(null); tryToBegin(); }, 2000);
  });
}

at("key-form").onsubmit = (event) => {
  event.preventDefault();
  api.useKey(at("key").value);
  at("key").value = "";
  at("key-form").hidden = true;
  say(null);
  tryToBegin();
  ask();
};

tryToBegin();
