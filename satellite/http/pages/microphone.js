// The browser's microphone, and why it cannot be used.

/**
 * Return why the microphone cannot be used, before it is requested: `insecure`, `unsupported` or `denied`; "" if it can
 * be, as far as is known. `microphone_advice.js` says what to do.
 */
export async function obstacle() {
  if (!isSecureContext) return "insecure";
  if (!navigator.mediaDevices?.getUserMedia || !globalThis.AudioWorkletNode) return "unsupported";
  const permission = await navigator.permissions?.query({ name: "microphone" }).catch(() => null); // not known to all browsers
  return permission?.state === "denied" ? "denied" : "";
}

/** Return whether the microphone can be opened without a question to the user. */
export async function isAllowed() {
  const permission = await navigator.permissions?.query({ name: "microphone" }).catch(() => null);
  return permission?.state === "granted";
}

/** Call `changed` when the browser's permission for the microphone changes. */
export async function onPermission(changed) {
  const permission = await navigator.permissions?.query({ name: "microphone" }).catch(() => null);
  permission?.addEventListener("change", changed);
}

/** Return what an error of `Microphone.open` means, as `obstacle` does: also `missing`, `busy` or `failed`. */
export function meaningOf(error) {
  const kinds = {
    NotAllowedError: "denied",
    SecurityError: "denied",
    NotFoundError: "missing",
    OverconstrainedError: "missing",
    NotReadableError: "busy",
    AbortError: "busy",
  };
  return kinds[error.name] ?? "failed";
}

/** An open microphone. */
export class Microphone {
  /**
   * Open it, or the one called `deviceId`; `heard(pcm, level)` gets blocks of 16 kHz 16-bit mono. Throws errors that
   * `meaningOf` knows.
   */
  static async open(heard, deviceId = "") {
    const audio = { channelCount: 1, echoCancellation: true, noiseSuppression: true, autoGainControl: true };
    if (deviceId) audio.deviceId = { ideal: deviceId };
    const stream = await navigator.mediaDevices.getUserMedia({ audio });
    const context = new AudioContext();
    try {
      await context.audioWorklet.addModule(new URL("microphone_worklet.js", import.meta.url));
      await context.resume();
    } catch (error) {
      stream.getTracks().forEach((track) => track.stop());
      await context.close();
      throw error;
    }
    return new Microphone(stream, context, heard);
  }

  constructor(stream, context, heard) {
    this.stream = stream;
    this.context = context;
    const node = new AudioWorkletNode(context, "microphone", { numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit" });
    node.port.onmessage = ({ data }) => heard(data, levelOf(new Int16Array(data)));
    context.createMediaStreamSource(stream).connect(node);
  }

  /** Hear nothing, or again; it stays open. */
  set muted(muted) {
    this.stream.getTracks().forEach((track) => (track.enabled = !muted));
  }

  /** Call `lost()` when it is unplugged, or the permission is withdrawn. */
  onEnd(lost) {
    this.stream.getTracks().forEach((track) => track.addEventListener("ended", lost));
  }

  /** Close it; the browser's recording indicator goes out. */
  close() {
    this.stream.getTracks().forEach((track) => track.stop());
    this.context.close();
  }
}

function levelOf(samples) {
  let sum = 0;
  for (const sample of samples) sum += sample * sample;
  const decibels = 10 * Math.log10(sum / samples.length / 32768 ** 2 + 1e-9);
  return Math.min(1, Math.max(0, (decibels + 60) / 50));
}
