// The page: joins the live feed to what shows it.

import { json } from "./api.js";
import { Announce } from "./announce.js";
import { Chat } from "./chat.js";
import { byId, say, tone } from "./dom.js";
import { showGlance, showStatus } from "./house.js";
import { Live } from "./live.js";
import { clear } from "./log.js";
import { Runs } from "./runs.js";
import { offerSignIn } from "./sign_in.js";
import { Talk } from "./talk.js";

const RUNS_AT_FIRST = 50;

const conversation = { id: "" };
const announcing = new Announce();
const chat = new Chat(conversation);
const talk = new Talk(conversation);
let status = null;

const runs = new Runs(() => status && showGlance(status, runs.waits));

const live = new Live({
  status(told) {
    status = told;
    showStatus(status);
    showGlance(status, runs.waits);
    announcing.offer(status.rooms);
    byId("page").removeAttribute("aria-busy");
  },
  run: (run) => runs.take(run),
  async connected() {
    const told = await json("runs?limit=" + RUNS_AT_FIRST).catch(() => null); // the feed tells when it breaks
    if (told) runs.replace(told.runs);
  },
  lost() {
    say(byId("overall"), "Not connected");
    tone(byId("overall"), "bad");
  },
});

byId("forget").addEventListener("click", () => {
  chat.stop();
  talk.reset();
  conversation.id = "";
  clear();
  byId("ask-text").focus();
});

offerSignIn(() => live.open());
live.open();
