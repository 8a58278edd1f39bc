// Figures and names in readable form.

/** Return milliseconds as "85 ms" or "1.24 s". */
export function span(ms) {
  if (ms === null || ms === undefined || Number.isNaN(ms)) return "–";
  if (Math.abs(ms) < 1000) return `${Math.round(ms)} ms`;
  if (Math.abs(ms) < 60000) return `${(ms / 1000).toFixed(ms < 9995 ? 2 : 1)} s`;
  return `${Math.floor(ms / 60000)} min ${Math.round((ms % 60000) / 1000)} s`;
}

/** Return seconds in their largest unit. */
export function roughly(seconds) {
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["min", 60]]) {
    if (seconds >= size) return `${Math.floor(seconds / size)} ${unit}`;
  }
  return `${Math.floor(seconds)} s`;
}

/** Return bytes in GiB. */
export const gib = (bytes) => (bytes / 2 ** 30).toFixed(1);

/** Return a time of today as clock, of another day with its date. */
export function moment(iso) {
  const at = new Date(iso);
  if (Number.isNaN(at.getTime())) return "";
  const clock = at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
  if (at.toDateString() === new Date().toDateString()) return clock;
  return `${at.toLocaleDateString([], { day: "numeric", month: "short" })}, ${clock}`;
}

/** Return the minute of a time of today, of another day with its date. */
export function clock(iso) {
  const at = new Date(iso);
  const time = at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  if (at.toDateString() === new Date().toDateString()) return time;
  return `${at.toLocaleDateString([], { day: "numeric", month: "short" })}, ${time}`;
}

/** Return `count` with its noun. */
export const counted = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;

/** Return `text` with a capital in front, unless it begins with a name such as of a model. */
export const capital = (text) => (/^[a-z]+([ ,;.]|$)/.test(text) ? text[0].toUpperCase() + text.slice(1) : text);

/** Return `text` without its full stop, to continue the sentence. */
export const unstopped = (text) => text.replace(/[.\s]+$/, "");

const PLAIN = { open: "down", "half-open": "trying again", closed: "ready", "on-cpu": "on the CPU", "partly-on-cpu": "partly on the CPU" };

/** Return the name of a state as it is shown. */
export const stateName = (state) => PLAIN[state] ?? String(state).replaceAll("-", " ");

/** Return names as a list: "kitchen, study and bath". */
export function listed(names) {
  return names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
}

/** Return `text` as a sentence of its own. */
export const sentenceOf = (text) => (/[.!?…]$/.test(text.trim()) ? capital(text.trim()) : `${capital(text.trim())}.`);

/** Return the median of numbers; undefined of none. */
export function median(numbers) {
  const sorted = [...numbers].sort((one, other) => one - other);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 ? sorted[middle] : sorted.length ? (sorted[middle - 1] + sorted[middle]) / 2 : undefined;
}
