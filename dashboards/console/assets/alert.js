// Keys for the alert's one form, and copying of values and texts. Without this file every button is a button.
"use strict";

(() => {
  const typing = (target) => target.closest("input, textarea, select, [contenteditable]") !== null;

  const dress = () => {
    for (const button of document.querySelectorAll(".btn[data-key]")) {
      if (button.querySelector("kbd")) continue;
      const key = document.createElement("kbd");
      key.textContent = button.dataset.key;
      key.setAttribute("aria-hidden", "true");
      button.append(" ", key);
      button.setAttribute("aria-keyshortcuts", button.dataset.key);
    }
    if (!navigator.clipboard) return;
    for (const copy of document.querySelectorAll(".copy[hidden]")) copy.hidden = false;
  };

  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape" && typing(event.target)) { event.target.blur(); return; }
    if (typing(event.target) || document.documentElement.dataset.keys === "off") return;
    const found = [...document.querySelectorAll(".one [data-key]")].find((one) => one.dataset.key === event.key);
    if (!found) return;
    event.preventDefault();
    if (found.matches("button")) found.click(); else found.focus();
  });

  document.addEventListener("click", async (event) => {
    const copy = event.target.closest(".copy");
    if (!copy) return;
    const value = copy.closest(".cell").querySelector(".value");
    try {
      await navigator.clipboard.writeText(value.textContent);
      copy.textContent = "Copied";
      setTimeout(() => { copy.textContent = "Copy"; const menu = copy.closest("details"); if (menu) menu.open = false; }, 700);
    } catch { copy.textContent = "Not allowed"; }
  });

  // The answer to a form that was not saved stands at the form's address, where nothing can be fetched again.
  const own = document.querySelector("[data-own]");
  if (own && location.pathname !== own.pathname) history.replaceState(null, "", own.href);

  // What was typed and not saved is more than what the page came with: it is kept when the page is fetched again.
  const draft = document.getElementById("comment");
  if (draft?.value) {
    const typed = draft.value;
    draft.defaultValue = "";
    draft.value = typed;
  }

  dress();
  new MutationObserver(dress).observe(document.getElementById("main"), { childList: true, subtree: true });
})();
