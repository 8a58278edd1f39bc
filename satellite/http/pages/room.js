// The page that makes its browser a room: connects microphone, loudspeaker and daemon with what is shown.

import { announce, byId, element, say, show, tone } from "./dom.js";
import { capital } from "./format.js";
import { isAllowed, Microphone, meaningOf, obstacle } from "./microphone.js";
import { advice } from "./microphone_advice.js";
import { Player } from "./player.js";
import { Link } from "./room_link.js";
import { keepAwake, keepFiles } from "./room_screen.js";
import { Settings } from "./room_settings.js";
import { textsIn } from "./room_texts.js";
import { Timers } from "./room_timers.js";
import { offerSignIn } from "./sign_in.js";

const USUAL_RATE = 22050;
/** How long the browser may take to say whether it plays sound without a touch. */
const ALLOWED_MS = 1000;
const VOLUME_MS = 150;
/** How much of a call may wait to be played, after the network was late: else the delay would last. */
const CALL_SECONDS = 0.3;

/** The states for the daemon's activities; any other is `starting`, such as until its models are loaded. */
const ACTIVITIES = {
  "waiting for the wake word": "waiting",
  listening: "listening",
  thinking: "thinking",
  speaking: "speaking",
  error: "error",
};
/** States in which a touch ends what is under way. */
const UNDER_WAY = ["listening", "thinking", "speaking", "announcing", "ringing", "playing", "calling"];
/** The states of what sounds while nobody speaks with the room; the others are `announcing`. */
const SOUNDS = { media: "playing", call: "calling" };

