// A page without a socket of its own: while somebody looks, its parts are fetched anew every few seconds.

import { write, writeTimes } from "./clock.js";
import { swap } from "./parts.js";

const EVERY_MS = 2000;
const badge = document.getElementById("live");

function say(page) {
  const isLive = page?.body.dataset.live === "live";
  document.body.dataset.live = isLive ? "live" : "stale";
  badge.hidden = false;
  badge.dataset.state = isLive ? "live" : "reconnecting";
  write(badge, isLive ? "Live" : page ? "No controller" : "Reconnecting…");
}

async function follow() {
  let page = null;
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
    if (answer.redirected) location.reload(); // to log in
    if (answer.ok) page = new DOMParser().parseFromString(await answer.text(), "text/html");
  } catch {
    // the server is gone; the badge says so
  }
  if (page) swap(page);
  say(page);
}

setInterval(() => document.hidden || follow(), EVERY_MS);
writeTimes();
say(document);
