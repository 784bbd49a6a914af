// The theme follows the system until the button is pressed. Then the choice is remembered.
(() => {
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const dark = () =>
    root.dataset.theme
      ? root.dataset.theme === "dark"
      : matchMedia("(prefers-color-scheme: dark)").matches;
  const show = () => {
    button.setAttribute("aria-pressed", String(dark()));
  };
  try {
    const kept = localStorage.getItem("touchline-theme");
    if (kept === "dark" || kept === "light") root.dataset.theme = kept;
  } catch {
    // The browser may not allow this for pages opened from disk.
  }
  button.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    try {
      localStorage.setItem("touchline-theme", root.dataset.theme);
    } catch {
      // As above.
    }
    show();
  });
  show();
})();
