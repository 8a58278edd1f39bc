// The last runs, newest first, each with the time of its stages.

import { byId, element, keep, say, show } from "./dom.js";
import { Axis, elapsed, fillAxis, fillWaterfall, makeWaterfall, sentence, STAGES, waited } from "./waterfall.js";
import { clock, moment, span } from "./format.js";

const KEPT = 100;
const PAGE = 10;
const REDRAW_MS = 100;

export class Runs {
  #runs = [];
  #shown = PAGE;
  #mode = "wait";
  #timer = 0;

  /** `changed()` is called when a run begins or ends. */
  constructor(changed) {
    this.changed = changed;
    byId("runs-more").addEventListener("click", () => {
      this.#shown += PAGE;
      this.draw();
    });
    for (const radio of document.querySelectorAll("input[name=axis]")) {
      radio.addEventListener("change", () => {
        this.#mode = radio.value;
        this.draw();
      });
    }
    keep(byId("legend"), Object.entries(STAGES), ([name]) => name, makeLegend, () => {});
    byId("legend").append(element("li", {}, element("span", { class: "first-sound key" }), "First sound or word"));
  }

  /** Replace all runs by `runs`, except those that were updated after `since`: that list may be older than they are. */
  replace(runs, since) {
    const newer = this.#runs.filter((run) => run.updated >= since);
    const ids = new Set(newer.map((run) => run.id));
    const listed = runs.filter((run) => !ids.has(run.id));
    this.#runs = [...newer, ...listed.map((run) => ({ ...run, zero: zeroOf(run), updated: since }))];
    this.#order();
    this.draw();
    this.changed();
  }

  /** Update one run. */
  take(run) {
    const index = this.#runs.findIndex((known) => known.id === run.id);
    const zero = zeroOf(run, this.#runs[index]?.zero);
    const updated = { ...run, zero, updated: performance.now() };
    if (index >= 0) this.#runs[index] = updated;
    else this.#runs.unshift(updated);
    this.#order();
    this.draw();
    if (index < 0 || run.total_ms !== null) this.changed();
  }

  #order() {
    this.#runs.sort((one, other) => Date.parse(other.began) - Date.parse(one.began));
    this.#runs.length = Math.min(this.#runs.length, KEPT);
  }

  /** Return the waiting times of the last runs with a question and an answer that was heard, in milliseconds. */
  get waits() {
    const asked = (run) => run.stages.some((stage) => stage.name === "chat");
    const heard = this.#runs.filter((run) => run.outcome === "done" && asked(run) && run.marks.first_audio_ms !== undefined);
    return heard.slice(0, 20).map(waited);
  }