class Room {
  #settings = new Settings((keys) => this.#changed(keys));
  #texts = textsIn(this.#settings.get("language"));
  #timers = new Timers(() => this.#draw());
  #link = new Link({
    join: () => this.#join(),
    frame: (frame) => this.#take(frame),
    sound: (pcm) => this.#player.play(pcm),
    lost: (taken) => this.#lost(taken),
  });
  #player = new Player(
    (sound) => this.#played(sound),
    (error) => this.#explain(`${this.#texts.soundFails} ${error.message}`),
  );
  #attempt = 0;
  #microphone = null;
  #blocked = "";
  /** Whether the connection could not be made, or was lost, since the page began. */
  #failed = false;
  #linked = false;
  #taken = false;
  #activity = "starting";
  #sound = 0;
  #sounding = "";
  #wakeWords = [];
  #volumeTimer = 0;
  #version = "";
  /** Whether the page began without a touch, as it would again. */
  #unattended = false;

  /** Begin by itself where the browser lets it. */
  async start() {
    this.#speak();
    byId("talk").addEventListener("click", () => this.#press());
    byId("mute").addEventListener("click", () => this.#mute(!this.#settings.get("muted")));
    byId("stop").addEventListener("click", () => this.#stop());
    byId("volume").addEventListener("input", () => this.#turn(byId("volume").valueAsNumber / 100));
    byId("volume").value = 100 * this.#settings.get("volume");
    this.#player.volume = this.#settings.get("volume");
    addEventListener("keydown", (event) => event.key === "Escape" && !document.querySelector("dialog[open]") && this.#stop());
    offerSignIn(() => this.#link.open(), { kept: true, wrong: () => this.#texts.wrongToken });
    keepFiles();
    const kind = await obstacle();
    if (kind) this.#block(kind);
    else if (await isAllowed()) {
      await this.#begin();
      this.#unattended = this.#microphone !== null;
    }
  }

  /** Open the microphone and the loudspeaker, then connect. */
  async #begin() {
    const attempt = ++this.#attempt;
    this.#blocked = "";
    show(byId("notice"), false);
    this.#player.prepare(USUAL_RATE);
    this.#player.allow();
    let microphone;
    try {
      const kind = await obstacle();
      if (kind) return this.#block(kind);
      microphone = await Microphone.open((pcm, level) => this.#heard(pcm, level), this.#settings.get("microphone"));
    } catch (error) {
      return attempt === this.#attempt && this.#block(meaningOf(error), error);
    }
    await Promise.race([this.#player.allow(), new Promise((late) => setTimeout(late, ALLOWED_MS))]);
    // Somebody has touched the page meanwhile; or the browser plays nothing until somebody does.
    if (attempt !== this.#attempt || !this.#player.running) return microphone.close();
    this.#microphone?.close();
    this.#microphone = microphone;
    microphone.muted = this.#settings.get("muted");
    microphone.onEnd(() => microphone === this.#microphone && this.#block("missing"));
    keepAwake(this.#settings.get("awake"));
    this.#link.open();
    this.#draw();
  }

  #end() {
    this.#failed = false;
    this.#microphone?.close();
    this.#microphone = null;
    this.#link.close();
    this.#linked = false;
    this.#draw();
  }

  #press() {
    const state = this.#state();
    if (state === "off" || state === "blocked") this.#begin();
    else if (state === "offline" || state === "taken") this.#reopen();
    else if (UNDER_WAY.includes(state)) this.#stop();
    else if (state === "muted") this.#mute(false);
    else this.#link.send({ type: "start" });
  }

  #reopen() {
    this.#taken = false;
    this.#link.open();
    this.#draw();
  }

  #stop() {
    this.#quiet();
    this.#link.send({ type: "stop" });
  }

  #mute(muted) {
    this.#muted(muted);
    this.#link.send({ type: "mute", muted });
    this.#draw();
  }

  #muted(muted) {
    this.#settings.set("muted", muted);
    if (this.#microphone) this.#microphone.muted = muted;
  }

  #turn(volume) {
    this.#player.volume = volume;
    this.#settings.set("volume", volume);
    clearTimeout(this.#volumeTimer); // while the control is moved, the daemon need not know each place
    this.#volumeTimer = setTimeout(() => this.#link.send({ type: "volume", volume }), VOLUME_MS);
  }

  #heard(pcm, level) {
    byId("talk").style.setProperty("--level", this.#activity === "listening" ? level.toFixed(2) : 0);
    if (this.#linked && !this.#settings.get("muted")) this.#link.sendSound(pcm);
  }

  #played(sound) {
    if (sound === this.#sound) this.#sounding = "";
    this.#link.send({ type: "played", sound });
    this.#draw();
  }

  #quiet() {
    this.#player.clear();
    this.#sounding = "";
    this.#draw();
  }

  // The daemon.

  #join() {
    const { name, muted, volume } = Object.fromEntries(["name", "muted", "volume"].map((key) => [key, this.#settings.get(key)]));
    return { type: "join", room: name, muted, volume };
  }

  #lost(taken) {
    this.#linked = false;
    this.#failed = true;
    this.#taken = taken;
    this.#activity = "starting";
    this.#quiet();
  }

  #take(frame) {
    if (frame.activity) this.#activity = ACTIVITIES[frame.activity] ?? "starting";
    const takes = {
      ready: () => this.#meet(frame.version),
      welcome: () => this.#welcome(frame),
      muted: () => this.#muted(frame.muted), // without an answer: the daemon's and ours could follow each other for ever
      volume: () => this.#turned(frame.volume),
      timer: () => this.#timers.take(frame),
      sound: () => this.#begins(frame),
      "sound-end": () => this.#player.end(frame.sound),
      silence: () => this.#quiet(),
      error: () => this.#fails(frame),
      "stt-start": () => this.#write("", ""),
      "stt-resumed": () => this.#write("", ""),
      "stt-end": () => this.#write(frame.text, ""),
      "chat-delta": () => this.#write(null, byId("answer").textContent + frame.text),
      "chat-end": () => this.#write(null, frame.text),
    };
    takes[frame.type]?.();
    this.#draw();
  }

  /** Load the page of a daemon that was upgraded: on a wall it stays open for months. */
  #meet(version) {
    if (this.#version && this.#version !== version && this.#unattended) location.reload();
    this.#version = version;
  }

  #welcome(frame) {
    this.#linked = true;
    this.#taken = false;
    this.#activity = "starting";
    this.#wakeWords = frame.wake_words.map((word) => word.split("_").map(capital).join(" "));
    this.#timers.replace(frame.timers);
    this.#settings.set("name", frame.room);
    this.#speak();
  }

  #turned(volume) {
    this.#settings.set("volume", volume);
    this.#player.volume = volume;
    byId("volume").value = 100 * volume;
  }

  #begins({ sound, rate, kind }) {
    this.#sound = sound;
    this.#sounding = SOUNDS[kind] ?? (kind ? "announcing" : ""); // a short tone is none
    this.#player.prepare(rate, kind === "call" ? CALL_SECONDS : undefined);
  }

  #fails({ run_id: run, code, text }) {
    const { errors, states } = this.#texts;
    const meaning = errors[code] ?? errors[code.split("-")[0]] ?? `${states.error}.`;
    const detail = element("small", { class: "detail", lang: "en" }, capital(text));
    if (run) {
      this.#write(null, `${meaning} `);
      byId("answer").append(detail);
      byId("answer").dataset.tone = "bad";
    } else if (code === "room-name-taken") this.#settings.open(meaning);
    else this.#explain(meaning, [detail]);
  }

  // What is shown.

  #state() {
    if (this.#taken) return "taken";
    if (this.#blocked) return "blocked";
    if (!this.#microphone) return "off";
    if (!this.#linked) return this.#failed ? "offline" : "starting";
    if (["listening", "thinking", "speaking"].includes(this.#activity)) return this.#activity;
    if (this.#timers.ringing) return "ringing";
    if (this.#sounding) return this.#sounding;
    return this.#settings.get("muted") ? "muted" : this.#activity;
  }

  #draw() {
    const state = this.#state();
    const { states, hints, linked, unlinked, linking, mute, unmute, talk, stop } = this.#texts;
    if (document.body.dataset.state !== state) {
      document.body.dataset.state = state;
      // While it speaks, a screen reader would talk over it; waiting is the usual state.
      if (!["speaking", "announcing", "waiting"].includes(state)) announce(states[state]);
      document.body.toggleAttribute("data-stops", UNDER_WAY.includes(state) && state !== "listening");
    }
    say(byId("state"), states[state]);
    const hint = hints[state];
    say(byId("hint"), typeof hint === "function" ? hint(this.#wakeWords.join(this.#texts.or)) : hint);
    say(byId("talk-label"), UNDER_WAY.includes(state) ? stop : talk);
    const waits = state === "starting" && !this.#linked;
    say(byId("link"), this.#linked ? linked : waits ? linking : unlinked);
    tone(byId("link"), this.#linked ? "good" : waits ? "wait" : state === "off" ? "calm" : "bad");
    const muted = this.#settings.get("muted");
    byId("mute").setAttribute("aria-pressed", String(muted));
    say(byId("mute-label"), muted ? unmute : mute);
    byId("stop").disabled = !UNDER_WAY.includes(state);
  }

  /** Show what was heard and what is answered; null leaves it. */
  #write(heard, answer) {
    if (heard !== null) say(byId("heard"), heard);
    if (answer !== null) say(byId("answer"), answer);
    delete byId("answer").dataset.tone;
  }

  #block(kind, error = null) {
    this.#blocked = kind;
    this.#end();
    const { title, steps } = advice(kind, error, this.#texts.code);
    this.#explain(title, steps);
  }

  #explain(title, steps = []) {
    const list = element("ul", {}, ...steps.map((step) => element("li", {}, step)));
    byId("notice").replaceChildren(element("p", {}, element("strong", {}, title)), ...(steps.length ? [list] : []));
    show(byId("notice"), true);
  }

  /** Write all texts in the language that was chosen. */
  #speak() {
    this.#texts = textsIn(this.#settings.get("language"));
    document.documentElement.lang = this.#texts.code;
    for (const node of document.querySelectorAll("[data-text]")) say(node, this.#texts[node.dataset.text]);
    for (const node of document.querySelectorAll("[data-label]")) node.ariaLabel = this.#texts[node.dataset.label];
    say(byId("words-title"), this.#texts.words);
    say(byId("room-name"), capital(this.#settings.get("name")));
    this.#timers.speak(this.#texts);
    this.#draw();
  }

  #changed(keys) {
    this.#speak();
    if (keys.includes("awake")) keepAwake(this.#settings.get("awake"));
    if (keys.includes("microphone") && this.#microphone) this.#begin();
    else if (keys.includes("name") && this.#microphone) this.#reopen();
  }
}

new Room().start();
