// Questions by voice: the microphone's sound over a WebSocket, the answer's sound back.

import { address } from "./api.js";
import { announce, byId, element, say, show } from "./dom.js";
import { addEntry, complete, fail, fillEntry, textOf } from "./log.js";
import { Microphone, meaningOf, obstacle, onPermission } from "./microphone.js";
import { advice } from "./microphone_advice.js";
import { Player } from "./player.js";
import { capital } from "./format.js";

const USUAL_RATE = 22050;
const CONNECT_MS = 8000;
/** Most bytes that a slow WebSocket buffers before sound is dropped: 4 s. */
const BACKLOG_BYTES = 128000;

/** Label of the button and status text in each state. */
const STATES = {
  idle: { label: "Talk", status: "Ready" },
  opening: { label: "Cancel", status: "Opening the microphone…" },
  listening: { label: "Done", status: "Listening. Speak now" },
  thinking: { label: "Cancel", status: "Thinking…" },
  speaking: { label: "Interrupt", status: "Answering" },
};

export class Talk {
  #state = "idle";
  #socket = null;
  #microphone = null;
  #player = new Player(
    () => this.#end(),
    (error) => this.#break(`The answer cannot be played: ${error.message}`),
  );
  #question = null;
  #answer = null;
  #attempt = 0;
  #runOver = true;
  #soundOver = true;
  #awaited = false;

  /** `conversation` is `{id}`, shared with what is typed. */
  constructor(conversation) {
    this.conversation = conversation;
    byId("talk").addEventListener("click", () => this.#press());
    addEventListener("keydown", (event) => event.key === "Escape" && this.#state !== "idle" && this.#stop());
    addEventListener("pagehide", () => this.reset());
    onPermission(() => this.#showObstacle());
    this.#showObstacle();
  }

  /** Disconnect; the next question opens a new connection. */
  reset() {
    this.#attempt++;
    this.#player.clear();
    this.#microphone?.close();
    this.#microphone = null;
    this.#socket?.close();
    this.#socket = null;
    this.#become("idle");
  }

  #press() {
    if (this.#state === "idle") this.#begin();
    else if (this.#state === "listening") {
      this.#send({ type: "end" });
      this.#become("thinking");
    } else if (this.#state === "speaking") {
      this.#player.clear();
      this.#listen();
    } else this.#stop();
  }

  /** Open what is needed, and listen. */
  async #begin() {
    const attempt = ++this.#attempt;
    this.#become("opening");
    this.#player.prepare(USUAL_RATE);
    try {
      const forbidden = await obstacle();
      if (forbidden) return this.#refuse(forbidden);
      const [socket, microphone] = await Promise.allSettled([this.#connected(), this.#opened(attempt)]);
      if (attempt !== this.#attempt) return;
      if (microphone.reason) return this.#refuse(meaningOf(microphone.reason), microphone.reason);
      if (socket.reason) throw socket.reason;
      show(byId("mic-notice"), false);
      this.#listen();
    } catch (error) {
      this.#break(error.message);
    }
  }

  /** Open the microphone, and close it at once if it is no longer wanted. */
  async #opened(attempt) {
    const microphone = await Microphone.open((pcm, level) => this.#heard(pcm, level));
    if (attempt === this.#attempt) this.#microphone = microphone;
    else microphone.close();
  }

  #listen() {
    this.#expect();
    this.#send({ type: "listen" });
    this.#become("listening");
  }

  /** Another run is about to begin: ignore what still arrives from the previous one. */
  #expect() {
    this.#awaited = true;
    this.#runOver = this.#soundOver = false;
    this.#question = this.#answer = null;
  }

  /** Cancel the question or its answer. */
  #stop() {
    this.#send({ type: "cancel" });
    this.#attempt++;
    this.#finish();
  }

  #finish() {
    this.#player.clear();
    this.#microphone?.close();
    this.#microphone = null;
    if (this.#question && !this.#question.textContent.trim()) this.#question.remove();
    this.#become("idle");
  }

  /** The run is over and its sound has been played. */
  #end() {
    this.#soundOver = true;
    if (this.#runOver && this.#state !== "idle") this.#finish();
  }

  #break(message) {
    fail(this.#answer ?? addEntry("house"), message);
    this.#answer = null;
    this.reset();
  }

  #heard(pcm, level) {
    byId("talk").style.setProperty("--level", this.#state === "listening" ? level.toFixed(2) : 0);
    const wanted = this.#state === "listening" || (this.#state === "speaking" && byId("barge").checked);
    if (wanted && this.#socket?.readyState === WebSocket.OPEN && this.#socket.bufferedAmount < BACKLOG_BYTES) this.#socket.send(pcm);
  }

  #send(message) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  /** Return once the daemon is ready to listen. */
  async #connected() {
    if (this.#socket?.readyState === WebSocket.OPEN) return;
    this.#socket?.close();
    const socket = new WebSocket(address("ws", "ws"));
    socket.binaryType = "arraybuffer";
    this.#socket = socket;
    await new Promise((resolve, reject) => {
      const failed = () => reject(new Error("The daemon cannot be reached."));
      const late = setTimeout(failed, CONNECT_MS);
      socket.onopen = () => {
        this.#send({ type: "hello", speak: true, ...(this.conversation.id ? { conversation_id: this.conversation.id } : {}) });
        clearTimeout(late);
        resolve();
      };
      socket.onerror = failed;
      socket.onclose = failed;
    });
    socket.onmessage = ({ data }) => this.#take(data);
    socket.onerror = null;
    socket.onclose = () => {
      if (socket !== this.#socket) return;
      this.#socket = null;
      if (this.#state !== "idle") this.#break("The connection to the daemon was lost. Press Talk to try again.");
    };
  }

  #take(data) {
    if (data instanceof ArrayBuffer) {
      if (this.#state === "thinking" || this.#state === "speaking") this.#player.play(data);
      return;
    }
    const event = JSON.parse(data);
    if (event.type === "ready") this.conversation.id = event.conversation_id ?? this.conversation.id;
    else if (this.#state !== "idle") this.#step(event);
  }

  #step(event) {
    switch (event.type) {
      case "run-start":
        this.#player.clear(); // what the run before has said may still be playing
        this.#expect();
        this.#awaited = false;
        break;
      case "stt-start":
        if (this.#state !== "opening") this.#become("listening");
        break;
      case "stt-vad-end":
        this.#become("thinking");
        break;
      case "stt-resumed": // the speaker went on: what was answered so far is void
        this.#player.clear();
        this.#question?.remove();
        this.#answer?.remove();
        this.#question = this.#answer = null;
        this.#soundOver = false;
        this.#become("listening");
        break;
      case "stt-end":
        this.#question = event.text ? addEntry("you", event.text) : null;
        this.#become("thinking");
        break;
      case "chat-delta":
        this.#answer ??= addEntry("house");
        fillEntry(this.#answer, textOf(this.#answer) + event.text);
        break;
      case "chat-end":
        this.#answer ??= addEntry("house");
        complete(this.#answer, event.text, event.provider ?? "", { spoken: true });
        break;
      case "tts-start":
        this.#player.prepare(event.rate);
        this.#become("speaking");
        break;
      case "tts-end":
        this.#player.end();
        break;
      case "cancelled":
        this.#player.clear();
        this.#expect();
        break;
      case "error":
        fail(this.#answer ?? addEntry("house"), capital(event.text));
        this.#over();
        break;
      case "run-end":
        if (!this.#awaited) this.#over();
        break;
    }
  }

  /** The run has ended; its sound may still be playing. */
  #over() {
    this.#runOver = true;
    if (this.#soundOver || this.#state !== "speaking") this.#finish();
  }

  #become(state) {
    if (state === this.#state) return;
    this.#state = state;
    const button = byId("talk");
    button.dataset.state = state;
    if (state !== "listening") button.style.setProperty("--level", 0);
    say(byId("talk-label"), STATES[state].label);
    say(byId("talk-state"), STATES[state].status);
    // While the answer is heard, a screen reader would talk over it.
    if (state !== "speaking") announce(STATES[state].status);
  }

  #refuse(kind, error) {
    this.reset();
    const { title, steps } = this.#explain(kind, error);
    announce(`${title} ${steps[0]}`);
  }

  async #showObstacle() {
    const kind = await obstacle();
    if (kind) this.#explain(kind);
    else show(byId("mic-notice"), false);
  }

  #explain(kind, error) {
    const why = advice(kind, error);
    const list = element("ul", {}, ...why.steps.map((step) => element("li", {}, step)));
    const parts = [element("p", {}, element("strong", {}, why.title)), list, element("p", {}, "You can type instead.")];
    byId("mic-notice").replaceChildren(...parts);
    show(byId("mic-notice"), true);
    return why;
  }
}
