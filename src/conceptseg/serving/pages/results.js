// The list of what was found: a part per phrase with its presence gauge, a check box per object.

import { css } from "./masks.js";

const sigmoid = (logit) => 1 / (1 + Math.exp(-logit));

// How a concept's belief to be there reads in this mode; scores are class scores times it, but for "ignore".
export function presenceOf(concept, mode, calibration) {
  const { scale, offset } = calibration;
  return sigmoid(mode === "calibrated" ? scale * concept.presence_logit + offset : concept.presence_logit);
}

export function scoreOf(instance, concept, mode, calibration) {
  return instance.class_score * (mode === "ignore" ? 1 : presenceOf(concept, mode, calibration));
}

export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

export function swatch(color) {
  const made = element("span", { className: "swatch" });
  made.style.background = css(color);
  return made;
}

// concepts: {phrase, color, hidden, presence, shown: [{instance, score}]}; toggled: called after a check box.
export function showResults(list, concepts, mode, toggled) {
  const focused = document.activeElement?.dataset?.key;
  list.replaceChildren(...concepts.map((concept, number) => conceptPart(concept, number, mode, toggled)));
  if (focused) list.querySelector(`[data-key="${focused}"]`)?.focus();
}

function conceptPart(concept, number, mode, toggled) {
  const all = checkBox(`${number}`, !concept.hidden, (on) => { concept.hidden = !on; toggled(); });
  const count = element("span", { className: "count", textContent: `${concept.shown.length} found` });
  const gauge = element("div", { className: "gauge" }, mode === "ignore" ? "presence (ignored)" : "presence");
  const percent = `${Math.round(100 * concept.presence)} %`;
  gauge.append(
    element("meter", { min: 0, max: 1, value: concept.presence, ariaLabel: `presence of ${concept.phrase}` }),
    percent,
  );
  const items = concept.shown.map(({ instance, score }, place) => {
    const box = checkBox(`${number}-${place}`, !instance.hidden, (on) => { instance.hidden = !on; toggled(); });
    return element("li", {}, element("label", {}, box, `${place + 1}: ${score.toFixed(2)}`));
  });
  return element(
    "div", { className: "concept" },
    element("label", {}, all, swatch(concept.color), concept.phrase, count),
    gauge,
    element("ol", { ariaLabel: `scores of ${concept.phrase}` }, ...items),
  );
}

function checkBox(key, checked, changed) {
  const box = element("input", { type: "checkbox", checked, onchange: () => changed(box.checked) });
  box.dataset.key = key;
  return box;
}
