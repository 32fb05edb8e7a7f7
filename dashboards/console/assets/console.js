// Keeps the parts of a page marked data-live fresh: the event stream says that something changed, the page is fetched
// again and its live parts are replaced. Without this file every page works by reloading it.
"use strict";

(() => {
  const live = document.getElementById("live");
  const hold = document.getElementById("hold");
  let held = false;
  let waiting = 0;
  let timer = null;
  let busy = false;

  const say = (text, on = false) => {
    if (!live || live.hidden) return;
    live.textContent = text;
    live.classList.toggle("on", on);
  };

  const ages = () => {
    for (const time of document.querySelectorAll("time[data-age]")) {
      const seconds = Math.round((Date.now() - Date.parse(time.dateTime)) / 1000);
      const text = seconds < 0 ? null
        : seconds < 60 ? `${seconds} s ago`
        : seconds < 3600 ? `${Math.floor(seconds / 60)} min ago`
        : seconds < 86400 ? `${Math.floor(seconds / 3600)} h ago` : null;
      if (text) time.textContent = text;
    }
  };

  // A part in which somebody selects text or fills in a form is left alone.
  const inUse = (part) => {
    const selection = document.getSelection();
    if (!selection.isCollapsed && part.contains(selection.anchorNode)) return true;
    const inputs = [...part.querySelectorAll("textarea, select, input[type=text]")];
    return inputs.some((input) => input === document.activeElement || input.value !== (input.defaultValue ?? ""));
  };

  const replace = (fresh) => {
    const before = new Map([...document.querySelectorAll("tr[data-seq]")].map((row) => [row.id, row.dataset.seq]));
    const open = [...document.querySelectorAll("details[open][id]")].map((details) => details.id);
    const focused = document.activeElement?.closest("tr[id]")?.id;
    for (const part of document.querySelectorAll("[data-live]")) {
      const next = fresh.getElementById(part.id);
      if (next && !inUse(part)) part.replaceWith(next);
    }
    for (const row of document.querySelectorAll("tr[data-seq]")) {
      if (before.size && before.get(row.id) !== row.dataset.seq) row.classList.add("fresh");
    }
    for (const id of open) { const details = document.getElementById(id); if (details) details.open = true; }
    if (focused) document.getElementById(focused)?.querySelector("a")?.focus({ preventScroll: true });
    ages();
  };

  const refresh = async () => {
    timer = null;
    if (busy || document.hidden) { if (busy) later(); return; }
    busy = true;
    try {
      const response = await fetch(location.href, { headers: { accept: "text/html" } });
      if (response.ok) {
        replace(new DOMParser().parseFromString(await response.text(), "text/html"));
        waiting = 0;
      }
    } catch { /* the stream reconnects and asks again */ }
    busy = false;
  };
  const later = () => { if (timer === null) timer = setTimeout(refresh, 700); };

  const changed = (event) => {
    const only = live.dataset.only;
    if (only && event && event.type !== "reset" && JSON.parse(event.data).id !== only) return;
    waiting += 1;
    if (held) say(`Held · ${waiting} change${waiting === 1 ? "" : "s"} waiting`); else later();
  };

  ages();
  setInterval(ages, 5000);
  setInterval(() => { if (!held) later(); }, 15000);
  if (!live || !window.EventSource) return;

  const stream = new EventSource(live.dataset.stream);
  stream.onopen = () => { if (!held) say("Live", true); };
  stream.onerror = () => say("Connection lost, trying again…");
  for (const kind of ["alert", "leave", "reset"]) stream.addEventListener(kind, changed);
  document.addEventListener("visibilitychange", () => { if (!document.hidden && !held) later(); });
  if (hold) {
    hold.hidden = false;
    hold.addEventListener("click", () => {
      held = !held;
      hold.textContent = held ? "Resume updates" : "Hold updates";
      hold.setAttribute("aria-pressed", String(held));
      say(held ? "Held" : "Live", !held);
      if (!held) later();
    });
  }
})();
