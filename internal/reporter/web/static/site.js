// What scripts add to pages that work without them. Nothing here is needed to read or to send anything.
(() => {
  "use strict";
  const root = document.documentElement;
  root.classList.add("js");

  // A form with data-auto is sent when a choice in it changes; its button is for those without scripts.
  document.addEventListener("change", (e) => {
    const form = e.target.closest("form[data-auto]");
    if (form && e.target.matches("select, input[type=checkbox], input[type=radio], input[type=date], input[type=month]")) form.requestSubmit();
  });

  document.addEventListener("click", (e) => {
    // A link with data-dialog opens the dialog of that id; without scripts it leads to a page with the same form.
    const opener = e.target.closest("[data-dialog]");
    const dialog = opener && document.getElementById(opener.dataset.dialog);
    if (dialog && dialog.showModal && !e.metaKey && !e.ctrlKey) { e.preventDefault(); dialog.showModal(); return; }
    const closer = e.target.closest("[data-close]");
    if (closer) { const open = closer.closest("dialog"); if (open) { e.preventDefault(); open.close(); } return; }
    const copy = e.target.closest("[data-copy]");
    if (copy) {
      const field = document.getElementById(copy.dataset.copy);
      field.select();
      const done = () => { copy.textContent = "Copied"; };
      if (navigator.clipboard) navigator.clipboard.writeText(field.value).then(done, () => document.execCommand("copy") && done());
      else if (document.execCommand("copy")) done();
      return;
    }
    if (e.target.closest("[data-print]")) window.print();
  });

  // A box with data-all stands for the others of its row.
  document.addEventListener("change", (e) => {
    const row = e.target.matches("tr input[type=checkbox]") && e.target.closest("tr");
    const all = row && row.querySelector("[data-all]");
    if (!all) return;
    const others = [...row.querySelectorAll("input[type=checkbox]:not([data-all])")];
    if (e.target === all) others.forEach((o) => { o.checked = all.checked; });
    else all.checked = others.every((o) => o.checked);
  });

  // A form is sent once: a second click while the answer is on its way changes nothing.
  document.addEventListener("submit", (e) => {
    const form = e.target;
    if (form.method !== "post" || form.hasAttribute("data-again")) return;
    if (form.dataset.sent) { e.preventDefault(); return; }
    form.dataset.sent = "1";
  });
  window.addEventListener("pageshow", () => document.querySelectorAll("form[data-sent]").forEach((f) => delete f.dataset.sent));

  // A part with data-live is read again every data-every milliseconds from that address, while it is in sight.
  document.querySelectorAll("[data-live]").forEach((part) => {
    let busy = false;
    const again = async () => {
      if (document.hidden || busy || !part.isConnected || part.contains(document.activeElement) && document.activeElement.tagName === "A") return;
      busy = true;
      try {
        const answer = await fetch(part.dataset.live, { credentials: "same-origin" });
        if (answer.ok && !answer.redirected) part.innerHTML = await answer.text();
      } catch { /* the next one may come through */ }
      busy = false;
    };
    setInterval(again, Number(part.dataset.every) || 3000);
    document.addEventListener("visibilitychange", again);
  });
})();
