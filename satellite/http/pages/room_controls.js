// What is done with one room: listen, stop, mute, volume, say something, call another room and hang up.

import { json } from "./api.js";
import { byId, element, say, show, tone } from "./dom.js";

/** Return the controls of a room, for `fillControls`. */
export function makeControls() {
  const result = element("p", { class: "result", role: "status", dir: "auto" });
  const box = element("div", { class: "room-controls" });
  const button = (text, action, body) => {
    const one = element("button", { type: "button", class: "plain" }, text);
    one.addEventListener("click", () => send(box, result, action, body(box)));
    return one;
  };
  const volume = element("input", { type: "range", min: "0", max: "100", step: "5" });
  volume.addEventListener("change", () => send(box, result, "volume", { volume: Number(volume.value) / 100 }));
  const about = element("button", { type: "button", class: "plain" }, "Say…");
  about.addEventListener("click", () => choose(box.dataset.room));
  const call = element("select", {});
  call.addEventListener("change", () => {
    send(box, result, "call", { to: call.value });
    call.value = "";
  });
  box.append(
    button("Listen", "start", () => ({})),
    button("Stop", "stop", () => ({})),
    button("Mute", "mute", (node) => ({ muted: node.dataset.muted !== "true" })),
    about,
    call,
    element("label", { class: "volume" }, "Volume", volume),
    result,
  );
  return box;
}

/** Fill the controls of `makeControls` for a room of `/status`, of all `rooms`; one that is not connected has none. */
export function fillControls(box, room, rooms) {
  const [listen, stop, mute, about, call, volume] = box.children;
  const sounds = room.heard || room.capabilities?.speaker; // some play nothing but answers
  const others = rooms.filter((one) => one !== room && one.state === "connected" && one.heard).map((one) => one.room);
  box.dataset.room = room.room;
  box.dataset.muted = String(room.muted ?? false);
  show(box, room.state === "connected");
  say(mute, room.muted ? "Unmute" : "Mute");
  say(stop, room.sounding === "call" ? "Hang up" : "Stop");
  for (const one of [stop, volume]) show(one, sounds);
  show(about, room.heard);
  show(call, room.heard && others.length > 0 && room.sounding !== "call");
  call.setAttribute("aria-label", `Call (${room.room})`);
  if (call.dataset.rooms !== others.join("\n")) {
    call.dataset.rooms = others.join("\n");
    call.replaceChildren(element("option", { value: "" }, "Call…"), ...others.map((one) => element("option", { value: one }, one)));
  }
  for (const one of [listen, stop, mute, about]) one.setAttribute("aria-label", `${one.textContent} (${room.room})`);
  const slider = volume.lastElementChild;
  slider.setAttribute("aria-label", `Volume (${room.room})`);
  if (document.activeElement !== slider) slider.value = String(Math.round((room.volume ?? 1) * 100));
}

async function send(box, result, action, body) {
  tone(result, "");
  say(result, "");
  try {
    const answer = await json(`rooms/${encodeURIComponent(box.dataset.room)}/${action}`, { body });
    if (answer.stopped === false) say(result, "Nothing sounds there.");
  } catch (problem) {
    say(result, problem.message);
    tone(result, "bad");
  }
}

/** Choose one room for an announcement, and have the user type it. */
function choose(room) {
  for (const box of byId("announce-rooms").querySelectorAll("input")) {
    box.checked = box.value === room;
    box.dataset.chosen = "by hand";
  }
  byId("announce-text").focus();
}
