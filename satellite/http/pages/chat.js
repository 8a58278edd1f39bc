// Asking by text; the words stream in.

import { eventsOf, request } from "./api.js";
import { byId, say } from "./dom.js";
import { addEntry, complete, fail, fillEntry } from "./log.js";
import { span } from "./words.js";

export class Chat {
  #asking = null;

  /** `conversation` is `{id}`, shared with the voice. */
  constructor(conversation) {
    this.conversation = conversation;
    byId("ask").addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.#asking) this.stop();
      else this.#ask(byId("ask-text").value.trim());
    });
  }

  /** Stop the answer that is being given. */
  stop() {
    this.#asking?.abort();
  }

  async #ask(text) {
    if (!text) return;
    byId("ask-text").value = "";
    addEntry("you", text);
    const answer = addEntry("house");
    this.#asking = new AbortController();
    say(byId("ask-send"), "Stop");
    let whole = "";
    try {
      const body = { text, ...(this.conversation.id ? { conversation_id: this.conversation.id } : {}) };
      const response = await request("chat", { body, accept: "text/event-stream", signal: this.#asking.signal });
      for await (const { event, data } of eventsOf(response)) {
        if (event === "delta") fillEntry(answer, (whole += data.text));
        else if (event === "done") this.#done(answer, data);
        else if (event === "error") fail(answer, data.detail ?? data.title);
      }
    } catch (error) {
      if (error.name === "AbortError") complete(answer, whole.trim() || "Stopped.", whole ? "stopped" : "");
      else fail(answer, error.message);
    } finally {
      this.#asking = null;
      say(byId("ask-send"), "Send");
    }
  }

  #done(answer, told) {
    this.conversation.id = told.conversation_id;
    const first = told.timings_ms?.first_token_ms ?? told.timings_ms?.first_token;
    complete(answer, told.text, [told.provider, first === undefined ? "" : `first word after ${span(first)}`].filter(Boolean).join(" · "));
  }
}
