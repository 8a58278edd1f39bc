// Saying something in rooms.

import { json } from "./api.js";
import { byId, element, keep, say } from "./dom.js";
import { counted } from "./words.js";

export class Announce {
  #rooms = [];

  constructor() {
    byId("announce").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
  }

  /** Offer `rooms`, as `/status` tells them; those that are unknown yet are chosen. */
  offer(rooms) {
    this.#rooms = rooms;
    byId("announce").hidden = rooms.length === 0;
    keep(byId("announce-rooms"), ["legend", ...rooms.map((room) => room.room)], (name) => name, makeChip, () => {});
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
    say(result, `Announcing in ${counted(rooms.length, "room")}…`);
    try {
      const { failed } = await json("announce", { body: { text, rooms } });
      const heard = rooms.filter((room) => !(room in failed));
      const told = heard.length ? [`Heard in ${heard.join(", ")}.`] : [];
      told.push(...Object.entries(failed).map(([room, why]) => `Not in ${room}: ${why}.`));
      say(result, told.join(" "));
      if (heard.length) field.value = "";
    } catch (problem) {
      say(result, problem.message);
    } finally {
      button.disabled = false;
    }
  }
}

function makeChip(name) {
  if (name === "legend") return element("legend", { class: "sr-only" }, "In which rooms");
  const box = element("input", { type: "checkbox", value: name, checked: true });
  return element("label", { class: "chip" }, box, element("span", {}, name));
}
