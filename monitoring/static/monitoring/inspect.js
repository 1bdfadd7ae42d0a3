// The inspector of a step beside the run: the page of the step, fetched and shown in a drawer. Without a script it is a page.

import { writeTimes } from "./clock.js";
import { swap } from "./parts.js";

const EVERY_MS = 2000;
const drawer = document.getElementById("inspector");
const body = drawer.querySelector(".drawer-body");
let shown = "";

async function fetched(address) {
  const answer = await fetch(address, { headers: { Accept: "text/html" } });
  if (!answer.ok || answer.redirected) throw new Error(String(answer.status));
  return new DOMParser().parseFromString(await answer.text(), "text/html");
}

async function show(address) {
  let page;
  try {
    page = await fetched(address);
  } catch {
    location.assign(address); // the page says what is wrong, or asks to log in
    return;
  }
  shown = address;
  const fresh = page.querySelector('[data-part="inspector"]');
  writeTimes(fresh);
  body.replaceChildren(document.adoptNode(fresh));
  drawer.querySelector("[data-whole]").href = address;
  if (!drawer.open) drawer.showModal();
  body.focus();
  history.replaceState(null, "", "#inspect=" + encodeURIComponent(address));
}

/** Keep what is shown current, unless somebody selects text in it. */
async function follow() {
  if (!drawer.open || document.hidden || String(getSelection())) return;
  const asked = shown;
  const page = await fetched(asked).catch(() => null);
  if (page && drawer.open && shown === asked) swap(page);
}

/** Open what the address asks for: only a step of this very run. */
function openFromAddress() {
  const asked = new URLSearchParams(location.hash.slice(1)).get("inspect");
  if (asked?.startsWith(location.pathname + "/steps/")) show(asked);
}

document.addEventListener("click", (event) => {
  if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  const link = event.target.closest("a");
  const address = link?.getAttribute("href") ?? "";
  if (!address.startsWith(location.pathname + "/steps/")) return;
  event.preventDefault();
  show(address);
});
drawer.addEventListener("click", (event) => event.target === drawer && drawer.close()); // beside it
drawer.addEventListener("close", () => {
  history.replaceState(null, "", location.pathname + location.search);
  document.querySelector(`td a[href="${shown.split("?")[0]}"]`)?.focus(); // the row it was opened from may be a new element
});
setInterval(follow, EVERY_MS);
openFromAddress();
