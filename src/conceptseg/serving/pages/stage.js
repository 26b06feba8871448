// The image with its masks and example boxes: zoom, pan, and drawing, moving and resizing boxes.
// Boxes are {x0, y0, x1, y1, label} in pixels of the image; label 1 = like this, 0 = not like this.

import { History } from "./history.js";

const HANDLE = 9; // pixels on the screen around a corner that count as the corner
const CLICK = 4; // pixels on the screen that a pointer may move in a click
const LEAST = 2; // pixels of the image that a box has at least
const COLORS = ["#ff4f45", "#22c55e"];

export class Stage {
  constructor(canvas, changed) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.changed = changed; // called when boxes have been changed for good
    this.selectionChanged = () => {};
    this.clicked = () => {}; // called with the pixel that was clicked, beside boxes
    this.history = new History();
    this.image = null;
    this.masks = []; // {canvas, x, y}
    this.boxes = [];
    this.chosen = -1;
    this.tool = "move";
    this.view = { scale: 1, x: 0, y: 0 };
    this.pointers = new Map();
    this.drag = null;
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    canvas.addEventListener("pointerup", (event) => this.up(event));
    canvas.addEventListener("pointercancel", (event) => this.up(event));
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    canvas.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.resize()).observe(canvas);
  }

  setImage(bitmap) {
    this.image = bitmap;
    this.masks = [];
    this.boxes = [];
    this.history.clear();
    this.choose(-1);
    this.fit();
  }

  resize() {
    const ratio = devicePixelRatio;
    this.canvas.width = Math.round(this.canvas.clientWidth * ratio);
    this.canvas.height = Math.round(this.canvas.clientHeight * ratio);
    if (this.image && !this.zoomed) this.fit();
    this.draw();
  }

  fit() {
    if (!this.image) return;
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const scale = Math.min(width / this.image.width, height / this.image.height) * 0.96;
    this.view = { scale, x: (width - scale * this.image.width) / 2, y: (height - scale * this.image.height) / 2 };
    this.zoomed = false;
    this.draw();
  }

  zoom(factor, x = this.canvas.clientWidth / 2, y = this.canvas.clientHeight / 2) {
    const scale = Math.min(64, Math.max(0.02, this.view.scale * factor));
    const real = scale / this.view.scale;
    this.view = { scale, x: x - (x - this.view.x) * real, y: y - (y - this.view.y) * real };
    this.zoomed = true;
    this.draw();
  }

  pan(dx, dy) {
    this.view.x += dx;
    this.view.y += dy;
    this.zoomed = true;
    this.draw();
  }

  toImage(event) {
    const frame = this.canvas.getBoundingClientRect();
    return [
      (event.clientX - frame.left - this.view.x) / this.view.scale,
      (event.clientY - frame.top - this.view.y) / this.view.scale,
    ];
  }

  down(event) {
    if (!this.image) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, event);
    if (this.pointers.size === 2) return this.beginPinch();
    const [x, y] = this.toImage(event);
    const before = structuredClone(this.boxes);
    const corner = this.cornerAt(x, y);
    const inside = this.tool === "move" ? this.boxAt(x, y) : -1;
    if (event.button === 1 || event.button === 2) {
      this.drag = { kind: "pan", event };
    } else if (corner) {
      this.drag = { kind: "resize", before, ...corner };
    } else if (inside >= 0) {
      this.choose(inside);
      this.drag = { kind: "move", before, x, y, box: { ...this.boxes[inside] } };
    } else if (this.tool === "move") {
      this.choose(-1);
      this.drag = { kind: "pan", event, click: true };
    } else {
      this.boxes.push({ x0: x, y0: y, x1: x, y1: y, label: this.tool === "like" ? 1 : 0 });
      this.choose(this.boxes.length - 1);
      this.drag = { kind: "resize", before, across: "x1", down: "y1" };
    }
  }

  move(event) {
    if (!this.drag || !this.pointers.has(event.pointerId)) return;
    const last = this.pointers.get(event.pointerId);
    this.pointers.set(event.pointerId, event);
    if (this.drag.kind === "pinch") return this.pinch();
    if (this.drag.kind === "pan") {
      const { clientX, clientY } = this.drag.event;
      if (Math.hypot(event.clientX - clientX, event.clientY - clientY) > CLICK) this.drag.click = false;
      return this.pan(event.clientX - last.clientX, event.clientY - last.clientY);
    }
    const [x, y] = this.toImage(event);
    const box = this.boxes[this.chosen];
    if (this.drag.kind === "resize") {
      box[this.drag.across] = Math.min(Math.max(x, 0), this.image.width);
      box[this.drag.down] = Math.min(Math.max(y, 0), this.image.height);
    } else {
      this.shift(box, this.drag.box, x - this.drag.x, y - this.drag.y);
    }
    this.draw();
  }

  up(event) {
    this.pointers.delete(event.pointerId);
    const drag = this.drag;
    this.drag = null;
    if (drag?.click) this.clicked(...this.toImage(event));
    if (!drag || !drag.before) return;
    const box = this.boxes[this.chosen];
    [box.x0, box.x1] = [Math.min(box.x0, box.x1), Math.max(box.x0, box.x1)];
    [box.y0, box.y1] = [Math.min(box.y0, box.y1), Math.max(box.y0, box.y1)];
    if (box.x1 - box.x0 < LEAST || box.y1 - box.y0 < LEAST) {
      this.boxes = drag.before; // a click, not a box
      this.choose(-1);
    } else if (JSON.stringify(this.boxes) !== JSON.stringify(drag.before)) {
      this.history.remember(drag.before);
      this.changed();
    }
    this.draw();
  }

  beginPinch() {
    if (this.drag?.before) this.boxes = this.drag.before; // the first finger was not drawing after all
    this.choose(-1);
    this.drag = { kind: "pinch", ...this.fingers() };
  }

  fingers() {
    const [one, two] = [...this.pointers.values()];
    const frame = this.canvas.getBoundingClientRect();
    return {
      apart: Math.hypot(one.clientX - two.clientX, one.clientY - two.clientY),
      x: (one.clientX + two.clientX) / 2 - frame.left,
      y: (one.clientY + two.clientY) / 2 - frame.top,
    };
  }

  pinch() {
    const now = this.fingers();
    this.pan(now.x - this.drag.x, now.y - this.drag.y);
    this.zoom(now.apart / this.drag.apart, now.x, now.y);
    this.drag = { kind: "pinch", ...now };
  }

  wheel(event) {
    if (!this.image) return;
    event.preventDefault();
    this.zoom(Math.exp(-event.deltaY / 400), event.offsetX, event.offsetY);
  }

  key(event) {
    const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const box = this.boxes[this.chosen];
    if (!this.image || event.ctrlKey || event.metaKey) return;
    if (event.key in arrows) {
      const [dx, dy] = arrows[event.key];
      if (!box) {
        this.pan(-40 * dx, -40 * dy);
      } else {
        const step = 5 / this.view.scale;
        this.history.remember(this.boxes);
        if (event.shiftKey) {
          box.x1 = Math.min(Math.max(box.x1 + step * dx, box.x0 + LEAST), this.image.width);
          box.y1 = Math.min(Math.max(box.y1 + step * dy, box.y0 + LEAST), this.image.height);
        } else {
          this.shift(box, { ...box }, step * dx, step * dy);
        }
        this.changed();
      }
    } else if (event.key === "Enter" && this.tool !== "move") {
      this.history.remember(this.boxes);
      const { width, height } = this.image;
      const label = this.tool === "like" ? 1 : 0;
      this.boxes.push({ x0: width * 0.4, y0: height * 0.4, x1: width * 0.6, y1: height * 0.6, label });
      this.choose(this.boxes.length - 1);
      this.changed();
    } else if ((event.key === "]" || event.key === "[") && this.boxes.length) {
      const step = event.key === "]" ? 1 : this.boxes.length - 1;
      this.choose((Math.max(this.chosen, 0) + (this.chosen < 0 ? 0 : step)) % this.boxes.length);
    } else if (event.key === "Delete" || event.key === "Backspace") {
      this.remove();
    } else if (event.key === "+" || event.key === "=") {
      this.zoom(1.25);
    } else if (event.key === "-") {
      this.zoom(0.8);
    } else if (event.key === "0") {
      this.fit();
    } else {
      return;
    }
    event.preventDefault();
    this.draw();
  }

  remove() {
    if (this.chosen < 0) return;
    this.history.remember(this.boxes);
    this.boxes.splice(this.chosen, 1);
    this.choose(-1);
    this.changed();
  }

  undo() {
    this.step("undo");
  }

  redo() {
    this.step("redo");
  }

  step(which) {
    this.boxes = this.history[which](this.boxes);
    this.choose(-1);
    this.changed();
  }

  choose(number) {
    this.chosen = number;
    this.selectionChanged();
    this.draw();
  }

  shift(box, from, dx, dy) {
    dx = Math.min(Math.max(dx, -from.x0), this.image.width - from.x1);
    dy = Math.min(Math.max(dy, -from.y0), this.image.height - from.y1);
    Object.assign(box, { x0: from.x0 + dx, x1: from.x1 + dx, y0: from.y0 + dy, y1: from.y1 + dy });
  }

  cornerAt(x, y) {
    const box = this.boxes[this.chosen];
    if (!box) return null;
    const reach = HANDLE / this.view.scale;
    for (const across of ["x0", "x1"]) {
      for (const down of ["y0", "y1"]) {
        if (Math.abs(box[across] - x) < reach && Math.abs(box[down] - y) < reach) return { across, down };
      }
    }
    return null;
  }

  boxAt(x, y) {
    return this.boxes.findLastIndex((box) => x >= box.x0 && x <= box.x1 && y >= box.y0 && y <= box.y1);
  }

  draw() {
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => this.drawNow());
  }

  drawNow() {
    const { context, view } = this;
    const ratio = devicePixelRatio;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    if (!this.image) return;
    context.setTransform(ratio * view.scale, 0, 0, ratio * view.scale, ratio * view.x, ratio * view.y);
    context.imageSmoothingEnabled = view.scale < 2;
    this.drawPicture(context);
    this.boxes.forEach((box, number) => this.drawBox(box, number === this.chosen));
  }

  drawPicture(context) {
    context.drawImage(this.image, 0, 0);
    for (const mask of this.masks) context.drawImage(mask.canvas, mask.x, mask.y);
  }

  drawBox(box, chosen) {
    const { context } = this;
    const pixel = 1 / this.view.scale;
    const frame = [box.x0, box.y0, box.x1 - box.x0, box.y1 - box.y0];
    context.setLineDash(box.label ? [] : [6 * pixel, 4 * pixel]);
    context.lineWidth = 5 * pixel;
    context.strokeStyle = "rgb(0 0 0 / .55)";
    context.strokeRect(...frame);
    context.lineWidth = 2.5 * pixel;
    context.strokeStyle = COLORS[box.label];
    context.strokeRect(...frame);
    context.setLineDash([]);
    if (!chosen) return;
    context.fillStyle = "#fff";
    for (const x of [box.x0, box.x1]) {
      for (const y of [box.y0, box.y1]) context.fillRect(x - 4 * pixel, y - 4 * pixel, 8 * pixel, 8 * pixel);
    }
  }

  // The image with what is shown on it, at its own size.
  picture() {
    const canvas = new OffscreenCanvas(this.image.width, this.image.height);
    this.drawPicture(canvas.getContext("2d"));
    return canvas.convertToBlob({ type: "image/png" });
  }
}
