// Announcements in rooms.

import { json } from "./api.js";
import { byId, element, keep, say, tone } from "./dom.js";
import { counted, listed, sentenceOf, stateName } from "./format.js";

export class Announce {
  constructor() {
    byId("announce").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
  }

  /** Offer `rooms` from `/status`; connected ones that are heard are selected until the user changes that. */
  offer(rooms) {
    byId("announce").hidden = rooms.length === 0;
    keep(byId("announce-rooms"), [{ legend: true }, ...rooms], (room) => room.room ?? "", makeChip, fillChip);
  }

  async #send() {
    const [field, button, result] = [byId("announce-text"), byId("announce-send"), byId("announce-result")];
    const text = field.value.trim();
    const rooms = [...byId("announce-rooms").querySelectorAll("input:checked")].map((box) => box.value);
    if (!text || !rooms.length) {
      say(result, text ? "Choose at least one room." : "Type what to say.");
      if (!text) field.focus();
      return;
    }
    button.disabled = true;
    tone(result, "");
    say(result, `Announcing in ${counted(rooms.length, "room")}…`);
    try {
      const { heard, failed } = await json("announce", { body: { text, rooms } });
      this.#report(heard, failed);
      field.value = "";
    } catch (problem) {
      if (problem.details?.failed) this.#report([], problem.details.failed);
      else {
        say(result, problem.message);
        tone(result, "bad");
      }
    } finally {
      button.disabled = false;
    }
  }

  #report(heard, failed) {
    const sentences = heard.length ? [`Heard in ${listed(heard)}.`] : [];
    for (const [room, why] of Object.entries(failed)) {
      sentences.push(`Not heard in ${room}. ${sentenceOf(why)}`);
    }
    say(byId("announce-result"), sentences.join(" "));
    tone(byId("announce-result"), Object.keys(failed).length ? "bad" : "good");
  }
}

function makeChip(room) {
  if (room.legend) return element("legend", { class: "sr-only" }, "In which rooms");
  const box = element("input", { type: "checkbox", value: room.room });
  box.addEventListener("change", () => (box.dataset.chosen = "by hand"));
  return element("label", { class: "chip" }, box, element("span", { dir: "auto" }, room.room), element("span", { class: "secondary" }));
}

function fillChip(node, room) {
  if (room.legend) return;
  const [box, , state] = node.children;
  const isHere = room.state === "connected";
  if (!box.dataset.chosen) box.checked = isHere && room.heard;
  const silent = room.capabilities?.speaker ? "answers only" : "no speaker";
  say(state, !isHere ? stateName(room.state) : room.heard ? "" : silent);
}
