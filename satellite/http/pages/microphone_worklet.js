// Runs in the audio thread: converts the microphone's sound to 16 kHz 16-bit mono, in blocks of 32 ms.

const RATE = 16000;
const BLOCK = 512;
/** Zero crossings of the filter on either side; enough to suppress what lies above 8 kHz. */
const CROSSINGS = 12;

class Downsampler {
  #ratio = sampleRate / RATE;
  #reach = Math.ceil(CROSSINGS * Math.max(1, this.#ratio));
  #input = new Float32Array(this.#reach);
  #position = this.#reach;
  #kernels = new Map();

  /** Return the samples at 16 kHz that `block` completes. */
  feed(block) {
    const input = new Float32Array(this.#input.length + block.length);
    input.set(this.#input);
    input.set(block, this.#input.length);
    const made = [];
    while (Math.floor(this.#position) + this.#reach < input.length) {
      const whole = Math.floor(this.#position);
      const kernel = this.#kernel(this.#position - whole);
      let sum = 0;
      for (let tap = 0; tap < kernel.length; tap++) sum += kernel[tap] * input[whole - this.#reach + 1 + tap];
      made.push(sum);
      this.#position += this.#ratio;
    }
    const spent = Math.max(0, Math.floor(this.#position) - this.#reach);
    this.#input = input.slice(spent);
    this.#position -= spent;
    return made;
  }

  /** Return the filter for a place between two samples; there are as many as the two rates have phases. */
  #kernel(fraction) {
    const phase = Math.round(fraction * 480) / 480;
    if (!this.#kernels.has(phase)) this.#kernels.set(phase, this.#designed(phase));
    return this.#kernels.get(phase);
  }

  #designed(phase) {
    const cutoff = Math.min(1, 1 / this.#ratio) * 0.95;
    const kernel = new Float32Array(2 * this.#reach);
    let total = 0;
    for (let tap = 0; tap < kernel.length; tap++) {
      const away = tap - this.#reach + 1 - phase;
      const angle = Math.PI * away * cutoff;
      const window = 0.5 + 0.5 * Math.cos((Math.PI * away) / (this.#reach + 1));
      kernel[tap] = (angle === 0 ? 1 : Math.sin(angle) / angle) * window;
      total += kernel[tap];
    }
    return kernel.map((value) => value / total);
  }
}

class Microphone extends AudioWorkletProcessor {
  #downsampler = new Downsampler();
  #block = new Int16Array(BLOCK);
  #filled = 0;

  process([input]) {
    if (!input.length) return true;
    for (const sample of this.#downsampler.feed(input[0])) {
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
