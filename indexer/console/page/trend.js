// What the newest reconciles changed, as a plot. The library is loaded when there is something to draw.
import { html, useEffect, useRef } from "./ui.js";
import { local, number, plural } from "./format.js";
import { Empty } from "./parts.js";

const HEIGHT = 150;

export function Trend({ runs }) {
  const place = useRef(null);
  const ordered = [...runs].sort((one, other) => Date.parse(one.finished_at) - Date.parse(other.finished_at));
  const drawn = ordered.length > 1;
  const key = ordered.map((run) => run.id).join(" ");
  useEffect(() => {
    if (!drawn) return undefined;
    const element = place.current;
    let plot = null;
    let gone = false;
    let watch = null;
    import("../vendor/uplot.mjs").then(({ default: Plot }) => {
      if (gone) return;
      plot = new Plot(options(Plot, element), data(ordered), element);
      watch = new ResizeObserver(() => plot.setSize({ width: element.clientWidth, height: HEIGHT }));
      watch.observe(element);
    });
    return () => {
      gone = true;
      watch?.disconnect();
      plot?.destroy();
    };
  }, [key]);
  if (!drawn) return html`<${Empty} hint="The plot begins with the second one.">${runs.length ? "One reconcile has finished." : "No reconcile has finished yet."}<//>`;
  const newest = ordered[ordered.length - 1];
  const words = `${plural(ordered.length, "reconcile")}; the newest, of ${local(newest.finished_at)}, repaired ${number(newest.repaired)} and entered ${number(newest.found)} that were there before the indexer.`;
  return html`<figure class="plot"><div ref=${place} role="img" aria-label=${words}></div><figcaption>${words}</figcaption></figure>`;
}

function data(runs) {
  return [runs.map((run) => Date.parse(run.finished_at) / 1000), runs.map((run) => run.found), runs.map((run) => run.repaired)];
}

function options(Plot, element) {
  const style = getComputedStyle(element);
  const colour = (name) => style.getPropertyValue(name).trim();
  const axis = { stroke: colour("--muted"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: `11px ${style.fontFamily}` };
  return {
    width: element.clientWidth,
    height: HEIGHT,
    legend: { show: false },
    cursor: { show: false },
    scales: { y: { range: (_plot, low, high) => [0, Math.max(high, 4)] } },
    axes: [{ ...axis, values: [[3600, "{HH}:{mm}", "\n{YYYY}-{MM}-{DD}", null, "\n{YYYY}-{MM}-{DD}", null, null, null, 1], [60, "{HH}:{mm}", null, null, null, null, null, null, 1], [1, "{HH}:{mm}:{ss}", null, null, null, null, null, null, 1]] }, { ...axis, size: 44, incrs: [1, 2, 5, 10, 50, 100, 500, 1000, 10_000, 100_000, 1_000_000] }],
    series: [
      {},
      { label: "new", stroke: colour("--warn"), width: 1.5, points: { size: 5, fill: colour("--surface") } },
      { label: "repaired", stroke: colour("--accent"), fill: colour("--accent-soft"), width: 1, paths: Plot.paths.bars({ size: [0.6, 28] }), points: { show: false } },
    ],
  };
}
