// The live page: a snapshot, then deltas.

import { duration, setServerTime, since, write, writeClock, writeTimes } from "./clock.js";
import { Rows, fields, writeSince, writeState } from "./rows.js";
import { connect } from "./socket.js";

const KEPT = 30; // recent tasks
const MOST_AGENTS = 200; // rows of the fleet's table, and as many again of agents that need attention
const ENDED = new Set(["completed", "failed", "canceled", "rejected"]);
const COUNT = new Intl.NumberFormat("en-GB", { useGrouping: true });

let seq = document.body.dataset.seq;

const fleet = new Rows("fleet", (f, row) => {
  write(f.agent, row.agent);
  f.agent.href = `/agents/${encodeURIComponent(row.agent)}`;
  writeFlag(f.breaker, f.breaker_text, row.breaker);
  writeFlag(f.contained, f.contained_text, row.contained);
  if (row.skills) write(f.skills, row.skills.join(", "));
  f.skills.title = f.skills.textContent;
  if (row.state) writeState(f.state, row.state);
  if (row.running !== undefined) write(f.running, row.running);
  if (row.capacity !== undefined) write(f.capacity, row.capacity);
  f.slots.max = row.capacity || 1;
  f.slots.value = row.running || 0;
});

/** Show what is held against an agent, or nothing. */
function writeFlag(element, words, flag) {
  if (flag === undefined) return; // this row does not tell
  write(words, flag?.brief ?? flag?.text ?? "");
  element.hidden = !words.textContent;
  element.dataset.state = flag?.state ?? "";
  words.title = words.textContent;
}

const lanes = new Rows("lanes", (f, row) => {
  write(f.skill, row.skill);
  write(f.waiting, row.waiting);
  write(f.reason, row.reason || "");
  f.reason.hidden = !row.reason;
  writeSince(f.oldest, row.oldest_at);
  if (row.oldest_at) write(f.oldest, since(row.oldest_at));
});

const workers = new Rows("workers", (f, row) => {
  write(f.worker, row.worker);
  const served = row.serves ? `serves ${row.serves_count}: ${row.serves.join(", ")}` : "";
  write(f.serves, row.draining ? "draining" : served);
  f.serves.hidden = !f.serves.textContent;
  write(f.busy, row.busy);
  write(f.threads, row.threads);
  f.bar.max = row.threads || 1;
  f.bar.value = row.busy || 0;
});

const tasks = new Rows("tasks", (f, row, element) => {
  element.dataset.seq = row.seq;
  element.dataset.at = row.created_at;
  writeState(f.state, row.state);
  write(f.skill, row.skill);
  f.skill.href = `/tasks/${row.id}`;
  write(f.agent, row.agent || "");
  write(f.short, row.id.slice(-8));
  f.progress.hidden = row.progress === null || row.progress === undefined || row.state !== "working";
  f.progress.value = row.progress || 0;
  writeSince(f.age, row.created_at);
  write(f.age, since(row.created_at));
  if (row.started_at && !row.finished_at) {
    writeSince(f.took, row.started_at);
    write(f.took, since(row.started_at));
  } else {
    const took = row.started_at ? duration((Date.parse(row.finished_at) - Date.parse(row.started_at)) / 1000) : "–";
    writeSince(f.took, null, took);
  }
});

for (const [key, row] of tasks.rows) {
  // what the server rendered, as far as later events build on it
  const f = fields(row.element);
  row.data = {
    id: key, seq: Number(row.element.dataset.seq), created_at: row.element.dataset.at, state: f.state.dataset.state,
    skill: f.skill.textContent, agent: f.agent.textContent, started_at: f.took.dataset.start || null,
    progress: f.progress.hidden ? null : f.progress.value,
  };
}

// ---- recent tasks: new ones wait while somebody points at the list, so that no row jumps away under the pointer ----

const held = new Map();
const pill = document.getElementById("held");

function isPointedAt() {
  return tasks.body.matches(":hover") || tasks.body.contains(document.activeElement);
}

function addTask(row) {
  if (tasks.has(row.id)) {
    const known = tasks.get(row.id);
    if (row.seq >= known.seq) tasks.set(row.id, row);
  } else if (isPointedAt()) {
    held.set(row.id, { ...held.get(row.id), ...row });
    while (held.size > KEPT) held.delete(held.keys().next().value);
  } else {
    tasks.set(row.id, row, newestFirst(row));
    trim();
  }
  showPill();
}

function newestFirst(row) {
  return (table) => [...table.body.rows].find((element) => (element.dataset.at || "") < row.created_at) || null;
}

function trim() {
  while (tasks.body.rows.length > KEPT) tasks.remove(tasks.body.rows[tasks.body.rows.length - 1].dataset.key);
}

function release() {
  const waiting = [...held.values()];
  held.clear();
  for (const row of waiting) tasks.set(row.id, row, newestFirst(row));
  trim();
  showPill();
}

