// Questions by text; the answer is streamed.

import { eventsOf, Problem, request } from "./api.js";
import { byId, say } from "./dom.js";
import { addEntry, complete, fail, fillEntry, remove } from "./log.js";
import { span } from "./format.js";

export class Chat {
  #asking = null;

  /** `conversation` is `{id}`, shared with the voice. */
  constructor(conversation) {
    this.conversation = conversation;
    const field = byId("ask-text");
    byId("ask").addEventListener("submit", (event) => {
      event.preventDefault();
      const text = field.value.trim();
      if (text) this.#ask(text);
      else this.stop();
    });
    field.addEventListener("input", () => this.#label());
  }

  /** Stop the answer in progress. */
  stop() {
    this.#asking?.abort();
  }

  /** Label the button: it sends a message, also during an answer, and stops the answer if there is none. */
  #label() {
    say(byId("ask-send"), this.#asking && !byId("ask-text").value.trim() ? "Stop" : "Send");
  }

  /** Ask; an answer in progress is stopped. */
  async #ask(text) {
    this.stop();
    const asking = new AbortController();
    this.#asking = asking;
    byId("ask-text").value = "";
    this.#label();
    this.conversation.id ||= newId(); // known before the answer is, which may be stopped
    const [question, answer] = [addEntry("you", text), addEntry("house")];
    let whole = "";
    try {
      const response = await this.#asked(text, asking.signal, question);
      let over = false;
      for await (const { event, data } of eventsOf(response)) {
        over ||= event !== "delta";
        if (event === "delta") fillEntry(answer, (whole += data.text));
        else if (event === "done") this.#done(answer, data);
        else if (event === "error") fail(answer, data.detail ?? data.title);
      }
      if (!over) throw new Problem("The answer was interrupted.");
    } catch (error) {
      if (error.name === "AbortError") complete(answer, whole.trim() || "Stopped.", whole ? "stopped" : "");
      else fail(answer, error.message);
    } finally {
      if (this.#asking === asking) this.#asking = null;
      this.#label();
    }
  }

  /** Return the answer's stream; a question that was refused is put back into the text field. */
  async #asked(text, signal, question) {
    try {
      const body = { text, conversation_id: this.conversation.id };
      return await request("chat", { body, accept: "text/event-stream", signal });
    } catch (error) {
      const field = byId("ask-text");
      if (error.name !== "AbortError" && !field.value) {
        remove(question);
        field.value = text;
        error.message += " Your message was kept.";
      }
      throw error;
    }
  }

  #done(entry, answer) {
    const first = answer.timings_ms?.first_token;
    complete(entry, answer.text, [answer.provider, first === undefined ? "" : `first word after ${span(first)}`].filter(Boolean).join(" · "));
  }
}

/** Return an unguessable id for a conversation; `randomUUID` needs https. */
function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
