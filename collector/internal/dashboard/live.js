// Keeps the page current: fetches it again and swaps the live part, unless the reader has it in hand.
"use strict";
const PERIOD_MS = 3000;

async function refresh() {
  const live = document.getElementById("live");
  const busy = live.contains(document.activeElement) || !document.getSelection().isCollapsed;
  if (!document.hidden && !busy) {
    try {
      const answer = await fetch(location.href, { cache: "no-store" });
      if (answer.ok) {
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        const next = page.getElementById("live");
        if (next) {
          live.replaceWith(next);
          document.querySelector("header").replaceWith(page.querySelector("header"));
        }
      }
    } catch {
      // The collector is away; what is shown stays until it is back.
    }
  }
  setTimeout(refresh, PERIOD_MS);
}

setTimeout(refresh, PERIOD_MS);
