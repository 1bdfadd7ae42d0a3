// A WebSocket that comes back by itself and resumes where it was.

const WAITS_MS = [250, 500, 1000, 2000, 4000];
const LOG_IN = 4401; // close code

/**
 * Connect to `path`; `seq()` says the last number we have. `onMessage` gets each message,
 * `onState` gets "live", "reconnecting" or "stale" (with words) whenever that changes.
 * With `quiet_ms`, silence for so long counts as a broken connection.
 */
export function connect(path, { seq, onMessage, onState, quiet_ms = 0 }) {
  let socket = null;
  let failures = 0;
  let state = "";
  let heard = 0;

  function say(next, message = {}) {
    if (next === state && next !== "stale") return;
    state = next;
    onState(next, message);
  }

  function open() {
    const address = new URL(path, location.href);
    address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    if (seq() !== "") address.searchParams.set("seq", seq());
    socket = new WebSocket(address);
    heard = Date.now();
    socket.onmessage = receive;
    socket.onclose = closed;
  }

  function receive(event) {
    heard = Date.now();
    failures = 0;
    const message = JSON.parse(event.data);
    if (message.type === "stale") say("stale", message);
    else if (message.type === "ok") say("live");
    else {
      if (state !== "stale") say("live");
      onMessage(message);
    }
  }

  function closed(event) {
    socket = null;
    if (event.code === LOG_IN) {
      location.assign(`/login/?next=${encodeURIComponent(location.pathname + location.search)}`);
      return;
    }
    say("reconnecting");
    const wait = WAITS_MS[Math.min(failures++, WAITS_MS.length - 1)];
    setTimeout(() => socket || open(), wait * (0.75 + Math.random() / 2)); // not all pages at the same moment
  }

  function drop() {
    if (!socket) return;
    const old = socket;
    old.onmessage = old.onclose = null;
    old.close();
    closed({ code: 1006 });
  }

  if (quiet_ms) {
    setInterval(() => {
      if (socket && state !== "stale" && Date.now() - heard > quiet_ms) drop();
    }, 1000);
  }
  addEventListener("online", () => socket || open());
  addEventListener("pagehide", () => socket && (socket.onclose = null));
  addEventListener("pageshow", (event) => event.persisted && location.reload());
  open();
}
