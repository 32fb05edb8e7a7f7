// What all pages share: ages and times, the stream of changes, keys that lead somewhere. Without this file every page works by
// reloading it.
"use strict";

window.vedette = (() => {
  const live = document.getElementById("live");
  const root = document.documentElement;
  const kept = (name) => { try { return localStorage.getItem(name); } catch { return null; } };
  const keep = (name, value) => { try { localStorage.setItem(name, value); } catch { /* not allowed: for this page only */ } };
  let local = kept("times") === "local";

  // A page that the browser kept whole may be of somebody who has signed out since: asked for again, it is what they may see now.
  addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });

  // Only where new rows come by themselves a page is live; elsewhere it says as of when it is.
  const asOf = live && live.dataset.rows === "later" ? live.cloneNode(true) : null;
  const say = (text, on = false) => {
    if (!live || live.hidden) return;
    if (on && asOf) live.replaceChildren(...asOf.cloneNode(true).childNodes); else live.textContent = text;
    live.classList.toggle("on", on && !asOf);
  };

  // A word in its place for a moment.
  const hint = (text) => {
    if (!live || live.hidden) return;
    const [before, on] = [[...live.childNodes], live.classList.contains("on")];
    live.textContent = text;
    const own = live.firstChild;
    setTimeout(() => { if (live.firstChild === own) { live.replaceChildren(...before); live.classList.toggle("on", on); } }, 2500);
  };

  const here = (iso) => {
    const at = new Date(iso);
    const two = (n) => String(n).padStart(2, "0");
    const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
    const clock = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
    return at.toDateString() === new Date().toDateString() ? clock : `${day} ${clock}`;
  };

  // What this place calls its clock, such as GMT+2.
  const zone = new Intl.DateTimeFormat("en", { timeZoneName: "short" }).formatToParts().find((part) => part.type === "timeZoneName")?.value ?? "here";

  // Ages go on, those of other times where one points at them; `t` turns other times to the clock of the room, and back, and with them the word that says which it is.
  const times = () => {
    for (const word of document.querySelectorAll(".zone")) word.textContent = local ? zone : "UTC";
    for (const time of document.querySelectorAll("time[datetime], [data-at]")) {
      if (time.dataset.utc === undefined) time.dataset.utc = time.textContent;
      const iso = time.dateTime ?? time.dataset.at;
      const seconds = Math.round((Date.now() - Date.parse(iso)) / 1000);
      const age = seconds >= 0 && seconds < 172800
        ? seconds < 60 ? `${seconds} s ago`
          : seconds < 3600 ? `${Math.floor(seconds / 60)} min ago`
            : `${Math.floor(seconds / 3600)} h ago` : null;
      const text = ("age" in time.dataset && age) || (local ? here(iso) : time.dataset.utc);
      if (age && time.title?.startsWith(iso) && time.title !== `${iso}, ${age}`) time.title = `${iso}, ${age}`;
      if (time.textContent !== text) time.textContent = text;
    }
  };

  // When the service was heard last, and when somebody came to this page; after half a minute of nothing a grey word of it over the page.
  let heard = Date.now();
  let came = heard;
  let stale = null;
  const hear = () => { heard = Date.now(); stale?.remove(); stale = null; };
  const listen = () => {
    if (stale || out || document.hidden || Date.now() - Math.max(heard, came) < 30000) return;
    stale = document.createElement("div");
    stale.className = "stale";
    stale.setAttribute("role", "status");
    stale.textContent = `Stale since ${new Date(heard).toISOString().slice(11, 19)} UTC: nothing was heard from the service.`;
    document.getElementById("main").before(stale);
  };

  // Somebody who is signed out is told so, and how to come in again: what is written on the page stays.
  let out = false;
  const signedOut = async () => {
    const asked = await fetch(location.href, { method: "HEAD", redirect: "manual", headers: { accept: "text/html" } }).catch(() => null);
    if (out || asked?.type !== "opaqueredirect") return;
    out = true;
    hear();
    say("Signed out");
    const line = document.createElement("div");
    line.className = "stale";
    line.setAttribute("role", "alert");
    const back = document.createElement("a");
    back.href = `/sign-in?next=${encodeURIComponent(location.pathname + location.search)}`;
    back.textContent = "Sign in";
    line.append("Signed out: nothing here is renewed or can be changed. ", back);
    document.getElementById("main").before(line);
  };

  // Changes after a place. Only a page that is looked at follows: a browser has six connections to a service, and each hidden page
  // would hold one. It goes on where it was when it is looked at again.
  const follow = (address, happened) => {
    let source = null;
    let after = null;
    let tried = 0;
    const open = () => {
      if (source || out || document.hidden) return;
      const at = new URL(address, location.href);
      if (after) at.searchParams.set("after", after);
      tried = Date.now();
      source = new EventSource(at);
      source.onopen = () => { hear(); say("Live", true); happened("open", {}); };
      source.onerror = () => say("Connection lost, trying again…");
      for (const kind of ["row", "leave", "reset", "quiet"]) {
        source.addEventListener(kind, (event) => {
          hear();
          if (event.lastEventId) after = event.lastEventId;
          happened(kind, JSON.parse(event.data));
        });
      }
    };
    const close = () => { source?.close(); source = null; };
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) { close(); return; }
      say("Connecting…");
      open();
    });
    setInterval(() => {
      if (document.hidden || out) return;
      if (source?.readyState === EventSource.CLOSED) { close(); signedOut(); }
      // Of a connection that nothing comes through any more nobody is told that it is broken.
      else if (Date.now() - Math.max(heard, tried) > 30000) close();
      open();
    }, 3000);
    open();
  };

  // A part in which somebody selects text or fills in a form is left alone.
  const inUse = (part) => {
    const selection = document.getSelection();
    if (!selection.isCollapsed && part.contains(selection.anchorNode)) return true;
    // Rows of the queue see to their own boxes.
    const inputs = [...part.querySelectorAll("textarea, select, input[type=text], input[type=checkbox]:not(.pick input)")];
    const changed = (input) => input.type === "checkbox" ? input.checked !== input.defaultChecked
      : input.options ? input.selectedIndex !== Math.max(0, [...input.options].findIndex((option) => option.defaultSelected))
        : input.value !== input.defaultValue;
    return inputs.some((input) => input === document.activeElement || changed(input));
  };

  let busy = false;
  // Fetches the page again and replaces these parts of it.
  const refresh = async (parts = "[data-live]") => {
    if (busy || document.hidden) return false;
    busy = true;
    let done = false;
    try {
      const response = await fetch(location.href, { headers: { accept: "text/html" }, signal: AbortSignal.timeout(10000) });
      // A page that no stream renews hears of the service by this.
      if (!live?.dataset.stream && response.status < 500) hear();
      // Where one is signed out, another page comes.
      if (response.ok && !response.redirected) {
        const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
        const open = [...document.querySelectorAll("details[open][id]")].map((details) => details.id);
        for (const part of document.querySelectorAll(parts)) {
          const next = fresh.getElementById(part.id);
          if (next && !inUse(part)) part.replaceWith(next);
        }
        for (const id of open) { const details = document.getElementById(id); if (details) details.open = true; }
        times();
        done = true;
      } else if (response.redirected && !live?.dataset.stream) signedOut();
    } catch { /* the stream reconnects and asks again */ }
    busy = false;
    return done;
  };

  const keys = document.getElementById("keys");
  const on = document.getElementById("keys-on");
  const switched = (to) => { root.dataset.keys = to; if (on) on.checked = to === "on"; };
  switched(kept("keys") ?? "on");
  on?.addEventListener("change", () => { switched(on.checked ? "on" : "off"); keep("keys", root.dataset.keys); });
  const help = () => keys?.showModal();
  for (const button of document.querySelectorAll("[data-keys]:not(html)")) { button.hidden = false; button.onclick = help; }

  // Whether a key is meant for the page, and not for what is written in or a dialog.
  const meant = (event) => !(event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || keys?.open
    || root.dataset.keys === "off" || event.target.closest("input:not([type=checkbox]), textarea, select, [contenteditable]"));

  const beside = (step) => {
    let ids = [];
    try { ids = JSON.parse(sessionStorage.getItem("queue") ?? "[]"); } catch { /* none */ }
    const at = ids.indexOf(decodeURIComponent(location.pathname.split("/")[2] ?? ""));
    return at < 0 ? null : ids[at + step] ?? null;
  };
  const pages = { n: ["next", 1], p: ["prev", -1] };
  document.addEventListener("keydown", (event) => {
    if (!meant(event)) return;
    const search = document.querySelector("input[type=search]");
    if (event.key === "?") help();
    else if (event.key === "/" && search) { search.focus(); search.select(); }
    else if (event.key === "t") { local = !local; keep("times", local ? "local" : "utc"); times(); hint(local ? "Times are of this place" : "Times are UTC"); }
    else if (pages[event.key]) {
      const [rel, step] = pages[event.key];
      const link = document.querySelector(`a[rel=${rel}]`)?.href;
      const id = location.pathname.startsWith("/alerts/") ? beside(step) : null;
      if (id) location.assign(`/alerts/${encodeURIComponent(id)}`); else if (link) location.assign(link); else return;
    } else return;
    event.preventDefault();
  });

  times();
  setInterval(times, 5000);
  setInterval(listen, 3000);
  document.addEventListener("visibilitychange", () => { came = Date.now(); });
  if (live && live.dataset.rows === undefined && live.dataset.stream) {
    const only = live.dataset.only;
    let waiting = null;
    const later = () => { waiting ??= setTimeout(async () => { waiting = null; if (!await refresh()) later(); }, 700); };
    follow(live.dataset.stream, (kind, { id }) => {
      if (kind === "reset" || ((kind === "row" || kind === "leave") && (!only || id === only))) later();
    });
  } else if (!live) {
    setInterval(() => refresh(), 15000);
  }
  return { follow, refresh, say, times, meant };
})();
