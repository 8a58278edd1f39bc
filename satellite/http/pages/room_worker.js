// The service worker of the room page: keeps the page's files, so that it opens, and says why, while the daemon is gone.

const CACHE = "room";
const NETWORK_MS = 3000;
const PAGE = "room";
const FILES = ["base.css", "room.css", "room.js", "room_link.js", "room_texts.js", "room_timers.js", "room_screen.js",
  "room_settings.js", "api.js", "backoff.js", "certificate.js", "dom.js", "format.js", "microphone.js", "microphone_advice.js",
  "microphone_worklet.js", "player.js", "player_worklet.js", "resampler.js", "sign_in.js", "icon.svg", "icon-192.png",
  "room.webmanifest"];
const SHELL = [PAGE, ...FILES.map((file) => `static/${file}`)].map((path) => new URL(path, self.location).href);

self.addEventListener("install", (event) => {
  self.skipWaiting();
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(SHELL)));
});

self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

self.addEventListener("fetch", (event) => {
  const url = event.request.url.split(/[?#]/)[0];
  if (event.request.method === "GET" && SHELL.includes(url)) event.respondWith(answered(event.request, url));
});

/** Return the daemon's answer, which is the latest, or the kept one where none comes soon. */
async function answered(request, url) {
  const cache = await caches.open(CACHE);
  const fresh = fetch(request).then((response) => {
    if (response.ok) cache.put(url, response.clone());
    return response;
  });
  fresh.catch(() => {}); // it may fail after the kept one was returned
  const late = new Promise((resolve) => setTimeout(resolve, NETWORK_MS));
  const response = await Promise.race([fresh, late]).catch(() => null);
  return response?.ok ? response : ((await cache.match(url)) ?? fresh);
}
