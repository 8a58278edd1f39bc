// The browser's microphone, and plain explanations of why it cannot be used.

const PORT = () => location.port || (location.protocol === "https:" ? "443" : "80");

/** Return why the microphone cannot be used and what to do, before it is requested; null if it can be. */
export async function obstacle() {
  if (!isSecureContext) return insecure();
  if (!navigator.mediaDevices?.getUserMedia || !globalThis.AudioWorkletNode) {
    return { title: "This browser cannot record sound.", steps: ["Use a current Firefox, Chrome, Edge or Safari."] };
  }
  const permission = await navigator.permissions?.query({ name: "microphone" }).catch(() => null); // not known to all browsers
  return permission?.state === "denied" ? denied() : null;
}

/** Call `changed` when the browser's permission for the microphone changes. */
export async function onPermission(changed) {
  const permission = await navigator.permissions?.query({ name: "microphone" }).catch(() => null);
  permission?.addEventListener("change", changed);
}

/** Return what an error of `getUserMedia` means and what to do. */
export function explained(error) {
  switch (error.name) {
    case "NotAllowedError":
    case "SecurityError":
      return denied();
    case "NotFoundError":
    case "OverconstrainedError":
      return {
        title: "No microphone was found.",
        steps: ["Connect one, or enable it in the system's sound settings, and press Talk again."],
      };
    case "NotReadableError":
    case "AbortError":
      return {
        title: "The microphone cannot be opened.",
        steps: ["Another program may be using it: close that program and press Talk again."],
      };
    default:
      return { title: `The microphone failed: ${error.message}`, steps: ["Reload the page and press Talk again."] };
  }
}

/** An open microphone. */
export class Microphone {
  /** Open it; `heard(pcm, level)` gets blocks of 16 kHz 16-bit mono. Throws errors that `explained` explains. */
  static async open(heard) {
    const stream = await navigator.mediaDevices.getUserMedia({
      audio: { channelCount: 1, echoCancellation: true, noiseSuppression: true, autoGainControl: true },
    });
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

  /** Close it; the browser's recording indicator goes out. */
  close() {
    this.stream.getTracks().forEach((track) => track.stop());
    this.context.close();
  }
}

function insecure() {
  return {
    title: "The browser does not allow the microphone on pages without HTTPS.",
    steps: [
      `On the machine that runs the daemon, open http://localhost:${PORT()} instead.`,
      `From another machine: ssh -L ${PORT()}:localhost:${PORT()} ${location.hostname}, then open http://localhost:${PORT()}.`,
      "For the whole house, set up HTTPS with a reverse proxy (docs/https.md).",
    ],
    after: "You can type instead.",
  };
}

function denied() {
  return {
    title: "The microphone is blocked for this page.",
    steps: ["Click the icon to the left of the address, allow the microphone, and press Talk again.",
      "If it is allowed there, check the system's privacy settings."],
    after: "You can type meanwhile.",
  };
}

function levelOf(samples) {
  let sum = 0;
  for (const sample of samples) sum += sample * sample;
  const decibels = 10 * Math.log10(sum / samples.length / 32768 ** 2 + 1e-9);
  return Math.min(1, Math.max(0, (decibels + 60) / 50));
}
