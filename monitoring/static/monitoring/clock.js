// Durations that run, and times in the zone that the reader chose: UTC, the browser's own, or a named one.

const CLOCK = { hour: "2-digit", minute: "2-digit", second: "2-digit" };
const HERE = "here"; // the browser's own zone

let full;
let time;
let bare;
let day;
let chosen = HERE;

/** What was chosen: "UTC", "here", or the name of a zone. */
export function zone() {
  return chosen;
}

/** The zone's name, as it is printed. */
export function zoneName() {
  return full.resolvedOptions().timeZone;
}

/** Write all times in this zone from now on, on all pages. */
export function setZone(name) {
  use(name);
  try {
    localStorage.setItem("zone", chosen);
  } catch {
    // the choice holds for this page
  }
  writeTimes();
}

function use(name) {
  const timeZone = name === HERE ? undefined : name;
  try {
    full = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "long", timeZone });
    chosen = name;
  } catch {
    return use(HERE); // this browser does not know it
  }
  time = new Intl.DateTimeFormat("en-GB", { ...CLOCK, timeZoneName: "short", timeZone });
  bare = new Intl.DateTimeFormat("en-GB", { ...CLOCK, timeZone });
  day = new Intl.DateTimeFormat("en-GB", { dateStyle: "short", timeZone });
}

function stored() {
  try {
    return localStorage.getItem("zone") || HERE;
  } catch {
    return HERE; // storage is switched off
  }
}

use(stored());

let ahead_ms = 0; // how far the server's clock is ahead of this one

/** Learn the server's time; a difference under two seconds is the way of the message. */
export function setServerTime(iso) {
  const difference = Date.parse(iso) - Date.now();
  ahead_ms = Math.abs(difference) > 2000 ? difference : 0;
}

/** Seconds as a person would say them; monitoring/words.py says them alike. */
export function duration(seconds) {
  if (seconds < 0.9995) return `${Math.round(Math.max(seconds, 0) * 1000)} ms`;
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  for (const [unit_s, unit, part_s, part] of [[86400, "d", 3600, "h"], [3600, "h", 60, "min"], [60, "min", 1, "s"]]) {
    if (whole >= unit_s) {
      const rest = Math.floor((whole % unit_s) / part_s);
      return `${Math.floor(whole / unit_s)} ${unit}${rest ? ` ${rest} ${part}` : ""}`;
    }
  }
  return "";
}

/** A running duration: whole seconds, because tenths would flicker. */
export function since(iso) {
  const seconds = Math.max(0, (Date.now() + ahead_ms - Date.parse(iso)) / 1000);
  return seconds < 9.95 ? `${Math.floor(seconds)} s` : duration(seconds);
}

/** Write a time into its element. */
export function writeClock(element) {
  const at = new Date(element.dateTime);
  if (Number.isNaN(at.valueOf())) return;
  const isToday = day.format(at) === day.format(new Date());
  if (element.dataset.clock === "time") element.textContent = bare.format(at);
  else element.textContent = isToday ? time.format(at) : full.format(at);
  element.title = full.format(at);
}

/** Write all times below `root`. */
export function writeTimes(root = document) {
  for (const element of root.querySelectorAll("time[data-clock]")) writeClock(element);
  for (const element of root.querySelectorAll("[data-since]")) write(element, since(element.dataset.since));
}

/** Set an element's text if it differs: an unchanged text costs no layout. */
export function write(element, text) {
  if (element.textContent !== String(text)) element.textContent = text;
}

writeTimes();
setInterval(() => {
  if (document.hidden) return;
  for (const element of document.querySelectorAll("[data-since]")) write(element, since(element.dataset.since));
}, 1000);
