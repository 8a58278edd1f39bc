// Building and updating elements. Data becomes text, never markup.

/** Return the element with this id. */
export const byId = (id) => document.getElementById(id);

/** Return a new element; `attributes` are properties where they exist, else attributes; children are nodes or text. */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") made.className = value;
    else if (name in made) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return made;
}

/** Set the text of `node`, unless it has that text already: screen readers repeat what changes. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Show or hide `node`. */
export function show(node, visible) {
  if (node.hidden === visible) node.hidden = !visible;
}

/** Give `node` a tone: good, wait, bad or calm. */
export function tone(node, value) {
  if (node.dataset.tone !== value) node.dataset.tone = value;
}

/**
 * Make the children of `parent` those of `items`, in order. A child lives as long as its key, so that it keeps focus
 * and expansion; `make(item)` returns a new one, `update(node, item)` fills it.
 */
export function keep(parent, items, key, make, update) {
  const known = new Map([...parent.children].map((node) => [node.dataset.key, node]));
  let before = null;
  for (const item of items) {
    const name = String(key(item));
    let node = known.get(name);
    known.delete(name);
    if (!node) {
      node = make(item);
      node.dataset.key = name;
    }
    const place = before ? before.nextElementSibling : parent.firstElementChild;
    if (node !== place) parent.insertBefore(node, place);
    update(node, item);
    before = node;
  }
  for (const node of known.values()) node.remove();
}

/** Return an entry of a list: a title, a pill and lines of detail, for `fillEntry`. */
export function makeEntry() {
  const entry = element(
    "li",
    { class: "row" },
    element("div", { class: "row-head" }, element("span", { class: "row-title" }), element("span", { class: "pill small" })),
    element("p", { class: "row-lead" }),
    element("p", { class: "row-message secondary", dir: "auto" }),
  );
  return entry;
}

/** Fill an entry of `makeEntry`; empty parts are hidden. */
export function fillEntry(entry, { title, pill, pillTone, lead = "", message = "" }) {
  const [head, leadNode, messageNode] = entry.children;
  say(head.children[0], title);
  say(head.children[1], pill);
  tone(head.children[1], pillTone);
  say(leadNode, lead);
  show(leadNode, lead !== "");
  say(messageNode, message);
  show(messageNode, message !== "");
}

/** Have a screen reader say `text`. */
export function announce(text) {
  const node = byId("spoken");
  node.textContent = "";
  // A repeated text is announced again only if the node was empty in between.
  requestAnimationFrame(() => (node.textContent = text));
}
