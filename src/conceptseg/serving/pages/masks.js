// Masks: COCO's compressed run lengths -> runs, small pictures of their own window, colours.

export const PALETTE = [
  [255, 99, 72], [30, 190, 255], [255, 204, 0], [120, 220, 80], [226, 120, 255], [0, 214, 178],
  [255, 146, 196], [255, 160, 40], [140, 160, 255], [200, 230, 60], [255, 120, 120], [110, 230, 240],
];

export const css = ([red, green, blue], alpha = 1) => `rgb(${red} ${green} ${blue} / ${alpha})`;

// Numbers of five bits a character, signed; from the third on each is a difference to the last but one.
export function countsOf(text) {
  const counts = [];
  for (let at = 0; at < text.length;) {
    let value = 0;
    let shift = 0;
    let bits;
    do {
      bits = text.charCodeAt(at++) - 48;
      value |= (bits & 31) << shift;
      shift += 5;
    } while (bits & 32);
    if (bits & 16 && shift < 32) value |= -1 << shift;
    if (counts.length > 2) value += counts[counts.length - 2];
    counts.push(value);
  }
  return counts;
}

// Run lengths go down the columns, outside first -> {x, y, width, height, inside}: the window of the mask.
export function windowOf(counts, imageHeight) {
  const runs = [];
  let left = Infinity, top = Infinity, right = -1, bottom = -1;
  let pixel = 0;
  counts.forEach((length, number) => {
    if (number % 2 === 1) {
      for (let start = pixel, end = pixel + length; start < end;) {
        const column = Math.floor(start / imageHeight);
        const stop = Math.min(end, (column + 1) * imageHeight);
        const first = start - column * imageHeight, last = stop - column * imageHeight;
        runs.push([column, first, last]);
        left = Math.min(left, column); right = Math.max(right, column + 1);
        top = Math.min(top, first); bottom = Math.max(bottom, last);
        start = stop;
      }
    }
    pixel += length;
  });
  if (!runs.length) return null;
  const width = right - left, height = bottom - top;
  const inside = new Uint8Array(width * height);
  for (const [column, first, last] of runs) {
    for (let row = first; row < last; row++) inside[(row - top) * width + column - left] = 1;
  }
  return { x: left, y: top, width, height, inside };
}

// A canvas of the window: the mask filled faintly, its rim strongly, in its own colour or another.
export function paint({ width, height, inside }, color, rimColor = color, fill = 110) {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  const picture = context.createImageData(width, height);
  const at = (x, y) => x >= 0 && y >= 0 && x < width && y < height && inside[y * width + x];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (!inside[y * width + x]) continue;
      const rim = !(at(x - 1, y) && at(x + 1, y) && at(x, y - 1) && at(x, y + 1));
      picture.data.set(rim ? [...rimColor, 255] : [...color, fill], 4 * (y * width + x));
    }
  }
  context.putImageData(picture, 0, 0);
  return canvas;
}
