// Asking by text; the words stream in.

import { eventsOf, Problem, request } from "./api.js";
import { byId, say } from "./dom.js";
import { addEntry, complete, fail, fillEntry, remove } from "./log.js";
import { span } from "./words.js";

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

  /** Stop the answer that is being given. */
  stop() {
    this.#asking?.abort();
  }

  /** What the button does: a message goes first, also amid an answer. */
  #label() {
    say(byId("ask-send"), this.#asking && !byId("ask-text").value.trim() ? "Stop" : "Send");
  }

  /** Ask; an answer that is being given ends there. */
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
      if (!over) throw new Problem("The answer broke off.");
    } catch (error) {
      if (error.name === "AbortError") complete(answer, whole.trim() || "Stopped.", whole ? "stopped" : "");
      else fail(answer, error.message);
    } finally {
      if (this.#asking === asking) this.#asking = null;
      this.#label();
    }
  }

  /** Return the answer's stream; a question that was not taken goes back to where it was typed. */
  async #asked(text, signal, question) {
    try {
      const body = { text, conversation_id: this.conversation.id };
      return await request("chat", { body, accept: "text/event-stream", signal });
    } catch (error) {
      const field = byId("ask-text");
      if (error.name !== "AbortError" && !field.value) {
        remove(question);
        field.value = text;
        error.message += " Your message is still in the box.";
      }
      throw error;
    }
  }

  #done(answer, told) {
    const first = told.timings_ms?.first_token;
    complete(answer, told.text, [told.provider, first === undefined ? "" : `first word after ${span(first)}`].filter(Boolean).join(" · "));
  }
}

/** Return a name for a conversation that nobody can guess; `randomUUID` needs https. */
function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
