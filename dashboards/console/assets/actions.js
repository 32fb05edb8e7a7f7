// Keys for the list of actions: j and k go through it, y, r and v press the button of the one that is at hand. Without this file every
// button is a button.
"use strict";

(() => {
  const rows = () => [...document.querySelectorAll("tr[data-action]")];
  let at = null;
  const mark = (row) => {
    for (const other of rows()) other.classList.toggle("at", other === row);
    at = row?.dataset.action ?? null;
    row?.scrollIntoView({ block: "nearest" });
  };
  document.addEventListener("keydown", (event) => {
    if (!vedette.meant(event)) return;
    const all = rows();
    const place = all.findIndex((row) => row.dataset.action === at);
    if (event.key === "j" || event.key === "k") {
      mark(all[Math.min(Math.max(place + (event.key === "j" ? 1 : -1), 0), all.length - 1)] ?? null);
    } else {
      // Of the only one there is, the key needs no choice before it.
      const row = all[place] ?? (all.length === 1 ? all[0] : null);
      const button = row?.querySelector(`button[data-key="${CSS.escape(event.key)}"]`);
      if (!button) return;
      button.click();
    }
    event.preventDefault();
  });
  // The list is fetched again now and then, and the mark with it.
  new MutationObserver(() => { if (at) mark(rows().find((row) => row.dataset.action === at) ?? null); })
    .observe(document.getElementById("main"), { childList: true, subtree: true });
})();
