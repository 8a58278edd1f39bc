// Plays sound as it arrives, without gaps.

export class Player {
  #context = null;
  #node = null;
  #gain = null;
  #volume = 1;
  #queue = Promise.resolve();
  #generation = 0;

  /** `played(sound)` is called after the end of each, `failed(error)` if nothing can be played. */
  constructor(played, failed) {
    this.played = played;
    this.failed = failed;
  }

  /** Whether the browser plays sound; it does not before somebody has touched the page. */
  get running() {
    return this.#context?.state === "running";
  }

  /**
   * Get ready for sound of `rate` hertz; call it on a click too, because browsers play nothing without a user's action.
   * Where it is late, no more than `mostSeconds` of it wait to be played.
   */
  prepare(rate, mostSeconds = Infinity) {
    const generation = this.#generation;
    this.#queue = this.#queue.then(() => this.#open()).catch(this.failed);
    this.#queue = this.#queue.then(() => generation === this.#generation && this.#node?.port.postMessage({ rate, mostSeconds }));
    return this.#queue;
  }

  /** Let the browser play sound from now on; on a click. */
  async allow() {
    await this.#context?.resume();
  }

  /** Play `pcm`, 16-bit mono, after what is playing. */
  play(pcm) {
    this.#post(pcm, [pcm]);
  }

  /** End a sound, of which no more follows; `sound` names it. */
  end(sound = null) {
    this.#post({ ended: sound });
  }

  /** Stop playing. */
  clear() {
    this.#generation++;
    this.#node?.port.postMessage("clear");
  }

  /** Play at `volume`, from 0 to 1, from now on. */
  set volume(volume) {
    this.#volume = volume;
    this.#gain?.gain.setTargetAtTime(volume, this.#context.currentTime, 0.02); // a step would click
  }

  #post(message, transfer = []) {
    const generation = this.#generation;
    this.#queue = this.#queue.then(() => {
      if (generation === this.#generation) this.#node?.port.postMessage(message, transfer);
    });
  }

  async #open() {
    if (!this.#context) {
      const context = new AudioContext();
      this.#context = context;
      await context.audioWorklet.addModule(new URL("player_worklet.js", import.meta.url));
      this.#node = new AudioWorkletNode(context, "player", { numberOfInputs: 0, outputChannelCount: [1] });
      this.#node.port.onmessage = ({ data }) => this.played(data);
      this.#gain = new GainNode(context, { gain: this.#volume });
      this.#node.connect(this.#gain).connect(context.destination);
    }
    // Not awaited: until somebody touches the page this takes for ever, and the sound waits in the node.
    if (this.#context.state === "suspended") this.#context.resume().catch(this.failed);
  }
}
