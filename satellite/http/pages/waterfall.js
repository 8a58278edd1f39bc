// A run as bars on the axis that all runs share.

import { element, keep, say } from "./dom.js";
import { span } from "./format.js";

/** The stages of a run, in order, with their titles. */
export const STAGES = {
  wake: "Wake word",
  listen: "Listening",
  stt: "Speech to text",
  chat: "Chat model",
  tts: "Text to speech",
};

/** Part of the axis before zero, which is the end of listening. */
const BEFORE = 0.1;
/** A run this many times longer than usual, and longer than this, is cut off: it would squeeze the others. */
const OUTLIER = 4;
const OUTLIER_MS = 5000;

/** Return milliseconds since a run began: of a running one, as of now. */
export function elapsed(run) {
  return run.total_ms ?? performance.now() - run.zero;
}

/** Return when in a run the wait for the answer began. */
export function waitBegan(run) {
  return run.marks?.speech_end_ms ?? (run.stages.find((stage) => stage.name !== "wake" && stage.name !== "listen")?.start_ms ?? 0);
}

/** Return the wait for the first sound, or for the first word; null if there was neither. */
export function waited(run) {
  const came = answered(run);
  return came === null ? null : Math.max(0, came - waitBegan(run));
}

/** Return the time of the answer's first sound, or of its first word; null if there was neither. */
function answered(run) {
  return run.marks?.first_audio_ms ?? run.marks?.first_token_ms ?? null;
}

/** The axis of a list of runs; `mode` is "wait", from the end of speech to the answer, or "whole". */
export class Axis {
  constructor(runs, mode) {
    this.mode = mode;
    const lengths = runs.map((run) => this.#length(run)).sort((one, other) => one - other);
    const usual = lengths[Math.floor(lengths.length / 2)] ?? 1000;
    const longest = Math.min(lengths.at(-1) ?? 1000, Math.max(usual * OUTLIER, OUTLIER_MS));
    this.step = niceStep(Math.max(longest, 200) / 4);
    this.after = Math.max(longest * 1.08, this.step);
    this.before = mode === "wait" ? this.after * BEFORE : 0;
  }

  /** Return the time in `run` that is zero on the axis. */
  zero(run) {
    return this.mode === "wait" ? waitBegan(run) : (run.stages.find((stage) => stage.name !== "wake")?.start_ms ?? 0);
  }

  /** Return a moment's place on the axis, 0 to 1 where it is visible. */
  place(run, ms) {
    return this.at(ms - this.zero(run));
  }

  /** Return the place of `ms` after zero. */
  at(ms) {
    return (ms + this.before) / (this.before + this.after);
  }

  /** Return the marks of the axis, milliseconds after zero. */
  get ticks() {
    const all = Array.from({ length: Math.floor(this.after / this.step) + 1 }, (_, index) => index * this.step);
    return all.filter((ms) => this.at(ms) < 0.97); // a label at the very end would be cut off
  }

  #length(run) {
    return this.mode === "wait" ? (waited(run) ?? elapsed(run) - waitBegan(run)) : elapsed(run) - this.zero(run);
  }
}

/** Return an empty waterfall, for `fillWaterfall`. */
export const makeWaterfall = () => element("span", { class: "track", ariaHidden: "true" });

/** Draw the stages of `run`. */
export function fillWaterfall(track, run, axis) {
  const now = elapsed(run);
  const bars = run.stages.map((stage, lane) => ({ ...stage, lane, end: stage.end_ms ?? now }));
  const first = answered(run);
  const parts = [...bars, ...(first === null ? [] : [{ name: "first-sound", end: first }])];
  track.style.setProperty("--lanes", Math.max(1, bars.length));
  keep(track, parts, (part) => `${part.name} ${part.lane ?? ""}`, makePart, (node, part) => fillPart(node, part, run, axis));
}

/** Draw the marks of `axis` and the lines below them. */
export function fillAxis(node, list, axis) {
  const step = axis.at(axis.step) - axis.at(0);
  list.style.setProperty("--zero", `${(axis.at(0) / (1 - step)) * 100}%`); // percents of what the pattern leaves free
  list.style.setProperty("--step", `${step * 100}%`);
  const make = () => element("span", { class: "tick" });
  keep(node, axis.ticks, (ms) => ms, make, (tick, ms) => {
    tick.style.left = `${axis.at(ms) * 100}%`;
    say(tick, ms === 0 ? (axis.mode === "wait" ? "end of speech" : "start") : ms < 1000 || axis.step < 1000 ? `${ms} ms` : `${ms / 1000} s`);
  });
}

/** Return `run` as a sentence, for screen readers. */
export function sentence(run) {
  const now = elapsed(run);
  const stages = run.stages.map((stage) => `${STAGES[stage.name] ?? stage.name} ${span((stage.end_ms ?? now) - stage.start_ms)}`);
  const wait = waited(run);
  return `${stages.join(", ")}.${wait === null ? "" : ` The answer began after ${span(wait)}.`}`;
}

function makePart(part) {
  return element("span", { class: part.name === "first-sound" ? "first-sound" : "stage" });
}

function fillPart(node, part, run, axis) {
  const clipped = (ms) => Math.min(1, Math.max(0, axis.place(run, ms)));
  if (part.name === "first-sound") {
    const place = axis.place(run, part.end);
    node.hidden = place > 1;
    node.style.left = `${clipped(part.end) * 100}%`;
    return;
  }
  const [start, end] = [clipped(part.start_ms), clipped(part.end)];
  node.dataset.stage = part.name;
  node.classList.toggle("running", part.end_ms === null);
  node.classList.toggle("cut-left", axis.place(run, part.start_ms) < 0);
  node.classList.toggle("cut-right", axis.place(run, part.end) > 1);
  node.hidden = end <= 0 || start >= 1;
  node.style.left = `${start * 100}%`;
  node.style.width = `${(end - start) * 100}%`;
  node.style.setProperty("--lane", part.lane);
  node.title = `${STAGES[part.name] ?? part.name}: ${span(part.end - part.start_ms)}`;
}

function niceStep(rough) {
  const size = 10 ** Math.floor(Math.log10(rough));
  return size * [1, 2, 5, 10].find((factor) => factor * size >= rough);
}
