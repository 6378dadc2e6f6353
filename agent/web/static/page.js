"use strict";
(() => {
  const SECONDS = 10;
  const kept = (name, value) => {
    try {
      if (value === undefined) return sessionStorage.getItem(name) || "";
      sessionStorage.setItem(name, value);
    } catch { /* nothing is kept where storage is forbidden */ }
    return "";
  };

  // Whether the page loads itself again. Not while somebody writes, selects, or looks elsewhere.
  const live = document.getElementById("live");
  const show = () => live.setAttribute("aria-pressed", String(kept("live") === "yes"));
  live.hidden = false;
  show();
  live.addEventListener("click", () => { kept("live", kept("live") === "yes" ? "no" : "yes"); show(); });
  setInterval(() => {
    const writes = document.activeElement instanceof HTMLInputElement;
    if (kept("live") === "yes" && !document.hidden && !writes && getSelection().isCollapsed) location.reload();
  }, SECONDS * 1000);

  const filter = document.getElementById("filter");
  if (!filter) return;
  const rows = [...document.querySelectorAll("table.cards tbody tr")];
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const narrow = () => {
    const wanted = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    rows.forEach((row, number) => {
      row.hidden = !wanted.every((word) => texts[number].includes(word));
      shown += row.hidden ? 0 : 1;
    });
    document.getElementById("shown").textContent = wanted.length ? `${shown} of ${rows.length}` : "";
    kept("filter", filter.value);
  };
  document.getElementById("filters").hidden = false;
  filter.value = kept("filter");
  filter.addEventListener("input", narrow);
  narrow();
})();
