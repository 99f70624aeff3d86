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

  // On a narrow window the places hide behind a button.
  globalThis.quantryToggleMenu = () => {
    const button = document.querySelector(".menu");
    const isOpen = button.getAttribute("aria-expanded") !== "true";
    button.setAttribute("aria-expanded", String(isOpen));
  };
  document.addEventListener("keydown", (event) => {
    const button = document.querySelector(".menu[aria-expanded=true]");
    if (event.key !== "Escape" || !button) return;
    button.setAttribute("aria-expanded", "false");
    button.focus();
  });

  // In a dialog's field Enter answers, as in a form; in a text of several lines it begins another line.
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.isComposing || !event.target.matches("dialog.asking input:not([type=checkbox])")) return;
    if (event.target.closest("form")) return;
    event.preventDefault();
    event.target.closest("dialog").querySelector(".actions button:last-of-type")?.click();
  });

  // A closed dialog gives the focus back to its button; where that is there no more, the page's content gets it.
  document.addEventListener("close", () => setTimeout(() => {
    if (document.activeElement === document.body) document.getElementById("content")?.focus({ preventScroll: true });
  }, 50), true);

  // Says on the button itself that it was done; without leave to write to the clipboard, it is done the old way.
  globalThis.quantryCopy = async (button) => {
    const text = button.dataset.copied;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const field = document.createElement("textarea");
      field.value = text;
      field.style.position = "fixed";
      document.body.append(field);
      field.select();
      document.execCommand("copy");
      field.remove();
      button.focus();
    }
    const said = button.textContent;
    if (said === "Copied") return;
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = said; }, 1500);
  };

  // What is wrong in a form is unfolded, and the first of it is gone to.
  globalThis.quantryShowWrong = () => setTimeout(() => {
    const wrong = [...document.querySelectorAll(".wrong:not([hidden])")];
    for (const node of wrong) {
      for (let fold = node.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
    }
    const control = wrong[0]?.parentElement.querySelector("[aria-invalid=true]") ?? wrong[0];
    control?.focus();
    control?.scrollIntoView({ block: "center" });
  }, 50);

  // A hidden tab asks for nothing: the server is told when it is hidden and when it is back.
  document.addEventListener("visibilitychange", () => globalThis.emitEvent?.("visibility", !document.hidden));

  // Whoever reads the end of a log keeps reading its end; whoever scrolled up, or wants no following, is left alone.
  globalThis.quantryFollowEnd = (element, box) => {
    element.addEventListener("scroll", () => {
      box.checked = element.scrollHeight - element.scrollTop - element.clientHeight < 24;
    });
    const toEnd = () => { if (box.checked) element.scrollTop = element.scrollHeight; };
    box.addEventListener("change", toEnd);
    new MutationObserver(toEnd).observe(element, { childList: true, subtree: true, characterData: true });
    // It may be filled while it cannot be seen.
    new ResizeObserver(toEnd).observe(element);
  };
})();
