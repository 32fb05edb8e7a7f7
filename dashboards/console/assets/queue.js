// The queue as it changes: rows change in place, new ones wait unless one is at the top with nothing selected; keys and buttons act
// at once, and what was refused is as it was, with the reason. Without this file the same form does it.
"use strict";

(() => {
  const { follow, refresh, say, times, meant } = window.vedette;
  const live = document.getElementById("live");
  // The past does not change, and is not changed.
  if (!live) return;
  const fresh = document.getElementById("new");
  const bulk = document.getElementById("bulk");
  const did = document.getElementById("did");
  const first = live.dataset.rows === "first";
  const MOST = 200;
  const waiting = new Map();
  let cursor = null;
  // The ids of what was changed in this window, for `u`; one after the other, so that the last is the one before.
  let done = [];
  try { done = JSON.parse(sessionStorage.getItem("done") ?? "[]"); } catch { /* of this page only */ }
  const kept = () => { try { sessionStorage.setItem("done", JSON.stringify(done.slice(-50))); } catch { /* of this page only */ } };
  // The versions that came of what was done here: who presses two keys in a row has seen what the first made.
  const own = new Map();
  let turn = Promise.resolve();
  let dirty = false;

  const body = () => document.querySelector(".lines tbody");
  const rows = () => [...document.querySelectorAll(".lines tbody tr")];
  const row = (id) => document.getElementById(`row-${id}`);
  const boxes = () => [...document.querySelectorAll(".pick input[type=checkbox]")];
  const idOf = (tr) => tr.id.slice(4);
  // A row's version and revision are what its box sends.
  const seen = (tr) => tr.querySelector(".pick input").value.split(":").slice(-2).map(Number);
  const chosen = () => boxes().filter((box) => box.checked).map((box) => box.closest("tr"));
  const still = () => scrollY < 80 && cursor === null && chosen().length === 0 && !body()?.matches(":hover");

  const made = (html) => {
    const template = document.createElement("template");
    template.innerHTML = html;
    return template.content.querySelector("tr");
  };

  const count = () => {
    const n = chosen().length;
    if (!bulk) return;
    bulk.hidden = n === 0;
    const all = bulk.querySelector("input[name=all]");
    if (all && n === 0) all.checked = false;
    // A button says how many it changes.
    const many = all?.checked ? all.dataset.n : String(n);
    for (const button of bulk.querySelectorAll("button[data-word]")) button.textContent = `${button.dataset.word} ${many}`;
    document.querySelector("#chosen b").textContent = `${many} selected`;
  };

  const offer = () => {
    fresh.hidden = waiting.size === 0;
    fresh.textContent = `${waiting.size} new`;
    fresh.setAttribute("aria-keyshortcuts", ".");
  };

  // Where it belongs: the newest crossing is first.
  const insert = (html) => {
    const tr = made(html);
    if (row(idOf(tr))) { replace(row(idOf(tr)), html); return; }
    tr.classList.add("fresh");
    const older = rows().find((other) => other.dataset.crossed <= tr.dataset.crossed);
    if (older) older.before(tr); else body().append(tr);
    for (const extra of rows().slice(MOST)) extra.remove();
  };

  // What changed of rows on later pages is not for this one.
  const beyond = (html) => {
    const end = rows().at(-1)?.dataset.crossed;
    return document.querySelector("a[rel=next]") !== null && end !== undefined && made(html).dataset.crossed < end;
  };

  // All rows again, until they came. What is heard meanwhile may be newer than they are, and is told after them.
  let again = null;
  const heard = new Map();
  const reload = async () => {
    waiting.clear();
    again ??= setInterval(() => reload(), 2000);
    if (await refresh("#rows, [data-live]")) {
      clearInterval(again);
      again = null;
      const missed = [...heard];
      heard.clear();
      // Of too many some were left out.
      if (missed.length > MOST) reload(); else for (const [id, [kind, html]] of missed) happened(kind, { id, html });
    }
    count();
  };

  const show = () => {
    for (const html of waiting.values()) insert(html);
    waiting.clear();
    for (const gone of document.querySelectorAll("tr.gone")) gone.remove();
    if (cursor && !row(cursor)) cursor = null;
    scrollTo({ top: 0 });
    offer();
    times();
    count();
  };

  const replace = (tr, html) => {
    const next = made(html);
    const checked = tr.querySelector(".pick input")?.checked;
    const focused = tr.contains(document.activeElement) ? document.activeElement.closest("a, input") : null;
    const at = focused ? [...tr.querySelectorAll("a, input")].indexOf(focused) : -1;
    next.classList.add("fresh");
    if (tr.classList.contains("cursor")) next.classList.add("cursor");
    tr.replaceWith(next);
    if (checked) next.querySelector(".pick input").checked = true;
    if (at >= 0) next.querySelectorAll("a, input")[at]?.focus({ preventScroll: true });
  };

  const happened = (kind, { id, html }) => {
    if (kind === "reset") { if (first) reload(); else location.reload(); return; }
    if (kind !== "row" && kind !== "leave") return;
    dirty = true;
    if (again !== null) {
      if (heard.size <= MOST) heard.set(id, [kind, html]);
      return;
    }
    const tr = row(id);
    if (kind === "row" && tr) replace(tr, html);
    else if (kind === "row" && first) {
      if (!body()) { reload(); return; }
      if (beyond(html)) return;
      waiting.delete(id);
      if (still()) insert(html); else waiting.set(id, html);
      if (waiting.size > MOST) waiting.delete(waiting.keys().next().value);
    } else if (kind === "leave") {
      waiting.delete(id);
      if (tr && still()) tr.remove(); else tr?.classList.add("gone");
      const box = tr?.querySelector(".pick input");
      if (box) { box.checked = false; box.disabled = true; }
    }
    offer();
    times();
    count();
  };

  const tell = (text, bad = false) => {
    const line = document.createElement("p");
    line.className = bad ? "told bad" : "told";
    line.textContent = text;
    did.replaceChildren(line);
  };

  const post = async (path, content) => {
    const token = bulk.querySelector("input[name=csrf]")?.value;
    const headers = { "content-type": "application/json", accept: "application/json" };
    if (token) headers["x-csrf-token"] = token;
    const response = await fetch(path, { method: "POST", headers, body: JSON.stringify(content), signal: AbortSignal.timeout(15000) });
    const answer = await response.json();
    if (!response.ok) {
      const error = new Error(answer.detail ?? answer.title ?? `The service answered ${response.status}.`);
      throw Object.assign(error, { status: response.status });
    }
    return answer;
  };

  const closes = (disposition) => ({ status: "closed", disposition });
  const acts = {
    acknowledge: [{ status: "acknowledged" }, "acknowledged"],
    take: [{ status: "acknowledged", assignee: document.querySelector(".person a")?.textContent ?? "local" }, "taken"],
    renew: [{ status: "new" }, "new again"],
    true_positive: [closes("true_positive"), "closed as true positive"],
    benign: [closes("benign"), "closed as benign"],
    false_positive: [closes("false_positive"), "closed as false positive"],
    duplicate: [closes("duplicate"), "closed as duplicate"],
  };
  const keyed = { a: "acknowledge", m: "take", 1: "true_positive", 2: "benign", 3: "false_positive", 4: "duplicate" };

  const act = (name, targets) => {
    const [change] = acts[name];
    if (!bulk || targets.length === 0) return;
    const before = new Map();
    for (const tr of targets) {
      before.set(tr, tr.outerHTML);
      tr.querySelector(".pick input").checked = false;
      const status = tr.querySelector(".status");
      tr.classList.remove("new", "acknowledged", "in_progress", "closed");
      tr.classList.add(change.status);
      status.className = `status ${change.status}`;
      status.textContent = change.status.charAt(0).toUpperCase() + change.status.slice(1);
    }
    count();
    const items = targets.map((tr) => {
      const [version, seen_revision] = seen(tr);
      return { id: idOf(tr), version, seen_revision };
    });
    turn = turn.then(() => {
      for (const item of items) item.version = Math.max(item.version, own.get(item.id) ?? 0);
      return send(name, items, before);
    });
  };

  // What is not as it was asked for, and what was before.
  const rest = ({ items }) => {
    const failed = items.filter((item) => item.problem);
    const of = (effect) => items.filter((item) => item.effect === effect).length;
    return (failed.length ? ` ${failed.length} not: ${failed[0].problem.detail}` : "")
      + (of("returned") ? ` ${of("returned")} came back at once: more had come than was seen.` : "")
      + (of("unchanged") ? ` ${of("unchanged")} so already.` : "");
  };

  // Sends it; a row that was refused is as it was, unless it came anew meanwhile.
  const send = async (name, items, before) => {
    const [change, words] = acts[name];
    const mine = (id) => [...before.keys()].find((tr) => tr.id === `row-${id}` && tr.isConnected);
    const restore = (id) => { const tr = mine(id); if (tr) replace(tr, before.get(tr)); };
    try {
      const answer = await post("/api/v1/alerts/bulk", { items, change });
      const failed = answer.items.filter((item) => item.problem);
      for (const item of answer.items) {
        const tr = mine(item.id);
        if (item.problem) { restore(item.id); continue; }
        own.set(item.id, item.version);
        if (tr) tr.querySelector(".pick input").value = `${item.id}:${item.version}:${seen(tr)[1]}`;
      }
      if (answer.change_id !== null) { done.push(answer.change_id); kept(); }
      tell(`${answer.changed} ${words}.${rest(answer)}${answer.change_id === null ? "" : " u takes it back."}`, failed.length > 0);
    } catch (error) {
      for (const item of items) restore(item.id);
      tell(`No answer says that anything was changed. ${error.message}`, true);
    }
  };

  const undo = () => { turn = turn.then(takeBack); };
  const takeBack = async () => {
    const form = did.querySelector("form");
    const change = done.at(-1);
    if (change === undefined || !bulk) { tell("There is nothing to take back."); return; }
    try {
      const answer = await post("/api/v1/alerts/undo", { change_id: change });
      done.pop();
      kept();
      for (const item of answer.items) if (!item.problem) own.set(item.id, item.version);
      tell(`${answer.changed} as before.${rest(answer)}`, answer.items.some((item) => item.problem));
    } catch (error) {
      const never = error.status === 403 || error.status === 404;
      if (never) { done.pop(); kept(); }
      tell(`No answer says that anything was taken back${never ? "" : "; u tries again"}. ${error.message}`, true);
      if (form && !never) did.append(form);
    }
  };

  const move = (step) => {
    const all = rows();
    if (all.length === 0) return;
    const at = cursor ? all.findIndex((tr) => idOf(tr) === cursor) : -1;
    const next = all[Math.min(Math.max(at + step, 0), all.length - 1)];
    for (const tr of document.querySelectorAll("tr.cursor")) tr.classList.remove("cursor");
    next.classList.add("cursor");
    cursor = idOf(next);
    next.querySelector(".title").focus({ preventScroll: true });
    next.scrollIntoView({ block: "nearest" });
  };

  document.addEventListener("keydown", (event) => {
    if (!meant(event)) return;
    // A key that is held moves on, and changes nothing twice.
    if (event.repeat && event.key !== "j" && event.key !== "k") return;
    const at = cursor && row(cursor);
    const targets = chosen().length ? chosen() : at ? [at] : [];
    if (event.key === "j" || event.key === "k") move(event.key === "j" ? 1 : -1);
    else if (event.key === "x" && at) { const box = at.querySelector(".pick input"); if (box && !box.disabled) { box.checked = !box.checked; count(); } }
    else if (event.key === "Escape") { cursor = null; for (const tr of document.querySelectorAll("tr.cursor")) tr.classList.remove("cursor"); for (const box of boxes()) box.checked = false; document.activeElement.blur(); count(); }
    else if (event.key === "u") undo();
    else if (event.key === "." && waiting.size) show();
    else if (keyed[event.key] && chosen().length && bulk?.querySelector("input[name=all]")?.checked) bulk.querySelector(`button[value=${keyed[event.key]}]`).click();
    else if (keyed[event.key] && targets.length) { const alone = chosen().length === 0; act(keyed[event.key], targets); if (alone) move(1); }
    else return;
    event.preventDefault();
  });

  // What is cut off at the end of its line is told on hovering.
  document.addEventListener("mouseover", (event) => {
    const cell = event.target.closest(".lines .what");
    if (cell && !cell.title) cell.title = `${cell.querySelector(".title").textContent}: ${cell.querySelector(".summary").textContent}`;
  });
  fresh.addEventListener("click", show);
  document.addEventListener("change", (event) => { if (event.target.closest(".pick, #bulk")) count(); });
  bulk?.addEventListener("submit", (event) => {
    const name = event.submitter?.value;
    if (!acts[name] || bulk.querySelector("input[name=all]")?.checked) return;
    event.preventDefault();
    act(name, chosen());
  });
  did.addEventListener("submit", (event) => { event.preventDefault(); undo(); });
  document.addEventListener("click", (event) => {
    if (event.target.closest(".lines .title")) {
      try { sessionStorage.setItem("queue", JSON.stringify(rows().map(idOf))); } catch { /* n and p do nothing */ }
    }
  });
  setInterval(async () => {
    if (!dirty) return;
    dirty = false;
    // Counts beside rows that are as of a time are of that time, too.
    if (!await refresh(first ? "#tallies, #pulse, #banner" : "#pulse, #banner")) dirty = true;
  }, 4000);

  const offered = Number(did.querySelector("form")?.dataset.change);
  if (offered && !done.includes(offered)) { done.push(offered); kept(); }
  count();
  if (first) say("Connecting…");
  follow(live.dataset.stream, happened);
})();
