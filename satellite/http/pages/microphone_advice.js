// What to do where the microphone cannot be used, in the words of people.

const port = () => location.port || (location.protocol === "https:" ? "443" : "80");

/** Return the address of this page on the daemon's machine, where the browser allows the microphone. */
const onTheMachine = () => `http://localhost:${port()}${location.pathname}`;

const ADVICE = {
  en: {
    insecure: () => [
      "The browser does not allow the microphone on pages without HTTPS.",
      "Turn HTTPS on in the daemon's configuration (http: {tls: auto}), or put a reverse proxy before it (docs/https.md).",
      `On the machine that runs the daemon, open ${onTheMachine()} instead.`,
      `From another machine: ssh -L ${port()}:localhost:${port()} ${location.hostname}, then open ${onTheMachine()}.`,
    ],
    unsupported: () => ["This browser cannot record sound.", "Use a current Firefox, Chrome, Edge or Safari."],
    denied: () => [
      "The microphone is blocked for this page.",
      "Click the icon to the left of the address, allow the microphone, and try again.",
      "If it is allowed there, check the system's privacy settings.",
    ],
    missing: () => ["No microphone was found.", "Connect one, or enable it in the system's sound settings, and try again."],
    busy: () => ["The microphone cannot be opened.", "Another program may be using it: close that program and try again."],
    failed: (error) => [`The microphone failed: ${error?.message}`, "Reload the page and try again."],
  },
  fr: {
    insecure: () => [
      "Sans HTTPS, le navigateur interdit le micro à cette page.",
      "Activez HTTPS dans la configuration du serveur (http: {tls: auto}), ou placez un proxy devant lui (docs/https.md).",
      `Sur la machine du serveur, ouvrez plutôt ${onTheMachine()}.`,
      `Depuis une autre machine\u00a0: ssh -L ${port()}:localhost:${port()} ${location.hostname}, puis ouvrez ${onTheMachine()}.`,
    ],
    unsupported: () => ["Ce navigateur ne sait pas enregistrer le son.", "Utilisez une version récente de Firefox, Chrome, Edge ou Safari."],
    denied: () => [
      "Le micro est bloqué pour cette page.",
      "Touchez l’icône à gauche de l’adresse, autorisez le micro, puis réessayez.",
      "S’il y est autorisé, vérifiez les réglages de confidentialité du système.",
    ],
    missing: () => ["Aucun micro n’a été trouvé.", "Branchez-en un, ou activez-le dans les réglages du son, puis réessayez."],
    busy: () => ["Le micro ne s’ouvre pas.", "Un autre programme l’utilise peut-être\u00a0: fermez-le, puis réessayez."],
    failed: (error) => [`Le micro est en panne\u00a0: ${error?.message}`, "Rechargez la page et réessayez."],
  },
};

/** Return a sentence for an obstacle to the microphone, and steps to take; `error` is what it was known by, if any. */
export function advice(kind, error = null, language = "en") {
  const [title, ...steps] = ADVICE[language][kind](error);
  return { title, steps };
}
