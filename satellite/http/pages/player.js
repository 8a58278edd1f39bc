// Plays an answer's sound as it arrives, without gaps.

export class Player {
  #node = null;
  #context = null;
  #queue = Promise.resolve();
  #generation = 0;

  /** `played()` is called after the last sound, `failed(error)` if nothing can be played. */
  constructor(played, failed) {
    this.played = played;
    this.failed = failed;
  }

  /** Get ready for sound of `rate` hertz; call it on a click too, because browsers play nothing without a user's action. */
  prepare(rate) {
    this.#queue = this.#queue.then(() => this.#open(rate)).catch(this.failed);
  }

  /** Play `pcm`, 16-bit mono, after what is playing. */
  play(pcm) {
    this.#post(pcm, [pcm]);
  }

  /** End the sound: no more follows. */
  end() {
    this.#post("end");
  }

  /** Stop playing. */
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
