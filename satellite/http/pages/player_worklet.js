// Runs in the audio thread: plays the pieces that it receives without gaps, whatever their rate.

import { Resampler } from "./resampler.js";

class Player extends AudioWorkletProcessor {
  #resampler = new Resampler(sampleRate, sampleRate);
  /** Samples, and the ends of sounds among them. */
  #pieces = [];
  #offset = 0;
  /** Samples that wait, and how many may; the oldest of more are dropped. */
  #waiting = 0;
  #most = Infinity;

  constructor() {
    super();
    this.port.onmessage = ({ data }) => {
      if (data === "clear") {
        this.#pieces = [];
        this.#offset = this.#waiting = 0;
      } else if (data.rate) {
        this.#resampler = new Resampler(data.rate, sampleRate);
        this.#most = data.mostSeconds * sampleRate;
      } else if ("ended" in data) this.#pieces.push(data);
      else this.#take(this.#resampler.feed(Float32Array.from(new Int16Array(data), (sample) => sample / 32768)));
    };
  }

  process(_, [[output]]) {
    let written = 0;
    while (this.#pieces.length) {
      const piece = this.#pieces[0];
      if ("ended" in piece) this.port.postMessage(piece.ended);
      else {
        const count = Math.min(output.length - written, piece.length - this.#offset);
        for (let index = 0; index < count; index++) output[written + index] = piece[this.#offset + index];
        written += count;
        this.#waiting -= count;
        this.#offset += count;
        if (this.#offset < piece.length) break;
      }
      this.#pieces.shift();
      this.#offset = 0;
    }
    return true;
  }

  #take(piece) {
    this.#pieces.push(piece);
    this.#waiting += piece.length;
    while (this.#waiting > this.#most && this.#pieces[0] !== piece && !("ended" in this.#pieces[0])) {
      this.#waiting -= this.#pieces.shift().length - this.#offset;
      this.#offset = 0;
    }
  }
}

registerProcessor("player", Player);
