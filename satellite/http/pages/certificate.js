// The certificate of HTTPS: its fingerprint, and a QR code by which another device opens the page and compares it.

import { json } from "./api.js";
import { element, show } from "./dom.js";

const TEXTS = {
  en: {
    compare: "A browser warns of this certificate, since the daemon made it itself. Scan the code, and compare: the browser shows the same SHA-256 fingerprint for the certificate, or it is not your daemon.",
    scan: "Scan the code to open the page of a room.",
    code: "QR code with the address of the room page",
    until: "Valid until",
  },
  fr: {
    compare: "Le navigateur se méfie de ce certificat, que le serveur a fait lui-même. Scannez le code et comparez\u00a0: le navigateur montre la même empreinte SHA-256 pour le certificat, sinon ce n’est pas votre serveur.",
    scan: "Scannez le code pour ouvrir la page d’une pièce.",
    code: "Code QR avec l’adresse de la page",
    until: "Valable jusqu’au",
  },
};

/** Offer `certificate`, an object of `/status`, in the details element `node`; without one it stays hidden. */
export function offerCertificate(node, certificate, language = "en") {
  show(node, Boolean(certificate));
  if (!certificate || node.dataset.fingerprint === certificate.fingerprint) return;
  node.dataset.fingerprint = certificate.fingerprint;
  node.ontoggle = async () => {
    if (!node.open) return;
    const found = await json("certificate").catch(() => null); // the daemon may be gone: then it is asked next time
    if (found) node.replaceChildren(node.firstElementChild, ...described(found, TEXTS[language]));
  };
}

function described({ qr, fingerprint, ends, self_signed: selfSigned }, { compare, scan, code, until }) {
  return [
    element("p", {}, selfSigned ? compare : scan),
    element("img", { src: qr, alt: code, width: 220, height: 220 }),
    element("p", {}, "SHA-256 ", element("code", {}, fingerprint)),
    element("p", {}, `${until} ${new Date(ends).toLocaleDateString()}`),
  ];
}
