// The live feed of the daemon's state, while the page is open.

import { address, request } from "./api.js";
import { backoff } from "./backoff.js";
import { byId, say, show } from "./dom.js";

/** A feed that is silent for so long is dead; the daemon sends something every 15 s. */
const SILENT_MS = 25000;

export class Live {
  #source = null;
  #alive = 0;
  #attempt = 0;
  #timer = 0;

  /** `handlers`: status(status), run(run), connected() and lost(), whenever the feed begins and breaks. */
  constructor(handlers) {
    this.handlers = handlers;
    byId("lost-retry").addEventListener("click", () => this.open());
    addEventListener("online", () => this.open());
    addEventListener("pagehide", () => this.close());
    addEventListener("pageshow", (event) => event.persisted && this.open());
  }

  /** Connect, or reconnect at once. */
  async open() {
    this.close();
    const attempt = ++this.#alive;
    try {
      // EventSource does not report why it was refused; a request does.
      await request("status");
    } catch (error) {
      if (attempt === this.#alive && error.status !== 401) this.#lose(error.status ? error.message : undefined);
      return;
    }
    if (attempt === this.#alive) this.#listen();
  }

  close() {
    clearTimeout(this.#timer);
    this.#source?.close();
    this.#source = null;
    this.#alive++;
  }

  #listen() {
    const source = new EventSource(address("events"));
    this.#source = source;
    this.#watch();
    source.addEventListener("open", () => {
      this.#attempt = 0;
      show(byId("lost"), false);
      document.body.classList.remove("stale");
      this.handlers.connected();
    });
    for (const name of ["status", "run"]) {
      source.addEventListener(name, (event) => {
        this.#watch();
        this.handlers[name](JSON.parse(event.data));
      });
    }
    source.addEventListener("error", () => this.#lose());
  }

  #watch() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#lose(), SILENT_MS);
  }

  #lose(why = "Showing the last known state.") {
    this.close();
    this.#timer = setTimeout(() => this.open(), backoff(this.#attempt++));
    document.body.classList.add("stale");
    say(byId("lost-message"), `${why.replace(/\.?$/, ".")} Reconnecting …`);
    show(byId("lost"), true);
    this.handlers.lost();
  }
}
