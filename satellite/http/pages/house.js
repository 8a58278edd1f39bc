// The overview: rooms, chat model, engines, graphics cards.

import { byId, element, fillEntry, keep, makeEntry, say, show, tone } from "./dom.js";
import { capital, counted, gib, median, moment, roughly, sentenceOf, span, stateName, unstopped } from "./format.js";
import { fillControls, makeControls } from "./room_controls.js";

const STAGES = {
  wake: "Wake word",
  openwakeword: "Wake word, openWakeWord",
  microwakeword: "Wake word, microWakeWord",
  vad: "Voice activity",
  stt: "Speech to text",
  chat: "Chat model",
  tts: "Text to speech",
};

const SOUNDING = { call: "On a call", timer: "Timer rings" };
const DOING = {
  "": "Connected",
  idle: "Idle",
  "waiting for the wake word": "Waiting for its wake word",
  listening: "Listening",
  thinking: "Thinking",
  speaking: "Speaking",
  error: "Last command failed",
};
const BUSY = ["listening", "thinking", "speaking"];

/** Show the object of `/status`. */
export function showStatus(status) {
  showOverall(status);
  showAttention(status.attention);
  showRooms(status.rooms);
  showProviders(status.chat);
  showResponders(status.responders ?? []);
  keep(byId("engines"), status.stages, (stage) => stage.stage, makeEntry, fillEngine);
  showGpus(status.gpus);
}

/** Show the tiles above everything; `waits` are the last waits for an answer that was heard, in milliseconds. */
export function showGlance(status, waits) {
  const answering = status.chat.providers.find((one) => one.provider === status.chat.answering);
  const connected = status.rooms.filter((room) => room.state === "connected");
  const gpu = status.gpus[0];
  const tiles = [
    {
      name: "Time to first sound",
      value: waits.length ? span(median(waits)) : "–",
      note: waits.length > 1 ? `median of the last ${waits.length} answers` : waits.length ? "of the last answer" : "no answer yet",
    },
    {
      name: "Chat model",
      value: answering?.provider ?? "none",
      note: answering ? `${answering.model} · ${answering.leaves_house ? "outside this house" : stateName(answering.state)}` : "no provider configured",
    },
    {
      name: "Rooms",
      value: status.rooms.length ? `${connected.length} of ${status.rooms.length}` : "none",
      note: roomNote(status.rooms, connected),
    },
    {
      name: gpu?.name ?? "Graphics card",
      value: gpu ? (gpu.load === undefined ? "–" : `${Math.round(gpu.load * 100)} %`) : "none",
      note: gpu ? memoryNote(gpu) : "everything runs on the CPU",
    },
  ];
  keep(byId("glance"), tiles, (tile) => tiles.indexOf(tile), makeTile, fillTile);
}

function roomNote(rooms, connected) {
  const busy = connected.find((room) => BUSY.includes(room.doing));
  const missing = rooms.find((room) => room.state !== "connected");
  if (busy) return `${busy.room} is ${busy.doing}`;
  if (missing) return `${missing.room} is ${stateName(missing.state)}`;
  return rooms.length ? "all idle" : "none configured";
}

/** Show the daemon's state; if something needs attention, link to it. */
function showOverall(status) {
  const loading = status.stages.filter((stage) => stage.state === "loading").map((stage) => stageName(stage).toLowerCase());
  const [count, pill] = [status.attention.length, byId("overall")];
  if (count) say(pill, count === 1 ? "1 thing needs attention" : `${count} things need attention`);
  else if (status.state === "loading") say(pill, loading.length ? `Loading ${loading.join(", ")}` : "Starting");
  else say(pill, capital(status.state));
  tone(pill, count ? "bad" : status.state === "ready" ? "good" : "wait");
  if (count) pill.setAttribute("href", "#attention");
  else pill.removeAttribute("href");
  say(byId("about"), `up ${roughly(status.uptime_seconds)} · version ${status.version}`);
}

