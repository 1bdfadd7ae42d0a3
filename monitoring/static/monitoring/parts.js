// Parts of a page that are fetched anew, so that the server alone knows how they look.

import { writeTimes } from "./clock.js";

/** Put the parts of the fetched page in the place of the old ones; what was unfolded stays so. */
export function swap(page) {
  for (const fresh of page.querySelectorAll("[data-part]")) {
    const old = document.querySelector(`[data-part="${fresh.dataset.part}"]`);
    if (!old || old.contains(document.activeElement)) continue;
    for (const kept of fresh.querySelectorAll("details[data-keep]")) {
      kept.open = old.querySelector(`details[data-keep="${kept.dataset.keep}"]`)?.open ?? false;
    }
    for (const kept of fresh.querySelectorAll("[data-scroll]")) {
      const before = old.querySelector(`[data-scroll="${kept.dataset.scroll}"]`);
      if (before) kept.dataset.left = before.scrollLeft;
    }
    writeTimes(fresh);
    old.replaceWith(document.adoptNode(fresh));
    for (const kept of fresh.querySelectorAll("[data-left]")) kept.scrollLeft = Number(kept.dataset.left);
  }
}
