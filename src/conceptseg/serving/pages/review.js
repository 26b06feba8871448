// The review: one image after the other, the doubtful first. Every change is saved by the service before it shows.

import { asJson, call } from "./api.js";
import { PALETTE, countsOf, paint, windowOf } from "./masks.js";
import { element, swatch } from "./results.js";
import { Stage } from "./stage.js";

const WHITE = [255, 255, 255];
const PAUSE = 250; // milliseconds of rest before boxes are asked

const at = (id) => document.getElementById(id);
const stage = new Stage(at("canvas"), () => boxesChanged());
let phrases = []; // {name, asked, threshold}
let label = 0; // place of the phrase that what is added belongs to
let image = null; // as the service shows it
let chosen = null; // key of an object
let suggested = null; // {id, objects: [{..., taken}], at: the one that keys are on}
let asked = null; // {text, boxes} that led to them
let pause = 0;
let turn = 0; // of images: a picture that comes late is not shown

const colorOf = (phrase) => PALETTE[phrase % PALETTE.length];

// ---- asking

let work = Promise.resolve();

// One thing after the other, as they were asked for.
function then(action) {
  work = work.then(action).catch((error) => say(error.message));
  return work;
}

const get = async (path) => (await call(path)).json();
const post = async (path, content = {}) => (await call(path, asJson(content))).json();
const path = (rest = "") => `review/images/${image.place}${rest}`;

function say(message, good = false) {
  at("message").hidden = message === null;
  at("message").classList.toggle("good", good);
  at("message").firstElementChild.textContent = message ?? "";
}

async function go(place) {
  if (place === null || place < 0 || (image && place >= image.images)) return;
  await show(await get(`review/images/${place}`), true);
}

// Shows an image; its picture is fetched when it is another one than before.
async function show(now, anew = now.place !== image?.place) {
  image = now;
  if (anew) {
    say(null);
    [chosen, suggested, asked] = [null, null, null];
    clearTimeout(pause);
    stage.masks = [];
    const mine = ++turn;
    const picture = await (await call(path("/file"))).blob();
    const bitmap = await createImageBitmap(picture, { imageOrientation: "from-image" });
    if (mine !== turn) return;
    stage.setImage(bitmap);
    useTool("move");
  }
  for (const object of image.objects) object.area = windowOf(countsOf(object.counts), image.height);
  if (!image.objects.some(({ key }) => key === chosen)) chosen = null;
  draw();
}

// ---- showing

function draw() {
  showProgress();
  at("name").firstElementChild.textContent = image.name;
  at("state").textContent = image.state;
  at("state").className = `badge ${image.state}`;
  showObjects();
  showSuggestions();
  stage.masks = [
    ...image.objects.map((object) => pictured(object, object.key === chosen)),
    ...(suggested?.objects ?? []).map((object, number) => object.taken || number === suggested.at
      ? pictured(object, number === suggested.at, true) : null),
  ].filter(Boolean);
  stage.draw();
}

function pictured(object, bold, faint = false) {
  const { area, phrase } = object;
  if (!area) return null;
  const canvas = paint(area, colorOf(phrase), bold || faint ? WHITE : colorOf(phrase), bold ? 150 : 100);
  return { canvas, x: area.x, y: area.y };
}

function showProgress() {
  const { open, accepted, rejected } = image.counts;
  at("progress").max = image.images;
  at("progress").value = accepted + rejected;
  at("decided").textContent = `${accepted} accepted, ${rejected} rejected, ${open} open`;
  at("undo").disabled = !image.undo;
  at("redo").disabled = !image.redo;
  at("previous").disabled = image.place === 0;
  at("following").disabled = image.place === image.images - 1;
  const place = `Image ${image.place + 1} of ${image.images}`;
  at("status").textContent = open ? `${place}.` : `${place}. Every image is decided; E exports the accepted ones.`;
}

function showObjects() {
  at("objects").replaceChildren(...phrases.map(({ name }, number) => {
    const own = image.objects.filter(({ phrase }) => phrase === number);
    const items = own.map((object) => element("li", {}, objectButton(object, name)));
    return element(
      "div", { className: "concept" },
      element("h2", {}, swatch(colorOf(number)), name,
        element("span", { className: "count", textContent: `${own.length} labelled` })),
      element("p", { className: "quiet", textContent: `presence ${Math.round(100 * image.presence[number])} %` }),
      element("ol", { ariaLabel: `objects: ${name}` }, ...items),
    );
  }));
}

