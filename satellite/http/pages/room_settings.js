// What the browser remembers of its room, and the dialog that changes it.

import { offerCertificate } from "./certificate.js";
import { json } from "./api.js";
import { byId, element, say, show } from "./dom.js";
import { LANGUAGES, textsIn } from "./room_texts.js";

const KEY = "satellite-room";

export class Settings {
  #values = { name: "", microphone: "", language: "", awake: true, muted: false, volume: 1 };

  /** `changed(keys)` is called with the names of what somebody has changed. */
  constructor(changed) {
    this.changed = changed;
    Object.assign(this.#values, stored());
    this.#values.name ||= `${textsIn(this.#values.language).unnamed}-${100 + Math.floor(900 * Math.random())}`;
    this.#keep();
    byId("open-settings").addEventListener("click", () => this.open());
    byId("settings").addEventListener("close", () => this.#take());
  }

  /** Return what is remembered under `key`. */
  get(key) {
    return this.#values[key];
  }

  /** Remember `value`. */
  set(key, value) {
    this.#values[key] = value;
    this.#keep();
  }

  /** Show the dialog, with a problem that it may solve. */
  async open(problem = "") {
    if (byId("settings").open) return;
    const { name, language, awake } = this.#values;
    say(byId("settings-problem"), problem);
    show(byId("settings-problem"), problem !== "");
    byId("name").value = name;
    byId("awake").checked = awake;
    const texts = textsIn(language);
    fill(byId("language"), [["", texts.automatic], ...Object.entries(LANGUAGES)], language);
    byId("settings").showModal();
    this.#fillMicrophones(texts);
    const found = await json("status").catch(() => null); // without it there is no certificate to show
    offerCertificate(byId("certificate"), found?.certificate, texts.code);
  }

  async #fillMicrophones(texts) {
    const devices = (await navigator.mediaDevices?.enumerateDevices().catch(() => [])) ?? [];
    const microphones = devices.filter((one) => one.kind === "audioinput" && one.deviceId && one.deviceId !== "default");
    fill(byId("microphone"), [["", texts.usual], ...microphones.map((one) => [one.deviceId, one.label])], this.#values.microphone);
  }

  #take() {
    const given = {
      name: byId("name").value.trim() || this.#values.name,
      microphone: byId("microphone").value,
      language: byId("language").value,
      awake: byId("awake").checked,
    };
    const keys = Object.keys(given).filter((key) => given[key] !== this.#values[key]);
    Object.assign(this.#values, given);
    this.#keep();
    if (keys.length) this.changed(keys);
  }

  #keep() {
    localStorage.setItem(KEY, JSON.stringify(this.#values));
  }
}

function stored() {
  try {
    return JSON.parse(localStorage.getItem(KEY)) ?? {};
  } catch {
    return {};
  }
}

function fill(select, options, chosen) {
  select.replaceChildren(...options.map(([value, text]) => element("option", { value, selected: value === chosen }, text)));
}