function showAttention(troubles) {
  show(byId("attention"), troubles.length > 0);
  keep(byId("troubles"), troubles, (one) => `${one.what} ${one.cure}`, makeTrouble, (node, one) => {
    const [what, text, cure] = node.children;
    say(what, capital(one.what));
    say(text, sentenceOf(one.text));
    say(cure.lastElementChild, one.cure);
  });
}

function makeTrouble() {
  return element("li", { class: "row" }, element("p", { class: "row-title" }), element("p", { class: "row-message", dir: "auto" }),
    element("p", { class: "secondary" }, "Run on the daemon’s machine: ", element("code")));
}

function showRooms(rooms) {
  const connected = rooms.filter((room) => room.state === "connected").length;
  say(byId("rooms-count"), rooms.length ? `${connected} of ${rooms.length} connected` : "");
  if (rooms.length) {
    keep(byId("rooms"), rooms, (room) => `room ${room.room}`, makeRoom, (entry, room) => fillRoom(entry, room, rooms));
    return;
  }
  keep(byId("rooms"), [0], () => "empty", makeNoRooms, () => {});
}

function makeNoRooms() {
  return element(
    "li",
    { class: "empty" },
    element("p", { class: "empty-title" }, "No rooms yet"),
    element("p", {}, "Find satellites on your network with ", element("code", {}, "satellite rooms discover"),
      ", and add them to the configuration under ", element("code", {}, "rooms:"), "."),
  );
}

function makeRoom() {
  const entry = makeEntry();
  entry.append(makeControls());
  return entry;
}

function fillRoom(entry, room, rooms) {
  fillControls(entry.lastElementChild, room, rooms);
  const isHere = room.state === "connected";
  const sounds = SOUNDING[room.sounding];
  const doing = sounds ?? DOING[room.doing] ?? capital(room.doing);
  const unusual = isHere && room.message !== "connected";
  fillEntry(entry, {
    title: room.area && room.area.toLowerCase() !== room.room.toLowerCase() ? `${room.room} · ${room.area}` : room.room,
    pill: isHere ? doing : stateName(room.state),
    pillTone: !isHere ? room.tone : sounds || BUSY.includes(room.doing) ? "busy" : room.doing === "error" ? "bad" : "good",
    message: isHere ? (unusual ? capital(room.message ?? "") : "") : `${capital(room.message ?? "")} (for ${roughly(room.since_seconds)})`,
  });
}

function showProviders(chat) {
  say(byId("switches"), chat.switches ? counted(chat.switches, "switch").replace("switchs", "switches") : "never switched");
  const last = chat.last_switch;
  const notice = byId("last-switch");
  if (last) say(notice, `${moment(last.at)}: ${last.to} took over from ${last.from}. ${capital(unstopped(last.reason))}.`);
  show(notice, Boolean(last));
  tone(notice, last && chat.answering !== chat.providers[0]?.provider ? "wait" : "calm");
  keep(byId("providers"), chat.providers, (one) => one.provider, makeProvider, (node, one) => fillProvider(node, one, chat));
}

function makeProvider() {
  const entry = makeEntry();
  entry.append(element("p", { class: "row-message secondary" }), element("p", { class: "row-message secondary" }));
  return entry;
}

function fillProvider(entry, one, chat) {
  const answers = one.provider === chat.answering;
  fillEntry(entry, {
    title: `${one.provider} · ${one.model}`,
    pill: stateName(one.state),
    pillTone: one.tone,
    lead: answers ? "In use" : "",
    message: `${capital(unstopped(one.message))}, for ${roughly(one.since_seconds)}.`,
  });
  const [, , , outside, keepalive] = entry.children;
  const sent = one.sent_outside ?? 0;
  say(outside, one.leaves_house ? `Outside this house; ${counted(sent, "question")} sent.` : "");
  show(outside, one.leaves_house);
  say(keepalive, one.keepalive ? keepaliveNote(one.keepalive) : "");
  show(keepalive, Boolean(one.keepalive));
}

