// Sign-in, for a daemon that requires a token.

import { request, token } from "./api.js";
import { byId, say } from "./dom.js";

/**
 * Ask for a token when a request is refused without one; `done()` is called once one is accepted, which may be `kept`.
 * `wrong()` returns what to say of another one.
 */
export function offerSignIn(done, { kept = false, wrong = () => "This token is not valid." } = {}) {
  const dialog = byId("sign-in");
  document.addEventListener("sign-in-needed", () => {
    if (!dialog.open) dialog.showModal();
  });
  dialog.addEventListener("cancel", (event) => event.preventDefault());
  byId("sign-in-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    say(byId("sign-in-error"), "");
    token.set(byId("token").value.trim(), kept);
    try {
      await request("status");
    } catch (problem) {
      token.set("");
      say(byId("sign-in-error"), problem.status === 401 ? wrong() : problem.message);
      byId("token").select();
      return;
    }
    byId("token").value = "";
    dialog.close();
    done();
  });
}
