// Undo and redo of example boxes: whole states, since there are few boxes.

export class History {
  constructor() {
    this.clear();
  }

  clear() {
    this.past = [];
    this.future = [];
  }

  // Called with the state before a change.
  remember(boxes) {
    this.past.push(structuredClone(boxes));
    this.future = [];
  }

  undo(boxes) {
    if (!this.past.length) return boxes;
    this.future.push(structuredClone(boxes));
    return this.past.pop();
  }

  redo(boxes) {
    if (!this.future.length) return boxes;
    this.past.push(structuredClone(boxes));
    return this.future.pop();
  }
}
