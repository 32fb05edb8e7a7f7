// Editor.
"use strict";

(() => {
  const area = document.getElementById("sql");
  if (!area) return;
  const list = document.getElementById("words");
  const items = list.children;
  const names = [...document.querySelectorAll("#schema code")].map((of) => of.textContent);
  let [begun, at] = ["", 0];
  const mark = () => {
    [...items].forEach((li, n) => { li.ariaSelected = n === at; });
    area.setAttribute("aria-activedescendant", list.hidden ? "" : items[at].id);
  };
  const close = () => { list.hidden = true; mark(); };
  const take = (name) => {
    const whole = /^[a-z][\w.]*$/.test(name) ? name : `"${name}"`;
    area.setRangeText(whole, area.selectionStart - begun.length, area.selectionStart, "end");
    close();
  };
  area.oninput = () => {
    begun = /[\w@.]{2,}$/.exec(area.value.slice(0, area.selectionStart))?.[0];
    const found = names.filter((name) => name.startsWith(begun));
    list.replaceChildren(...found.slice(0, 8).map((name, n) => Object.assign(document.createElement("li"), {
      id: `word-${n}`, role: "option", textContent: name, onmousedown: (e) => { e.preventDefault(); take(name); },
    })));
    at = 0;
    list.hidden = !found.length;
    mark();
  };
  area.onblur = close;
  area.onkeydown = (e) => {
    const { key } = e;
    const step = { ArrowDown: 1, ArrowUp: -1 }[key];
    if (key === "Enter" && e.ctrlKey) area.form.requestSubmit();
    else if (list.hidden) return;
    else if (step) { at = (at + step + items.length) % items.length; mark(); }
    else if (key === "Tab" || key === "Enter") take(items[at].textContent);
    else if (key === "Escape") close();
    else return;
    e.preventDefault();
  };
})();
