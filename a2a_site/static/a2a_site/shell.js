// What every page has: keys, the help, the palette, and the zone in which times are written.

import { setZone, zone, zoneName } from "../monitoring/clock.js";
import { tinykeys } from "../vendor/tinykeys-3.1.0/tinykeys.module.js";

const links = [...document.querySelectorAll(".nav a")];
const help = document.getElementById("help");
const palette = document.getElementById("palette");

if (palette) {
  fillHelp();
  tinykeys(window, keys());
  for (const button of document.querySelectorAll("[data-open]")) {
    button.hidden = false;
    button.addEventListener("click", () => show(document.getElementById(button.dataset.open)));
  }
  for (const dialog of [help, palette]) {
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close()); // beside it
  }
}

function show(dialog) {
  if (document.querySelector("dialog[open]")) return;
  dialog.showModal();
  if (dialog === palette) search();
}

/** What the keys do. Letters belong to whoever types. */
function keys() {
  const calm = (act) => (event) => {
    const field = event.target.closest?.("input, textarea, select, [contenteditable], dialog[open]");
    if (field || event.defaultPrevented) return;
    event.preventDefault();
    act();
  };
  const found = { "$mod+k": (event) => (event.preventDefault(), show(palette)), "Shift+?": calm(() => show(help)) };
  for (const link of links) if (link.dataset.keys) found[link.dataset.keys] = calm(() => link.click());
  return found;
}

function fillHelp() {
  const list = help.querySelector("dl");
  for (const link of links) {
    if (!link.dataset.keys) continue;
    const row = document.createElement("div");
    const term = document.createElement("dt");
    for (const key of link.dataset.keys.split(" ")) {
      term.append(Object.assign(document.createElement("kbd"), { textContent: key }), " ");
    }
    row.append(term, Object.assign(document.createElement("dd"), { textContent: link.textContent }));
    list.append(row);
  }
}

// ---- the palette: pages at once, agents, skills and workflows as soon as they are fetched, ids as they are typed ----

const MOST = 12;
const ID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
const field = palette?.querySelector("input");
const list = palette?.querySelector("ul");
const trouble = palette?.querySelector("[data-trouble]");
const places = links.map((link) => ({ kind: "page", name: link.textContent, href: link.href }));
let isFetched = false;

async function search() {
  write();
  if (isFetched) return;
  try {
    const answer = await fetch(palette.dataset.from, { headers: { Accept: "application/json" } });
    if (!answer.ok || answer.redirected) throw new Error(String(answer.status));
    places.push(...(await answer.json()).places);
    isFetched = true;
    trouble.hidden = true;
  } catch {
    trouble.hidden = false; // the pages can be reached all the same
  }
  write();
}

function fitting(text) {
  const asked = text.trim();
  if (ID.test(asked)) {
    return ["task", "run"].map((kind) => ({ kind, name: asked, href: `/${kind}s/${asked.toLowerCase()}` }));
  }
  const words = asked.toLowerCase().split(/\s+/);
  return places.filter((place) => words.every((word) => `${place.kind} ${place.name}`.toLowerCase().includes(word)));
}

function write() {
  list.replaceChildren(...fitting(field.value).slice(0, MOST).map(({ kind, name, href }) => {
    const link = Object.assign(document.createElement("a"), { href });
    link.append(Object.assign(document.createElement("span"), { className: "quiet small", textContent: kind }), " ", name);
    const item = document.createElement("li");
    item.append(link);
    return item;
  }));
  palette.querySelector("[data-none]").hidden = list.children.length > 0;
}

field?.addEventListener("input", write);
palette?.addEventListener("keydown", (event) => {
  const found = [...list.querySelectorAll("a")];
  const at = found.indexOf(document.activeElement);
  if (event.key === "Enter" && event.target === field) {
    event.preventDefault();
    found[0]?.click();
  } else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    event.preventDefault();
    const next = at + (event.key === "ArrowDown" ? 1 : -1);
    (next < 0 ? field : found[Math.min(next, found.length - 1)])?.focus();
  }
});

// ---- the zone ----

const select = document.getElementById("zone");
if (select) {
  const named = typeof Intl.supportedValuesOf === "function" ? Intl.supportedValuesOf("timeZone") : [];
  select.options[1].textContent = `Here: ${Intl.DateTimeFormat().resolvedOptions().timeZone}`;
  select.append(...named.filter((name) => name !== "UTC").map((name) => new Option(name, name)));
  select.value = zone();
  select.hidden = false;
  select.title = `Times are in ${zoneName()}`;
  select.addEventListener("change", () => {
    setZone(select.value);
    select.title = `Times are in ${zoneName()}`;
  });
}