function objectButton(object, name) {
  const text = object.added ? `+ ${object.score.toFixed(2)}` : object.score.toFixed(2);
  const button = element("button", { type: "button", textContent: text });
  button.onclick = () => choose(object.key);
  button.ariaLabel = `${name}, score ${object.score.toFixed(2)}${object.added ? ", added" : ""}`;
  button.setAttribute("aria-pressed", String(object.key === chosen));
  return button;
}

function showSuggestions() {
  at("suggestions").hidden = !suggested;
  if (!suggested) return;
  at("suggestions").querySelector("ol").replaceChildren(...suggested.objects.map((object, number) => {
    const box = element("input", { type: "checkbox", checked: object.taken });
    box.onchange = () => { object.taken = box.checked; suggested.at = number; draw(); focusSuggestion(); };
    box.onfocus = () => { if (suggested.at !== number) { suggested.at = number; draw(); focusSuggestion(); } };
    return element("li", {}, element("label", {}, box, `${number + 1}: ${object.score.toFixed(2)}`));
  }));
}

function focusSuggestion() {
  at("suggestions").querySelectorAll("input")[suggested.at]?.focus();
}

// ---- objects

function choose(key) {
  chosen = key;
  draw();
}

function step(by) {
  if (suggested) {
    suggested.at = (suggested.at + by + suggested.objects.length) % suggested.objects.length;
    draw();
    return focusSuggestion();
  }
  const keys = image.objects.map(({ key }) => key);
  if (!keys.length) return;
  const now = keys.indexOf(chosen);
  choose(keys[now < 0 ? (by > 0 ? 0 : keys.length - 1) : (now + by + keys.length) % keys.length]);
}

function remove() {
  if (chosen === null) return say("Choose an object first: click it, or [ and ].");
  const keys = image.objects.map(({ key }) => key);
  const following = keys[keys.indexOf(chosen) + 1] ?? null;
  const key = chosen;
  return then(async () => {
    const now = await (await call(path(`/objects/${key}`), { method: "DELETE" })).json();
    chosen = following;
    await show(now);
  });
}

stage.clicked = (x, y) => {
  if (!image) return;
  const [column, row] = [Math.floor(x), Math.floor(y)];
  const hit = image.objects.filter(({ area }) => area && column >= area.x && column < area.x + area.width
    && row >= area.y && row < area.y + area.height
    && area.inside[(row - area.y) * area.width + column - area.x]);
  choose(hit.length ? hit.reduce((best, one) => one.area.width < best.area.width ? one : best).key : null);
};

// ---- decisions

function decide(state) {
  return then(async () => {
    const now = await post(path(), { state });
    if (state === "open" || now.next === null) await show(now);
    else await go(now.next);
  });
}

const undo = (what) => then(async () => { if (image[what]) await show(await post(`review/${what}`)); });

function exportAccepted() {
  return then(async () => {
    const written = await post("review/export");
    say(`Wrote ${written.images} images with ${written.objects} objects. `
      + `conceptseg finetune ${written.folder}`, true);
  });
}

// ---- what is missing

function boxesChanged() {
  clearTimeout(pause);
  if (!stage.boxes.length) return drop();
  suggested = null;
  useTool("move");
  draw();
  pause = setTimeout(() => find(null, stage.boxes.map(({ x0, y0, x1, y1 }) => [x0, y0, x1, y1])), PAUSE);
}

function find(text, boxes) {
  asked = { text, boxes };
  return then(async () => {
    at("status").textContent = "Looking …";
    document.body.classList.add("busy");
    try {
      const { id, objects } = await post(path("/suggestions"), { phrase: label, text, boxes });
      for (const object of objects) {
        object.area = windowOf(countsOf(object.counts), image.height);
        object.taken = object.wanted;
      }
      suggested = objects.length ? { id, objects, at: Math.max(objects.findIndex(({ taken }) => taken), 0) } : null;
      say(suggested ? null : "The model finds nothing that is not labelled already.");
    } finally {
      document.body.classList.remove("busy");
    }
    draw();
    if (suggested && !boxes.length) focusSuggestion();
  });
}

