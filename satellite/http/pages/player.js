// Plays an answer's sound as it comes, without gaps.

export class Player {
  #node = null;
  #context = null;
  #queue = Promise.resolve();
  #generation = 0;

  /** `played()` is called once everything that was to be played has been, `failed(error)` when nothing can be. */
  constructor(played, failed) {
    this.played = played;
    this.failed = failed;
  }

  /** Get ready for sound of `rate` hertz; call it on a click as well, since browsers play nothing unasked. */
  prepare(rate) {
    this.#queue = this.#queue.then(() => this.#open(rate)).catch(this.failed);
  }

  /** Play `pcm`, 16-bit mono, behind what is playing. */
  play(pcm) {
    this.#post(pcm, [pcm]);
  }

  /** No more is to come. */
  end() {
    this.#post("end");
  }

  /** Be silent now. */
  clear() {
    this.#generation++;
    this.#node?.port.postMessage("clear");
  }

  #post(message, transfer = []) {
    const generation = this.#generation;
    this.#queue = this.#queue.then(() => {
      if (generation === this.#generation) this.#node?.port.postMessage(message, transfer);
    });
  }

  async #open(rate) {
    if (this.#context?.sampleRate !== rate) {
      await this.#context?.close();
      this.#context = new AudioContext({ sampleRate: rate });
      await this.#context.audioWorklet.addModule(new URL("player_worklet.js", import.meta.url));
      this.#node = new AudioWorkletNode(this.#context, "player", { numberOfInputs: 0, outputChannelCount: [1] });
      this.#node.port.onmessage = () => this.played();
      this.#node.connect(this.#context.destination);
    }
    if (this.#context.state === "suspended") await this.#context.resume();
  }
}
