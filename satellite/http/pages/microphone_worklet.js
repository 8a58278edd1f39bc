// Runs in the audio thread: converts the microphone's sound to 16 kHz 16-bit mono, in blocks of 32 ms.

import { Resampler } from "./resampler.js";

const RATE = 16000;
const BLOCK = 512;

class Microphone extends AudioWorkletProcessor {
  #resampler = new Resampler(sampleRate, RATE);
  #block = new Int16Array(BLOCK);
  #filled = 0;

  process([input]) {
    if (!input.length) return true;
    for (const sample of this.#resampler.feed(input[0])) {
      this.#block[this.#filled++] = Math.max(-1, Math.min(1, sample)) * 32767;
      if (this.#filled === BLOCK) this.#send();
    }
    return true;
  }

  #send() {
    this.port.postMessage(this.#block.buffer, [this.#block.buffer]);
    this.#block = new Int16Array(BLOCK);
    this.#filled = 0;
  }
}

registerProcessor("microphone", Microphone);
