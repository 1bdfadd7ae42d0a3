// Sets the theme before the first paint. Same key and same order of modes as Django's admin: one choice for both.
"use strict";
{
  const MODES = ["auto", "light", "dark"];

  function stored() {
    try {
      const mode = localStorage.getItem("theme");
      return MODES.includes(mode) ? mode : "auto";
    } catch {
      return "auto"; // storage is switched off
    }
  }

  function apply(mode) {
    document.documentElement.dataset.theme = mode;
    for (const name of document.querySelectorAll("[data-theme-name]")) name.textContent = mode[0].toUpperCase() + mode.slice(1);
  }

  function next(mode) {
    const isDark = matchMedia("(prefers-color-scheme: dark)").matches;
    const order = isDark ? ["auto", "light", "dark"] : ["auto", "dark", "light"];
    return order[(order.indexOf(mode) + 1) % order.length];
  }

  apply(stored());
  document.addEventListener("DOMContentLoaded", () => {
    apply(stored());
    for (const button of document.querySelectorAll("[data-theme-toggle]")) {
      button.hidden = false;
      button.addEventListener("click", () => {
        const mode = next(document.documentElement.dataset.theme);
        try {
          localStorage.setItem("theme", mode);
        } catch {
          // the choice holds for this page
        }
        apply(mode);
      });
    }
  });
  addEventListener("storage", (event) => event.key === "theme" && apply(stored()));
}
