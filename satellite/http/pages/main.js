// The page: connects the live feed with what shows it.

import { json, openText, token } from "./api.js";
import { Announce } from "./announce.js";
import { offerCertificate } from "./certificate.js";
import { Chat } from "./chat.js";
import { announce, byId, say, tone } from "./dom.js";
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
let hasRuns = false;

/** Show the page's parts once all are known: showing them one by one would move the others. */
function reveal() {
  if (status && hasRuns) byId("page").removeAttribute("aria-busy");
}

const runs = new Runs(() => status && showGlance(status, runs.waits));

const live = new Live({
  status(latest) {
    status = latest;
    showStatus(status);
    offerCertificate(byId("certificate"), status.certificate);
    showGlance(status, runs.waits);
    announcing.offer(status.rooms);
    reveal();
  },
  run: (run) => runs.take(run),
  async connected() {
    const since = performance.now(); // the feed may report a run before the list, made earlier, arrives
    const list = await json("runs?limit=" + RUNS_AT_FIRST).catch(() => null); // the feed reports when it breaks
    if (list) runs.replace(list.runs, since);
    hasRuns = true;
    reveal();
  },
  lost() {
    say(byId("overall"), "Not connected");
    tone(byId("overall"), "bad");
    byId("overall").removeAttribute("href");
    runs.draw();
  },
});

byId("forget").addEventListener("click", () => {
  chat.stop();
  talk.reset();
  conversation.id = "";
  clear();
  byId("ask-text").focus();
});

for (const link of document.querySelectorAll("a[data-token]")) {
  link.addEventListener("click", (event) => {
    if (!token.get()) return; // the link itself leads there
    event.preventDefault();
    openText(link.getAttribute("href")).catch((problem) => announce(problem.message));
  });
}

offerSignIn(() => live.open());
live.open();
