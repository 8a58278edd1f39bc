// The connection of the room page to the daemon: it joins, tries again when it was lost, and notices silence.

import { address, request } from "./api.js";
import { backoff } from "./backoff.js";

/** A daemon that is silent for so long is gone; it sends something every 5 s. */
const SILENT_MS = 13000;
/** Most bytes that a slow network holds back before sound is dropped: 4 s. */
const BACKLOG_BYTES = 128000;
/** The code with which the daemon closes the connection when another browser takes the room's name. */
const TAKEN_OVER = 4001;

export class Link {
  #socket = null;
  #attempt = 0;
  #opening = 0;
  #timer = 0;
  #silence = 0;

  /** `handlers`: join() returns the first frame; frame(frame), sound(pcm), lost(taken) when the connection has gone. */
  constructor(handlers) {
    this.handlers = handlers;
    addEventListener("online", () => this.#retry());
    document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && this.#retry());
  }

  /** Connect, or connect again. */
  async open() {
    this.close();
    const opening = ++this.#opening;
    try {
      await request("rooms"); // a WebSocket does not report why it was refused
    } catch (error) {
      if (opening === this.#opening && error.status !== 401) this.#lose();
      return;
    }
    if (opening === this.#opening) this.#connect();
  }

  /** Disconnect, and stay so. */
  close() {
    this.#opening++;
    clearTimeout(this.#timer);
    clearTimeout(this.#silence);
    const socket = this.#socket;
    this.#socket = null;
    this.#timer = 0;
    socket?.close();
  }

  /** Send a frame, if there is a connection. */
  send(frame) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(frame));
  }

  /** Send a piece of the microphone's sound, unless too many wait already. */
  sendSound(pcm) {
    const socket = this.#socket;
    if (socket?.readyState === WebSocket.OPEN && socket.bufferedAmount < BACKLOG_BYTES) socket.send(pcm);
  }

  #connect() {
    const socket = new WebSocket(address("room/ws", "ws"));
    socket.binaryType = "arraybuffer";
    this.#socket = socket;
    this.#watch();
    socket.onmessage = ({ data }) => {
      if (socket !== this.#socket) return;
      this.#watch();
      if (data instanceof ArrayBuffer) this.handlers.sound(data);
      else this.#take(JSON.parse(data));
    };
    socket.onclose = ({ code }) => socket === this.#socket && this.#lose(code === TAKEN_OVER);
  }

  #take(frame) {
    if (frame.type === "ready") this.send(this.handlers.join());
    else if (frame.type === "welcome") this.#attempt = 0;
    this.handlers.frame(frame);
  }

  #watch() {
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => this.#lose(), SILENT_MS);
  }

  #lose(taken = false) {
    this.close();
    if (!taken) this.#timer = setTimeout(() => this.open(), backoff(this.#attempt++));
    this.handlers.lost(taken);
  }

  /** Try at once what would be tried later. */
  #retry() {
    if (this.#timer) this.open();
  }
}