  /** Draw everything; repeatedly while a run is in progress. */
  draw() {
    clearTimeout(this.#timer);
    const runs = this.#runs.slice(0, this.#shown);
    const axis = new Axis(runs, this.#mode);
    show(byId("runs-empty"), runs.length === 0);
    show(byId("axis"), runs.length > 0);
    show(byId("legend"), runs.length > 0);
    show(byId("runs-more"), this.#runs.length > this.#shown);
    fillAxis(byId("axis"), byId("runs"), axis);
    keep(byId("runs"), runs, (run) => run.id, makeRun, (node, run) => fillRun(node, run, axis));
    const live = !document.body.classList.contains("stale"); // without the feed, the end of a run would be missed
    if (live && runs.some((run) => run.total_ms === null)) this.#timer = setTimeout(() => this.draw(), REDRAW_MS);
  }
}

/** Return when, on this page's clock, a run began: the earliest time that its updates allow. */
function zeroOf(run, known = Infinity) {
  const times = [0, ...run.stages.flatMap((stage) => [stage.start_ms, stage.end_ms ?? 0]), ...Object.values(run.marks ?? {})];
  return Math.min(known, performance.now() - Math.max(...times));
}

function makeLegend([name, title]) {
  const key = element("span", { class: "stage key" });
  key.dataset.stage = name;
  return element("li", {}, key, title);
}

function makeRun() {
  const summary = element(
    "summary",
    {},
    element("span", { class: "run-when" }, element("span"), element("span", { class: "secondary" })),
    element("span", { class: "run-heard", dir: "auto" }),
    makeWaterfall(),
    element("span", { class: "run-figure" }, element("b"), element("span", { class: "secondary" })),
    element("span", { class: "sr-only" }),
  );
  return element("li", { class: "run" }, element("details", {}, summary, element("div", { class: "run-more" })));
}

function fillRun(node, run, axis) {
  const [summary, more] = node.firstElementChild.children;
  const [when, heard, track, figure, spoken] = summary.children;
  node.dataset.outcome = run.outcome;
  say(when.children[0], clock(run.began));
  say(when.children[1], run.room.replace(/^http /, "HTTP "));
  say(heard, run.heard || unheard(run));
  heard.classList.toggle("secondary", !run.heard);
  fillWaterfall(track, run, axis);
  const [value, note] = figureOf(run, axis.mode);
  say(figure.children[0], value);
  say(figure.children[1], note);
  if (run.total_ms !== null) say(spoken, sentence(run));
  fillMore(more, run);
}

/** Return a description of a run without a transcript. */
function unheard(run) {
  if (run.outcome === "running") return "…";
  if (run.outcome === "cancelled" && !run.said) return "Cancelled";
  return run.error?.stage === "stt" ? "Nothing understood" : (run.said ? `${asksNobody(run) ? "Spoken" : "Answer"}: ${run.said}` : "Transcript not kept");
}

/** Whether a run only speaks a text. */
const asksNobody = (run) => run.stages.every((stage) => stage.name === "tts");

function figureOf(run, mode) {
  if (run.outcome === "error") return [run.error?.code ?? "failed", "failed"];
  const wait = waited(run);
  if (mode === "wait" && wait !== null) {
    return [span(wait), run.marks.first_audio_ms === undefined ? "to the first word" : "to the first sound"];
  }
  if (run.outcome === "running") return [span(elapsed(run)), "so far"];
  return [span(run.total_ms), run.outcome === "cancelled" ? "cancelled" : "total"];
}

function fillMore(more, run) {
  const facts = [
    ["Heard", run.heard],
    ["Said", run.said],
    ["Answered by", run.provider ?? ""],
    ["Reason for the switch", run.switch_reason ?? ""],
    ["Began", moment(run.began)],
    ["Error", run.error ? `${run.error.text} (${run.error.code})` : ""],
  ].filter(([, text]) => text);
  const stages = run.stages.map((stage) => [
    STAGES[stage.name] ?? stage.name,
    span(stage.start_ms),
    stage.end_ms === null ? "running" : span(stage.end_ms - stage.start_ms),
  ]);
  if (more.children.length === 0) {
    more.append(element("dl", { class: "facts" }), makeTable(), element("p", { class: "secondary run-id" }));
  }
  const [list, table, id] = more.children;
  keep(list, facts, ([name]) => name, ([name]) => element("div", {}, element("dt", {}, name), element("dd", { dir: "auto" })), (node, [, text]) =>
    say(node.children[1], text));
  const makeRow = () => element("tr", {}, element("th", { scope: "row" }), element("td"), element("td"));
  keep(table.tBodies[0], stages, (cells) => stages.indexOf(cells), makeRow, (node, cells) =>
    cells.forEach((text, index) => say(node.children[index], text)));
  say(id, `Run ${run.id}${run.total_ms === null ? "" : `, ${span(run.total_ms)} total`}`);
}

function makeTable() {
  const head = element("tr", {}, ...["Stage", "Start", "Duration"].map((name) => element("th", { scope: "col" }, name)));
  return element("table", {}, element("caption", { class: "sr-only" }, "Stages of this run"), element("thead", {}, head), element("tbody"));
}
