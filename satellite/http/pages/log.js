// The conversation: what people and the daemon said.

import { announce, byId, element, say, show } from "./dom.js";

/** Return a new entry; `who` is "you" or "house". */
export function addEntry(who, text = "") {
  show(byId("log-empty"), false);
  show(byId("forget"), true);
  const entry = element(
    "article",
    { class: `said ${who}` },
    element("span", { class: "sr-only" }, who === "you" ? "You: " : "Satellite: "),
    element("p", { class: "said-text", dir: "auto" }),
    element("p", { class: "said-note secondary" }),
  );
  byId("log").append(entry);
  fillEntry(entry, text);
  return entry;
}

/** Set the text of an entry; `note` is small print below it. */
export function fillEntry(entry, text, note = "") {
  const log = byId("log");
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 60;
  const [, said, noted] = entry.children;
  say(said, text);
  entry.classList.toggle("waiting", text === "");
  say(noted, note);
  show(noted, note !== "");
  if (atEnd || entry === log.lastElementChild) log.scrollTop = log.scrollHeight;
}

/** Return the text of an entry. */
export const textOf = (entry) => entry.children[1].textContent;

/** Complete an answer: screen readers read it once, not word by word, and not at all if it is spoken. */
export function complete(entry, text, note = "", { spoken = false } = {}) {
  fillEntry(entry, text, note);
  if (!spoken) announce(`Satellite: ${text}`);
}

/** Show an error in the log; the text before it stays. */
export function fail(entry, message) {
  const said = textOf(entry).trim();
  if (!said) entry.classList.add("failed");
  entry.classList.toggle("broken", said !== "");
  if (said) fillEntry(entry, said, message);
  else fillEntry(entry, message);
  announce(message);
}

/** Remove an entry. */
export const remove = (entry) => entry.remove();

/** Remove everything. */
export function clear() {
  for (const entry of document.querySelectorAll("#log .said")) entry.remove();
  show(byId("log-empty"), true);
  show(byId("forget"), false);
}
