"use strict";
// Draws the figures of the page's data (train/study/panels.py says what is in them).
const data = JSON.parse(document.getElementById("data").textContent);
const COLOURS = document.querySelectorAll(".defs [id^=m]").length;
const HEIGHT = 210, LEFT = 46, RIGHT = 12, TOP = 10, BOTTOM = 38, NEAR = 26;
const PREFIXES = [[1e18, "E"], [1e15, "P"], [1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];

function add(parent, name, attributes = {}, text = null) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== null) made.textContent = text;
  parent.append(made);
  return made;
}

function short(value) {
  const size = PREFIXES.find(([size]) => Math.abs(value) >= size);
  return size ? `${+(value / size[0]).toPrecision(3)} ${size[1]}` : `${+value.toPrecision(4)}`;
}

// The ends of an axis that holds these values, and the places of its ticks.
function axis(kind, values, ticks) {
  if (kind === "ordinal") {
    return { low: -0.5, high: ticks.length - 0.5, at: ticks.map((_, i) => i), name: i => ticks[i] };
  }
  let low = Math.min(...values), high = Math.max(...values);
  if (kind === "log") {
    const room = Math.max(1.15, (high / low) ** 0.06, high / low < 1.5 ? 1.5 : 0);
    low /= room;
    high *= room;
    const decades = Math.log10(high / low), at = [];
    const steps = decades > 4 ? [1] : decades > 1.6 ? [1, 3] : [1, 2, 3, 5, 7];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
      if (decades > 8 && power % 2) continue;
      for (const step of steps) at.push(step * 10 ** power);
    }
    return { low, high, at: at.filter(x => x >= low && x <= high), name: short };
  }
  const room = (high - low || Math.abs(high) || 1) * 0.05;
  low -= room;
  high += room;
  const rough = (high - low) / 4, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find(one => one * power >= rough) * power, at = [];
  for (let i = Math.ceil(low / step); i * step <= high; i++) at.push(+(i * step).toPrecision(12));
  return { low, high, at, name: value => Math.abs(value) >= 1e5 ? short(value) : `${value}` };
}

const numbers = list => list.filter(value => value !== null && value !== undefined);

// The axes that a panel shares with others of its figure.
function axes(figure, panel) {
  const all = (key, share) => figure.panels.filter(one => one[share] === panel[share])
    .flatMap(one => one.series.flatMap(series =>
      key === "x" ? numbers(series.x) : numbers([...series.y, ...(series.low ?? []), ...(series.high ?? [])])));
  return [
    axis(figure.x.kind, all("x", "share"), figure.x.ticks),
    axis("linear", all("y", "share_y"), null),
  ];
}

function scale({ low, high }, log, from, to) {
  const f = log ? Math.log : Number;
  return value => from + (f(value) - f(low)) / (f(high) - f(low)) * (to - from);
}

// One panel; returns its points, with where they are and what they are called.
function draw(figure, panel, svg, width) {
  svg.replaceChildren();
  svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
  const [xs, ys] = axes(figure, panel);
  const right = width - RIGHT, bottom = HEIGHT - BOTTOM;
  const x = scale(xs, figure.x.kind === "log", LEFT, right), y = scale(ys, false, bottom, TOP);
  const yLabel = panel.y || figure.y;
  for (const tick of ys.at) {
    add(svg, "path", { class: "grid", d: `M${LEFT} ${y(tick)}H${right}` });
    add(svg, "text", { x: LEFT - 6, y: y(tick) + 4, "text-anchor": "end" }, ys.name(tick));
  }
  let free = -Infinity;
  for (const tick of xs.at) {
    const name = xs.name(tick), half = name.length * 3.2;
    add(svg, "path", { class: "axis", d: `M${x(tick)} ${bottom}v4` });
    if (x(tick) - half < free) continue;
    free = x(tick) + half + 5;
    add(svg, "text", { x: x(tick), y: bottom + 15, "text-anchor": "middle" }, name);
  }
  add(svg, "path", { class: "axis", d: `M${LEFT} ${bottom}H${right}` });
  add(svg, "text", { x: right, y: bottom + 31, "text-anchor": "end" }, figure.x.label);
  const points = [];
  for (const series of panel.series) {
    const arm = series.arm < 0 ? "none" : `a${series.arm % COLOURS}`;
    const held = series.style === "held out" ? " held" : "";
    const group = add(svg, "g", {
      class: `series item ${series.kind} ${arm}${held}`, "data-arm": data.arm_names[series.arm] ?? "",
    });
    const places = series.x.map((value, i) => [x(value), y(series.y[i])]);
    if (series.kind !== "dots") {
      add(group, "polyline", { class: "dash", points: places.map(p => p.map(v => v.toFixed(1)).join()).join(" ") });
    }
    places.forEach(([px, py], i) => {
      const low = series.low?.[i] ?? null, high = series.high?.[i] ?? null;
      if (low !== null && high !== null) {
        add(group, "path", { d: `M${px - 3} ${y(low)}h6M${px - 3} ${y(high)}h6M${px} ${y(low)}V${y(high)}` });
      }
      if (series.kind === "dots") add(group, "circle", { cx: px, cy: py, r: 2.6 });
      if (series.kind === "mean" || (series.kind === "curve" && series.arm >= 0 && places.length <= 12)) {
        const size = series.kind === "mean" ? "" : " scale(.55)";
        add(group, "use", { href: `#m${series.arm % COLOURS}`, transform: `translate(${px} ${py})${size}` });
      }
      const run = series.run ?? series.runs?.[i] ?? null;
      const range = low === null || high === null ? "" : ` [${short(low)}, ${short(high)}]`;
      const where = figure.x.kind === "ordinal" ? "" : `; ${figure.x.label}: ${short(series.x[i])}`;
      const style = series.style ? ` (${series.style})` : "";
      points.push({
        px, py, run, group, name: series.names?.[i] ?? data.titles[run],
        text: `${yLabel}${style}: ${short(series.y[i])}${range}${where}`,
      });
    });
  }
  return points;
}
