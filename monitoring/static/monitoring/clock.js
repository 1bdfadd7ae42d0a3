// Durations that run, and times in the reader's own zone, with the zone said.

const FULL = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "long" });
const TIME = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit", timeZoneName: "short" });
const BARE = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

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

/** Write a time into its element, in the reader's zone. */
export function writeClock(element) {
  const at = new Date(element.dateTime);
  if (Number.isNaN(at.valueOf())) return;
  const isToday = at.toDateString() === new Date().toDateString();
  if (element.dataset.clock === "time") element.textContent = BARE.format(at);
  else element.textContent = isToday ? TIME.format(at) : FULL.format(at);
  element.title = FULL.format(at);
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
