// Charts where scripts run: uPlot stands in the place of the picture that the server drew. That picture stays for print
// and for those without scripts. Numbers are shown as the texts that the page has, never computed here; only places
// on the screen are.
(() => {
  "use strict";
  const still = "No point chosen";

  // grouped sets commas between the thousands of a decimal, as the tables do.
  const grouped = (text) => text.replace(/^([+-]?)(\d{4,})/, (_, sign, digits) => sign + digits.replace(/\B(?=(\d{3})+$)/g, ","));

  // short is a number of the axis: 1,500 is 1.5 k.
  const short = (n) => {
    for (const [size, name] of [[1e15, "P"], [1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
      if (Math.abs(n) >= size) return String(+(n / size).toFixed(2)) + " " + name;
    }
    return String(+n.toFixed(6));
  };

  const draw = (figure) => {
    const chart = JSON.parse(figure.dataset.chart), count = chart.labels.length;
    if (!count || !window.uPlot) return;
    const probe = figure.appendChild(document.createElement("span"));
    probe.hidden = true;
    const colour = (name) => () => { probe.style.color = `var(--${name})`; return getComputedStyle(probe).color; };

    // What is drawn on, and beneath it what is under the cursor and where a selection leads.
    const plot = figure.appendChild(document.createElement("div"));
    plot.className = "plot";
    plot.tabIndex = 0;
    for (const [name, value] of [["role", "slider"], ["aria-label", chart.title + ": arrow keys go from point to point"], ["aria-valuemin", 0], ["aria-valuemax", count - 1], ["aria-valuenow", 0], ["aria-valuetext", still]]) plot.setAttribute(name, value);
    const foot = figure.appendChild(document.createElement("p"));
    foot.className = "says";
    const link = foot.appendChild(document.createElement("a")); // first: it does not move while the pointer is on its way to it
    const says = foot.appendChild(document.createElement("span"));
    link.hidden = true;
    const hint = chart.narrow ? "Point at the chart for its numbers; drag over it, or hold Shift with the arrow keys, to narrow the period." : "Point at the chart, or use the arrow keys, for its numbers.";
    if (!figure.querySelector("details")) {
      const keys = figure.appendChild(document.createElement("details")); // there for whom it helps, out of the way of the others
      keys.appendChild(document.createElement("summary")).textContent = "How to use this chart";
      keys.appendChild(document.createElement("p")).textContent = hint;
    }

    const value = (list, i) => list[i] ? grouped(list[i]) + (chart.unit ? " " + chart.unit : "") : "";
    const told = (i) => {
      const parts = [chart.values, chart.past].map((list, n) => list && value(list, i) && (chart.past ? (n ? chart.before : chart.now) + " " : "") + value(list, i));
      return chart.names[i] + ": " + (parts.filter(Boolean).join(" · ") || "no value");
    };
    let at = null, anchor = null, moved = false; // the point under the cursor, and where a selection by keys began
    const tell = (i) => {
      at = i;
      says.textContent = i !== null ? told(i) : "";
      if (i === null) return;
      plot.setAttribute("aria-valuenow", i);
      plot.setAttribute("aria-valuetext", told(i));
    };
    const narrow = (first, last) => {
      if (!chart.narrow) return;
      const moment = (i) => new Date(chart.starts[i] * 1000).toISOString().replace(".000Z", "Z");
      const to = new URL(chart.narrow, location.href);
      to.searchParams.set("from", moment(first));
      to.searchParams.set("to", moment(last + 1));
      link.href = to.pathname + to.search;
      link.textContent = "Show only " + chart.names[first] + (last > first ? " to " + chart.names[last] : "");
      link.hidden = false;
    };

    const numbers = (list) => (list || []).map((text) => text === "" ? null : Number(text));
    const padded = (list) => { const all = numbers(list); while (all.length < count) all.push(null); return all; };
    const data = [chart.labels.map((_, i) => i), padded(chart.values)];
    const font = "12px " + getComputedStyle(document.body).fontFamily;
    const series = [{}, chart.line
      ? { stroke: colour("accent"), width: 2, points: { show: count <= 62, size: 5, fill: colour("accent"), stroke: colour("accent") } }
      : { stroke: colour("accent"), fill: colour("accent"), width: 0, paths: uPlot.paths.bars({ size: [0.76, 72] }), points: { show: false } }];
    if (chart.past) {
      data.push(padded(chart.past));
      series.push({ stroke: colour("line"), width: 1.5, dash: [4, 4], points: { show: false } });
    }
    const size = () => {
      const width = Math.max(plot.clientWidth, 200);
      return { width, height: Math.round(Math.min(384, Math.max(200, width * 0.29))) };
    };
    figure.classList.add("drawn");
    const u = new uPlot({
      ...size(), series,
      legend: { show: false }, padding: [8, 8, 0, 0],
      cursor: { y: false, points: { show: Boolean(chart.line) }, drag: { x: true, y: false, setScale: false } },
      scales: {
        x: { time: false, range: [-0.5, count - 0.5] },
        y: { range: (_, low, high) => [Math.min(0, low || 0) * 1.05, Math.max(0, high || 0) * 1.05 || (low < 0 ? 0 : 1)] },
      },
      axes: [
        { stroke: colour("soft"), font, size: 30, gap: 4, grid: { show: false }, ticks: { stroke: colour("rule"), size: 4 }, space: Math.max(34, 8 * Math.max(...chart.labels.map((l) => l.length))), incrs: [1, 2, 3, 4, 6, 7, 12, 24, 48, 72, 96, 168, 336], values: (_, all) => all.map((i) => chart.labels[i] ?? "") },
        { stroke: colour("soft"), font, size: 52, gap: 4, grid: { stroke: colour("rule"), width: 1 }, ticks: { show: false }, values: (_, all) => all.map(short) },
      ],
      hooks: {
        setCursor: [(c) => tell(c.cursor.idx ?? null)],
        setSelect: [(c) => {
          if (!moved && c.select.width > 0) narrow(c.posToIdx(c.select.left), Math.min(count - 1, c.posToIdx(c.select.left + c.select.width)));
        }],
      },
    }, data, plot);

    const select = (first, last) => {
      moved = true;
      const left = u.valToPos(first - 0.5, "x");
      u.setSelect({ left, top: 0, width: u.valToPos(last + 0.5, "x") - left, height: u.over.clientHeight });
      moved = false;
    };
    const clear = () => { anchor = null; link.hidden = true; moved = true; u.setSelect({ left: 0, top: 0, width: 0, height: 0 }); moved = false; };
    const steps = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 7, PageDown: -7, Home: -count, End: count };
    plot.addEventListener("keydown", (e) => {
      if (e.key === "Escape") { clear(); return; }
      if (e.key === "Enter" && !link.hidden) { link.click(); return; }
      if (!(e.key in steps)) return;
      e.preventDefault();
      const from = at ?? (steps[e.key] > 0 ? -1 : count);
      const to = Math.min(count - 1, Math.max(0, from + steps[e.key]));
      if (e.shiftKey) anchor ??= Math.min(count - 1, Math.max(0, from)); else clear();
      u.setCursor({ left: u.valToPos(to, "x"), top: u.over.clientHeight / 2 });
      tell(to);
      const first = anchor === null ? to : Math.min(anchor, to), last = anchor === null ? to : Math.max(anchor, to);
      if (anchor !== null) select(first, last);
      narrow(first, last);
    });
    u.over.addEventListener("click", () => { if (u.select.width === 0 && at !== null) narrow(at, at); });
    u.over.addEventListener("mousedown", () => { anchor = null; link.hidden = true; });
    new ResizeObserver(() => { const s = size(); if (s.width !== u.width) { clear(); u.setSize(s); } }).observe(plot);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => u.redraw(false));
  };
  document.querySelectorAll("figure[data-chart]").forEach(draw);
})();
