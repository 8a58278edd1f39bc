// The timers of the room, counting down.

import { byId, element, keep, say } from "./dom.js";

const GONE = ["cancelled", "silenced", "missed"];

export class Timers {
  #timers = new Map();
  #texts;

  /** `changed()` is called when one begins or ceases to ring. */
  constructor(changed) {
    this.changed = changed;
    setInterval(() => this.#draw(), 250);
  }

  /** Whether one rings. */
  get ringing() {
    return [...this.#timers.values()].some((timer) => timer.state === "ringing");
  }

  /** Use these texts. */
  speak(texts) {
    this.#texts = texts;
    this.#draw();
  }

  /** Show these frames, and no others. */
  replace(frames) {
    this.#timers.clear();
    frames.forEach((frame) => this.#keep(frame));
    this.#draw();
    this.changed();
  }

  /** Show what has happened to a timer. */
  take(frame) {
    if (GONE.includes(frame.event)) this.#timers.delete(frame.id);
    else this.#keep(frame);
    this.#draw();
    this.changed();
  }

  #keep(frame) {
    const state = frame.event === "finished" ? "ringing" : frame.state;
    this.#timers.set(frame.id, { ...frame, state, endsAt: performance.now() + 1000 * frame.seconds_left });
  }

  #draw() {
    const timers = [...this.#timers.values()].sort((one, other) => one.endsAt - other.endsAt);
    keep(byId("timers"), timers, (timer) => timer.id, make, (node, timer) => this.#fill(node, timer));
  }

  #fill(node, timer) {
    const { timer: usual, paused, over } = this.#texts;
    const left = timer.state === "paused" ? timer.seconds_left : (timer.endsAt - performance.now()) / 1000;
    const ringing = timer.state === "ringing";
    node.dataset.state = timer.state;
    say(node.children[0], timer.name || usual);
    say(node.children[1], ringing ? over : clock(Math.max(0, Math.ceil(left))));
    say(node.children[2], timer.state === "paused" ? paused : "");
  }
}

function make() {
  return element("li", { class: "timer" }, element("span", { class: "timer-name" }), element("b", {}), element("span"));
}

function clock(seconds) {
  const parts = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  if (!parts[0]) parts.shift();
  return parts.map((part, place) => (place ? String(part).padStart(2, "0") : String(part))).join(":");
}
