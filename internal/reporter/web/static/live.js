// A part with data-live is read again every data-every milliseconds from that address, while it is in sight.
(() => {
  "use strict";
  document.querySelectorAll("[data-live]").forEach((part) => {
    let busy = false;
    const again = async () => {
      if (document.hidden || busy || !part.isConnected || part.contains(document.activeElement) && document.activeElement.tagName === "A") return;
      busy = true;
      try {
        const answer = await fetch(part.dataset.live, { headers: { "HX-Request": "true" }, credentials: "same-origin" });
        if (answer.ok && !answer.redirected) part.innerHTML = await answer.text();
      } catch { /* the next one may come through */ }
      busy = false;
    };
    setInterval(again, Number(part.dataset.every) || 3000);
    document.addEventListener("visibilitychange", again);
  });
})();
