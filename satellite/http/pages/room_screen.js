// The device of the room page: its screen stays on, and the page is kept for when the daemon is gone.

let wanted = false;
let lock = null;

/** Keep the screen on from now on, or not. */
export async function keepAwake(awake) {
  wanted = awake;
  if (!wanted) {
    await lock?.release();
    lock = null;
  } else if (!lock && navigator.wakeLock && document.visibilityState === "visible") {
    // Refused while the battery is low, and by some systems always.
    lock = await navigator.wakeLock.request("screen").catch(() => null);
    lock?.addEventListener("release", () => (lock = null));
  }
  document.body.dataset.awake = String(Boolean(lock));
}

// The browser releases the lock of a page that is hidden.
document.addEventListener("visibilitychange", () => wanted && keepAwake(true));

/** Have the browser keep the page's files. */
export function keepFiles() {
  // Refused for a certificate that the browser warns of: then the page works, and opens only while the daemon is there.
  navigator.serviceWorker?.register("room_worker.js", { scope: "room" }).catch(() => {});
}
