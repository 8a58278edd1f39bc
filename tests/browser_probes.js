// Runs in a page before its own scripts: notes what the page does, and answers what tests ask about it.

globalThis.probes = {
  /** The loudest sample that was played. */
  loudest: 0,

  /** How loud what is played is at the moment. */
  level: 0,

  /** Every text that the latest answer has had. */
  texts: [],

  /** How far what is seen has moved by itself (Cumulative Layout Shift). */
  shifts: 0,

  /** Return the name and the contrast of every text that is seen. */
  contrasts() {
    const parse = (colour) => colour.match(/[\d.]+/g).map(Number);
    const light = ([r, g, b]) => {
      const part = (v) => ((v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
      return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
    };
    const ground = (node) => {
      for (; node; node = node.parentElement) {
        const colour = parse(getComputedStyle(node).backgroundColor);
        if (colour.length === 3 || colour[3] === 1) return colour;
      }
      return [255, 255, 255];
    };
    const found = [];
    for (const node of document.querySelectorAll("body *")) {
      const written = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
      if ((!written && node.tagName !== "INPUT") || !node.checkVisibility() || node.closest(".sr-only")) continue;
      const [one, other] = [light(parse(getComputedStyle(node).color)), light(ground(node))];
      const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
      found.push([`${node.tagName} ${node.className} ${node.textContent.slice(0, 30)}`, contrast]);
    }
    return found;
  },

  /** Return the controls and regions that a screen reader has no name for. */
  nameless: () => [...document.querySelectorAll("button, input:not([hidden]), meter, section, fieldset, dialog")]
    .filter((node) => {
      const by = document.getElementById(node.getAttribute("aria-labelledby") ?? "");
      const names = [by?.textContent, node.ariaLabel, node.labels?.[0]?.textContent,
        node.querySelector(":scope > legend")?.textContent, node.tagName === "BUTTON" ? node.textContent : ""];
      return !names.some((name) => name?.trim());
    })
    .map((node) => node.outerHTML.slice(0, 80)),

  /** Return what is too small for a finger (WCAG 2.2, 2.5.8: 24 px; links in text excepted). */
  small: () => [...document.querySelectorAll("button, input:not([hidden]), summary, a:not(.skip)")]
    .filter((node) => node.checkVisibility())
    .map((node) => (node.labels?.length ? node.labels[0] : node))
    .filter((node) => node.getBoundingClientRect().height < 24 && getComputedStyle(node).position !== "absolute")
    .filter((node) => !node.closest("p, .sr-only"))
    .map((node) => node.outerHTML.slice(0, 80)),

  /** Return how many elements are animated. */
  moving: () => [...document.querySelectorAll("*")].filter((node) => getComputedStyle(node).animationName !== "none").length,
};

const connect = AudioNode.prototype.connect;
AudioNode.prototype.connect = function (target, ...rest) {
  if (target instanceof AudioDestinationNode) {
    const meter = new AnalyserNode(this.context, { fftSize: 2048 });
    connect.call(this, meter);
    const samples = new Float32Array(meter.fftSize);
    setInterval(() => {
      meter.getFloatTimeDomainData(samples);
      probes.level = Math.max(...samples.map(Math.abs));
      probes.loudest = Math.max(probes.loudest, probes.level);
    }, 20);
  }
  return connect.call(this, target, ...rest);
};

new MutationObserver(() => {
  const text = [...document.querySelectorAll("#log .said.house .said-text")].at(-1)?.textContent;
  if (text && text !== probes.texts.at(-1)) probes.texts.push(text);
}).observe(document, { subtree: true, childList: true, characterData: true });

new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) probes.shifts += entry.value;
}).observe({ type: "layout-shift", buffered: true });
