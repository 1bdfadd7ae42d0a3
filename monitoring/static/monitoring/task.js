// The page of one task: log lines and progress are appended; whatever else happens, the changed parts are fetched anew,
// so that the server alone knows how they look.

import { write, writeClock, writeTimes } from "./clock.js";
import { swap } from "./parts.js";
import { connect } from "./socket.js";

const { task } = document.body.dataset;
const LOG_KEPT = 1000;
const REFRESH_MS = 500;
const WAITING_MS = 3000; // why a task waits may change without an event of its own
let seq = document.body.dataset.seq;
let shownSeq = Number(seq);
let refreshing = false;
let again = false;

const log = document.getElementById("log");

function appendLog(event) {
  const isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 24;
  const line = document.createElement("li");
  line.dataset.level = event.level;
  const time = document.createElement("time");
  Object.assign(time, { dateTime: event.at, className: "quiet" });
  time.dataset.clock = "time";
  writeClock(time);
  const level = Object.assign(document.createElement("b"), { textContent: event.level });
  line.append(time, " ", level, " ", Object.assign(document.createElement("span"), { textContent: event.detail }));
  log.append(line);
  while (log.children.length > LOG_KEPT) log.firstElementChild.remove();
  log.hidden = false;
  document.getElementById("log-empty").hidden = true;
  if (isAtEnd) log.scrollTop = log.scrollHeight;
}

function showProgress(event) {
  const line = document.querySelector("[data-progress]");
  if (!line) return;
  const bar = line.querySelector("progress");
  line.hidden = false;
  bar.hidden = event.fraction === null;
  bar.value = event.fraction ?? 0;
  write(line.querySelector("[data-progress-text]"), event.detail);
}

async function refresh() {
  if (refreshing) {
    again = true;
    return;
  }
  refreshing = true;
  do {
    again = false;
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
      if (answer.ok && !answer.redirected) show(new DOMParser().parseFromString(await answer.text(), "text/html"));
    } catch {
      // the connection is gone; the socket says so, and what is missed comes after it is back
    }
    await new Promise((done) => setTimeout(done, REFRESH_MS));
  } while (again);
  refreshing = false;
}

function show(page) {
  swap(page);
  if (page.body.dataset.ended === "yes") document.body.dataset.ended = "yes";
  const gone = document.querySelector('[data-part="artifacts"]');
  if (gone && !page.querySelector('[data-part="artifacts"]')) gone.remove();
  document.title = page.title;
}

function onMessage(message) {
  let isNews = false;
  for (const event of message.events) {
    if (event.seq <= shownSeq) continue;
    shownSeq = event.seq;
    if (event.kind === "log") appendLog(event);
    else if (event.kind === "progress") showProgress(event);
    else isNews = true;
  }
  seq = String(message.seq);
  if (isNews) refresh();
}

function onState(state, message) {
  const badge = document.getElementById("live");
  const hasEnded = document.body.dataset.ended === "yes";
  badge.hidden = hasEnded;
  badge.dataset.state = state === "live" ? "live" : "reconnecting";
  write(badge, state === "live" ? "Live" : message.why === "controller" ? "No controller" : "Reconnecting…");
}

setInterval(() => {
  if (!document.hidden && document.querySelector('[data-part="head"] [data-state="submitted"]')) refresh();
}, WAITING_MS);

writeTimes();
log.scrollTop = log.scrollHeight;
connect(`/ws/tasks/${task}`, { seq: () => seq, onMessage, onState });
