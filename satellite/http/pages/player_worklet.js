// Runs in the audio thread: plays the pieces that it receives without gaps, whatever their rate.

import { Resampler } from "./resampler.js";

class Player extends AudioWorkletProcessor {
  #resampler = new Resampler(sampleRate, sampleRate);
  #pieces = [];
  #offset = 0;
  #over = false;

  constructor() {
    super();
    this.port.onmessage = ({ data }) => {
      if (data === "clear") this.#clear();
      else if (data === "end") this.#over = true;
      else if (data.rate) this.#resampler = new Resampler(data.rate, sampleRate);
      else this.#pieces.push(this.#resampler.feed(Float32Array.from(new Int16Array(data), (sample) => sample / 32768)));
    };
  }

  process(_, [[output]]) {
    let written = 0;
    while (written < output.length && this.#pieces.length) {
      const piece = this.#pieces[0];
      const count = Math.min(output.length - written, piece.length - this.#offset);
      for (let index = 0; index < count; index++) output[written + index] = piece[this.#offset + index];
      written += count;
      this.#offset += count;
      if (this.#offset === piece.length) {
        this.#pieces.shift();
        this.#offset = 0;
      }
    }
    if (this.#over && !this.#pieces.length) {
      this.#over = false;
      this.port.postMessage("played");
    }
    return true;
  }

  #clear() {
    this.#pieces = [];
    this.#offset = 0;
    this.#over = false;
  }
}

registerProcessor("player", Player);
