// Changes the rate of a stream of samples; used in the audio thread.

/** Zero crossings of the filter on either side; enough to suppress what one of the two rates cannot hold. */
const CROSSINGS = 12;
/** Places between two samples that a filter is made for. */
const PHASES = 480;

export class Resampler {
  #ratio;
  #reach;
  #input;
  #position;
  #kernels = new Map();

  /** Convert from `from` to `to` samples a second. */
  constructor(from, to) {
    this.#ratio = from / to;
    this.#reach = Math.ceil(CROSSINGS * Math.max(1, this.#ratio));
    this.#input = new Float32Array(this.#reach);
    this.#position = this.#reach;
  }

  /** Return the samples that `block` completes. */
  feed(block) {
    if (this.#ratio === 1) return block;
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

  #kernel(fraction) {
    const phase = Math.round(fraction * PHASES) / PHASES;
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