function keepaliveNote(keepalive) {
  const facts = [`Kept warm: ${keepalive.when}`];
  if (keepalive.gpu_share !== null) facts.push(`${Math.round(keepalive.gpu_share * 100)} % on the GPU`);
  if (keepalive.context_tokens) facts.push(`context ${keepalive.context_tokens}`);
  if (keepalive.load_seconds !== null) facts.push(`loaded in ${span(keepalive.load_seconds * 1000)}`);
  return `${facts.join(" · ")}.`;
}

function showResponders(responders) {
  show(byId("responders-title"), responders.length > 0);
  const title = (one) => capital(one.responder.replaceAll("_", " ")).replace("Home assistant", "Home Assistant");
  keep(byId("responders"), responders, (one) => one.responder, makeEntry, (node, one) =>
    fillEntry(node, {
      title: title(one), pill: one.up ? "ready" : stateName(one.state), pillTone: one.up ? "good" : one.tone,
      message: capital(one.message),
    }));
}

const stageName = (stage) => STAGES[stage.stage] ?? capital(stage.stage);

function fillEngine(entry, stage) {
  const runs = [stage.model, stage.device && deviceName(stage.device)].filter(Boolean);
  fillEntry(entry, {
    title: stageName(stage),
    pill: stage.state === "idle" ? "on demand" : stateName(stage.state),
    pillTone: stage.state === "idle" ? "calm" : stage.tone,
    lead: runs.join(" · "),
    message: stage.state === "idle" ? capital(stage.message) : stage.message,
  });
}

function deviceName(device) {
  const [where, ...how] = String(device).split(" ");
  const name = where.startsWith("cuda") ? "on the GPU" : where === "cpu" ? "on the CPU" : device;
  return how.length && name !== device ? `${name}, ${how.join(" ")}` : name;
}

function showGpus(gpus) {
  const entries = gpus.length ? gpus.map((gpu, index) => ({ ...gpu, index })) : [{ index: "none" }];
  keep(byId("gpus"), entries, (gpu) => gpu.index, makeGpu, fillGpu);
}

function makeGpu(gpu) {
  if (gpu.index === "none") return element("li", { class: "empty small" }, "No graphics card found; everything runs on the CPU.");
  const bar = (name) => element("div", { class: "gauge" }, element("span"), element("meter", { min: 0, max: 1, title: name, ariaLabel: name }), element("span"));
  return element("li", { class: "row" }, element("p", { class: "row-title" }), bar("Busy"), bar("Memory"));
}

function fillGpu(node, gpu) {
  if (gpu.index === "none") return;
  const [name, load, memory] = node.children;
  say(name, `${gpu.name ?? "Graphics card"}${gpu.watts === undefined ? "" : ` · ${Math.round(gpu.watts)} W`}`);
  fillGauge(load, "Busy", gpu.load, gpu.load === undefined ? "" : `${Math.round(gpu.load * 100)} %`);
  const share = gpu.memory_total_bytes ? gpu.memory_used_bytes / gpu.memory_total_bytes : undefined;
  fillGauge(memory, "Memory", share, memoryNote(gpu));
}

function fillGauge(gauge, name, share, text) {
  const [label, meter, value] = gauge.children;
  show(gauge, share !== undefined);
  say(label, name);
  meter.value = share ?? 0;
  say(value, text);
}

function memoryNote(gpu) {
  if (gpu.memory_used_bytes === undefined) return "memory usage not reported";
  return `${gib(gpu.memory_used_bytes)} of ${gib(gpu.memory_total_bytes)} GiB`;
}

function makeTile() {
  return element("div", { class: "tile" }, element("dt"), element("dd", { class: "tile-value" }), element("dd", { class: "secondary" }));
}

function fillTile(node, tile) {
  say(node.children[0], tile.name);
  say(node.children[1], tile.value);
  say(node.children[2], tile.note);
}
