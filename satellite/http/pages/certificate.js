// The certificate of HTTPS: its fingerprint, and a QR code by which another device opens the page and compares it.

import { json } from "./api.js";
import { element, show } from "./dom.js";

/** Offer `certificate`, an object of `/status`, in the details element `node`; without one it stays hidden. */
export function offerCertificate(node, certificate) {
  show(node, Boolean(certificate));
  if (!certificate || node.dataset.fingerprint === certificate.fingerprint) return;
  node.dataset.fingerprint = certificate.fingerprint;
  node.ontoggle = async () => {
    if (!node.open) return;
    const found = await json("certificate").catch(() => null); // the daemon may be gone: then it is asked next time
    if (found) node.replaceChildren(node.firstElementChild, ...described(found));
  };
}

function described({ qr, fingerprint, ends, self_signed: selfSigned }) {
  const advice = selfSigned
    ? "A browser warns of this certificate, since the daemon made it itself. Scan the code, and compare: the browser shows the same SHA-256 fingerprint for the certificate, or it is not your daemon."
    : "Scan the code to open the page of a room.";
  return [
    element("p", {}, advice),
    element("img", { src: qr, alt: "QR code with the address of the room page", width: 220, height: 220 }),
    element("p", {}, "SHA-256 ", element("code", {}, fingerprint)),
    element("p", {}, `Valid until ${new Date(ends).toLocaleDateString()}`),
  ];
}
