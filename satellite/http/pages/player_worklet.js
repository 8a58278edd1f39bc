// Runs in the audio thread: plays the pieces that it receives without gaps.

class Player extends AudioWorkletProcessor {
  #pieces = [];
  #offset = 0;
  #over = false;

  constructor() {
    super();
    this.port.onmessage = ({ data }) => {
      if (data === "clear") {
        this.#pieces = [];
        this.#offset = 0;
        this.#over = false;
      } else if (data === "end") this.#over = true;
      else this.#pieces.push(new Int16Array(data));
    };
  }

  process(_, [[output]]) {
    let written = 0;
    while (written < output.length && this.#pieces.length) {
      const piece = this.#pieces[0];
      const count = Math.min(output.length - written, piece.length - this.#offset);
      for (let index = 0; index < count; index++) output[written + index] = piece[this.#offset + index] / 32768;
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
}

registerProcessor("player", Player);
