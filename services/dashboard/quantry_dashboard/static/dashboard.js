// Runs before the page is drawn: the theme that was chosen here, else the system's.
(() => {
  const root = document.documentElement;
  root.lang = "en";
  const kept = localStorage.getItem("quantry-theme");
  if (kept === "light" || kept === "dark") root.dataset.theme = kept;

  globalThis.quantryToggleTheme = () => {
    const isDark = (root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
    root.dataset.theme = isDark ? "light" : "dark";
    localStorage.setItem("quantry-theme", root.dataset.theme);
  };

  // A hidden tab asks for nothing: the server is told when it is hidden and when it is back.
  document.addEventListener("visibilitychange", () => globalThis.emitEvent?.("visibility", !document.hidden));

  // Whoever reads the end of a log keeps reading its end; whoever scrolled up is left alone.
  globalThis.quantryFollowEnd = (element) => {
    let isAtEnd = true;
    element.addEventListener("scroll", () => {
      isAtEnd = element.scrollHeight - element.scrollTop - element.clientHeight < 24;
    });
    new MutationObserver(() => {
      if (isAtEnd) element.scrollTop = element.scrollHeight;
    }).observe(element, { childList: true, subtree: true, characterData: true });
    element.scrollTop = element.scrollHeight;
  };
})();
