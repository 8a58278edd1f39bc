// Requests to the daemon: the token, errors, server-sent events in an answer.

import { element } from "./dom.js";

const KEY = "satellite-token";

/** The token of this tab, or of this browser if it is kept; empty without one. */
export const token = {
  get: () => sessionStorage.getItem(KEY) ?? localStorage.getItem(KEY) ?? "",
  set(value, kept = false) {
    sessionStorage.removeItem(KEY);
    localStorage.removeItem(KEY);
    if (value) (kept ? localStorage : sessionStorage).setItem(KEY, value);
  },
};

/** A request that failed. `status` is 0 if the daemon cannot be reached; `details` are its problem details (RFC 9457). */
export class Problem extends Error {
  constructor(message, status = 0, details = {}) {
    super(message);
    this.status = status;
    this.details = details;
  }
}

/** Return the address of `path`, with the token, for requests that cannot send a header. */
export function address(path, scheme = "") {
  const url = new URL(path, document.baseURI);
  if (scheme) url.protocol = url.protocol === "https:" ? `${scheme}s:` : `${scheme}:`;
  if (token.get()) url.searchParams.set("token", token.get());
  return url.href;
}

/** Request `path` and return the response. Throws a `Problem`; one with status 401 also asks for a new token. */
export async function request(path, { body, accept = "application/json", signal } = {}) {
  const headers = { Accept: accept };
  if (token.get()) headers.Authorization = `Bearer ${token.get()}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(new URL(path, document.baseURI), {
      method: body === undefined ? "GET" : "POST",
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
      signal,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The daemon cannot be reached.");
  }
  if (response.ok) return response;
  if (response.status === 401) document.dispatchEvent(new CustomEvent("sign-in-needed"));
  throw await problemOf(response);
}

/** Return the JSON object at `path`. */
export const json = async (path, options) => (await request(path, options)).json();

/** Open what is at `path`, which a link cannot do: it sends no token. */
export async function openText(path) {
  const tab = open("", "_blank"); // now, or the browser takes it for an advertisement
  try {
    const text = await (await request(path, { accept: "*/*" })).text();
    const url = URL.createObjectURL(new Blob([text], { type: "text/plain;charset=utf-8" }));
    if (tab) tab.location.replace(url);
    else element("a", { href: url, download: path.split("/").at(-1) }).click();
  } catch (error) {
    tab?.close();
    throw error;
  }
}

/** Yield `{event, data}` of a response that is an event stream. */
export async function* eventsOf(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read().catch(broken);
      if (done) return;
      const blocks = (rest + value).replaceAll("\r\n", "\n").split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const event = parsed(block);
        if (event) yield event;
      }
    }
  } finally {
    await reader.cancel().catch(() => {}); // it may have ended by itself
  }
}

function broken(error) {
  if (error.name === "AbortError") throw error;
  throw new Problem("The connection to the daemon was lost.");
}

function parsed(block) {
  let event = "message";
  const data = [];
  for (const line of block.split("\n")) {
    if (line.startsWith("event:")) event = line.slice(6).trim();
    else if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
  }
  return data.length ? { event, data: JSON.parse(data.join("\n")) } : null;
}

async function problemOf(response) {
  const details = await response.json().catch(() => ({})); // a proxy in between may answer with anything
  const message = details.detail || details.title || `The daemon answered with ${response.status}.`;
  return new Problem(message, response.status, details);
}