function add() {
  const { id, objects } = suggested;
  const taken = objects.flatMap((object, number) => object.taken ? [number] : []);
  if (!taken.length) return say("Take at least one of the suggestions, or drop them.");
  return then(async () => {
    const now = await post(path("/objects"), { id, chosen: taken });
    drop();
    await show(now);
    at("canvas").focus();
  });
}

function drop() {
  [suggested, asked] = [null, null];
  clearTimeout(pause);
  if (stage.boxes.length) {
    stage.boxes = [];
    stage.history.clear();
    stage.choose(-1);
  }
  useTool("move");
  say(null);
  draw();
}

at("phrase-form").onsubmit = (event) => {
  event.preventDefault();
  find(at("phrase").value.trim() || null, []);
};
at("suggestions").onsubmit = (event) => { event.preventDefault(); add(); };
at("drop-suggestions").onclick = drop;

function useLabel(number) {
  if (number >= phrases.length) return;
  label = number;
  at("labels").querySelectorAll("input")[number].checked = true;
  if (asked) find(asked.text, asked.boxes);
}

// ---- tools and keys

function useTool(tool) {
  stage.tool = tool;
  for (const button of document.querySelectorAll("[data-tool]")) {
    button.setAttribute("aria-pressed", String(button.dataset.tool === tool));
  }
  at("canvas").style.cursor = tool === "move" ? "grab" : "crosshair";
}

const boxed = () => stage.boxes.length > 0 && document.activeElement === at("canvas");
const KEYS = {
  a: () => decide("accepted"),
  r: () => decide("rejected"),
  o: () => decide("open"),
  n: () => then(async () => go((await get(path("/next"))).place)),
  u: () => undo("undo"),
  y: () => undo("redo"),
  b: () => { useTool("like"); at("canvas").focus(); },
  m: () => useTool("move"),
  p: () => at("phrase").focus(),
  e: exportAccepted,
  "[": () => step(-1),
  "]": () => step(1),
  delete: remove,
  backspace: remove,
  arrowleft: () => then(() => go(image.place - 1)),
  arrowright: () => then(() => go(image.place + 1)),
};

addEventListener("keydown", (event) => {
  if (!image) return;
  const key = event.key.toLowerCase();
  if (key === "escape") {
    document.activeElement?.blur();
    return drop();
  }
  if (event.target.type === "text") return;
  const undoing = (event.ctrlKey || event.metaKey) && key === "z";
  if (!undoing && (event.ctrlKey || event.metaKey || event.altKey)) return;
  let action = undoing ? () => undo(event.shiftKey ? "redo" : "undo") : KEYS[key];
  if (!undoing && boxed() && (key.startsWith("arrow") || key === "delete" || key === "backspace")) {
    action = null; // of the box, which the stage moves or deletes
  }
  if (event.target.type === "radio" && key.startsWith("arrow")) action = null;
  if ("123456789".includes(key)) action = () => useLabel(Number(key) - 1);
  if (key === "enter" && suggested && (boxed() || event.target.type === "checkbox")) action = add;
  if (!action) return;
  event.preventDefault();
  event.stopPropagation();
  action();
}, true);

for (const button of document.querySelectorAll("[data-tool]")) button.onclick = () => useTool(button.dataset.tool);
at("previous").onclick = KEYS.arrowleft;
at("following").onclick = KEYS.arrowright;
at("accept").onclick = KEYS.a;
at("reject").onclick = KEYS.r;
at("undo").onclick = KEYS.u;
at("redo").onclick = KEYS.y;
at("export").onclick = exportAccepted;
at("zoom-in").onclick = () => stage.zoom(1.25);
at("zoom-out").onclick = () => stage.zoom(0.8);
at("fit").onclick = () => stage.fit();
at("message").lastElementChild.onclick = () => say(null);

// ---- beginning

then(async () => {
  const overview = await get("review");
  phrases = overview.phrases;
  at("folder").textContent = overview.folder;
  at("labels").append(...phrases.map(({ name }, number) => {
    const radio = element("input", { type: "radio", name: "label", checked: number === 0 });
    radio.onchange = () => useLabel(number);
    return element("label", {}, radio, swatch(colorOf(number)), name);
  }));
  await go(overview.first);
  at("canvas").focus();
});