function showPill() {
  pill.hidden = held.size === 0;
  if (held.size) write(pill, `${held.size} new`);
}

pill.addEventListener("click", release);
tasks.body.addEventListener("mouseleave", () => isPointedAt() || release());

/** What an event changes in its task's row. */
function applyEvent(event) {
  const known = tasks.get(event.task) || held.get(event.task);
  if (known ? event.seq <= known.seq : event.kind !== "submitted") return;
  const row = { id: event.task, seq: event.seq, state: event.state, skill: event.skill };
  if (!known) Object.assign(row, { created_at: event.at, started_at: null, finished_at: null, progress: null, agent: "" });
  if (event.agent) row.agent = event.agent;
  if (event.kind === "working" && !known?.started_at) row.started_at = event.at;
  if (event.kind === "progress") row.progress = event.data.fraction ?? null;
  if (event.kind === "requeued") Object.assign(row, { agent: "", progress: null });
  if (ENDED.has(event.state)) row.finished_at = event.at;
  if (held.has(event.task)) held.set(event.task, { ...known, ...row });
  else addTask({ ...(known || {}), ...row });
}

// ---- everything else ----------------------------------------------------------------------------------------------

const health = document.getElementById("health");
const counters = fields(document.getElementById("counters"));
const source = fields(document.getElementById("source"));

function showVitals(vitals) {
  for (const [name, value] of Object.entries(vitals.counters)) if (counters[name]) write(counters[name], COUNT.format(value));
  const rate = vitals.rates.completed_per_s;
  if (rate !== undefined) write(counters.completed_per_s, rate < 100 ? rate.toFixed(1) : COUNT.format(Math.round(rate)));
  setServerTime(vitals.at);
  write(source.holder, vitals.controller.holder ?? "");
  write(source.epoch, vitals.controller.epoch ?? "");
  source.at.dateTime = vitals.at;
  writeClock(source.at);
  showHealth(vitals.health);
}

function showHealth({ level, text, more }) {
  const f = fields(health);
  health.dataset.level = level;
  f.text.dataset.state = level;
  write(f.words, text);
  if (f.more.textContent !== more.join("")) {
    f.more.replaceChildren(...more.map((line) => Object.assign(document.createElement("li"), { textContent: line })));
  }
  f.more.hidden = more.length === 0;
}

const agents = new Set(fleet.rows.keys()); // all that were heard of, also those without a row

function showAgent(row) {
  if (row.gone) {
    agents.delete(row.agent);
    fleet.remove(row.agent);
    return;
  }
  agents.add(row.agent);
  const isQuiet = ["idle", "busy"].includes(row.state) && !row.breaker && !row.contained?.brief;
  const most = isQuiet ? MOST_AGENTS : 2 * MOST_AGENTS;
  if (fleet.has(row.agent) || fleet.rows.size < most) fleet.set(row.agent, row);
}

function showRows({ fleet: members = [], lanes: waiting = [], workers: processes = [] }) {
  for (const row of members) showAgent(row);
  for (const row of waiting) row.waiting ? lanes.set(row.lane, row) : lanes.remove(row.lane);
  for (const row of processes) row.gone ? workers.remove(row.worker) : workers.set(row.worker, row);
}

function onMessage(message) {
  if (message.type === "snapshot") {
    agents.clear();
    fleet.keepOnly(message.fleet.map((row) => row.agent));
    lanes.keepOnly(message.lanes.map((row) => row.lane));
    workers.keepOnly(message.workers.map((row) => row.worker));
    if (message.tasks) {
      held.clear();
      tasks.keepOnly(message.tasks.map((row) => row.id));
    }
  }
  showRows(message);
  for (const row of (message.tasks ?? []).reverse()) addTask(row);
  for (const event of message.events ?? []) applyEvent(event);
  if (message.vitals) showVitals(message.vitals);
  if (message.seq) {
    seq = String(message.seq);
    write(source.seq, COUNT.format(message.seq));
  }
  document.querySelector('[data-count="fleet"]').textContent = agents.size;
  const bounded = document.querySelector("[data-bounded]");
  bounded.hidden = agents.size <= fleet.rows.size;
  write(bounded.firstElementChild, fleet.rows.size);
}

const WORDS = { live: "Live", reconnecting: "Reconnecting…", stale: "Reconnecting…" };

function onState(state, message) {
  const badge = document.getElementById("live");
  document.body.dataset.live = state === "live" ? "live" : "stale";
  badge.dataset.state = state === "live" ? "live" : "reconnecting";
  write(badge, state === "stale" && message.why === "controller" ? "No controller" : WORDS[state]);
  if (state === "stale") showHealth({ level: "bad", text: message.text, more: [] });
  if (state === "reconnecting") {
    showHealth({ level: "warn", text: "The connection to the server is gone. Trying again…", more: [] });
  }
}

writeTimes();
connect("/ws/live", { seq: () => seq, onMessage, onState, quiet_ms: 6000 });
