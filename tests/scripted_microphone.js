// Runs in a page before its own scripts: its microphone hears what a test says.

{
  let context = null;
  let heard = null;
  navigator.mediaDevices.getUserMedia = async (wanted) => {
    globalThis.microphoneWanted = wanted.audio;
    if (globalThis.refusal) throw new DOMException("refused", globalThis.refusal);
    context ??= new AudioContext();
    heard ??= context.createMediaStreamDestination();
    await context.resume();
    return heard.stream.clone();
  };

  /** Say a WAV file, given as base64. */
  globalThis.speak = async (base64) => {
    const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
    const source = new AudioBufferSourceNode(context, { buffer: await context.decodeAudioData(bytes.buffer) });
    source.connect(heard);
    source.start();
  };
}
