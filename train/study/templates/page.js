
// Plots: drawn at the width they have, and again when that changes.
const tip = document.getElementById("tip");
const panels = [];
for (const box of document.querySelectorAll(".plot")) {
  const figure = data.figures.find(one => one.name === box.dataset.figure);
  if (!figure) continue;
  box.classList.toggle("two", figure.columns === 2);
  for (const panel of figure.panels) {
    const outer = document.createElement("figure"), caption = document.createElement("figcaption");
    outer.className = "panel item";
    outer.dataset.family = panel.family;
    if (panel.labels) outer.dataset.labels = panel.labels;
    const unit = document.createElement("span");
    unit.textContent = panel.y || figure.y;
    caption.append(panel.title, " ", unit);
    outer.append(caption);
    const svg = add(outer, "svg", { tabindex: 0, role: "img" });
    svg.setAttribute("aria-label", `${figure.title}${panel.title ? ", " : ""}${panel.title}; arrow keys read the points`);
    box.append(outer);
    const one = { figure, panel, svg, outer, points: [], at: -1, width: 0 };
    panels.push(one);
    svg.addEventListener("pointermove", event => pointAt(one, event));
    svg.addEventListener("pointerdown", event => pointAt(one, event));
    svg.addEventListener("pointerleave", event => event.pointerType === "mouse" && hide());
    svg.addEventListener("blur", hide);
    svg.addEventListener("keydown", event => step(one, event));
  }
}

const PAPER = 340;
function layOut(paper = false) {
  for (const one of panels) {
    const width = paper ? PAPER : Math.round(one.outer.clientWidth || one.width || 320);
    if (width === one.width) continue;
    one.width = width;
    one.points = draw(one.figure, one.panel, one.svg, width);
  }
  if (panels.length) keepAlone();
  for (const form of document.querySelectorAll(".filter")) filter(form);
}

const seen = one => one.group.getClientRects().length > 0;

function show(one, point) {
  one.svg.querySelector(".hit")?.remove();
  add(one.svg, "circle", { class: "hit", cx: point.px, cy: point.py, r: 6 });
  const name = document.createElement("b");
  name.textContent = point.name;
  tip.replaceChildren(name, point.text);
  tip.hidden = false;
  const box = one.svg.getBoundingClientRect(), ratio = box.width / one.width;
  const x = box.left + point.px * ratio, y = box.top + point.py * ratio;
  tip.style.left = `${Math.max(4, Math.min(x + 12, innerWidth - tip.offsetWidth - 8))}px`;
  tip.style.top = `${y - tip.offsetHeight - 12 > 0 ? y - tip.offsetHeight - 12 : y + 14}px`;
}

function hide() {
  tip.hidden = true;
  for (const hit of document.querySelectorAll(".hit")) hit.remove();
}

function pointAt(one, event) {
  const box = one.svg.getBoundingClientRect(), ratio = one.width / box.width;
  const x = (event.clientX - box.left) * ratio, y = (event.clientY - box.top) * ratio;
  let best = null, nearest = NEAR;
  for (const point of one.points) {
    // A mean covers its runs' dots: of two at one place, the run is told.
    const far = Math.hypot(point.px - x, point.py - y) - (point.run === null ? 0 : 1e-3);
    if (far < nearest && seen(point)) [best, nearest] = [point, far];
  }
  if (best) show(one, best);
  else hide();
}

function step(one, event) {
  const move = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (event.key === "Escape") return hide();
  const points = one.points.filter(seen);
  if (!move || !points.length) return;
  event.preventDefault();
  one.at = Math.max(0, Math.min(points.length - 1, one.at + move));
  show(one, points[one.at]);
}

// One arm by itself, in all plots.
const legend = document.querySelector(".legend");
function keepAlone() {
  const arm = legend.querySelector("[aria-pressed=true]")?.dataset.arm ?? null;
  document.body.classList.toggle("alone", arm !== null);
  for (const group of document.querySelectorAll(".series")) {
    group.classList.toggle("kept", group.dataset.arm === arm || group.dataset.arm === "");
  }
}
legend.addEventListener("click", event => {
  const pressed = event.target.closest("button");
  if (!pressed) return;
  for (const button of legend.children) {
    const on = button === pressed && button.getAttribute("aria-pressed") === "false";
    button.setAttribute("aria-pressed", on);
  }
  keepAlone();
});

// Filters: an item is out if it has one of the form's properties with another value.
function filter(form) {
  const asked = Object.fromEntries(new FormData(form));
  const words = (asked.text ?? "").toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0, all = 0;
  for (const item of document.getElementById(form.dataset.for).querySelectorAll(".item")) {
    const has = item.dataset;
    const fits = (name, same) => !asked[name] || has[name] === undefined || same(has[name], asked[name]);
    const equal = (a, b) => a === b, text = words.length ? item.textContent.toLowerCase() : "";
    const status = (a, b) => a === b || a.startsWith(`${b} `) || a.endsWith(` ${b}`) && !a.endsWith(`not ${b}`);
    const stays = fits("family", equal) && fits("labels", equal) && fits("arm", equal) && fits("status", status)
      && (item.matches(".group, .panel, .series") || words.every(word => text.includes(word)));
    item.classList.toggle("out", !stays);
    if (item.matches("tr:not(.group)")) { all++; shown += stays; }
  }
  form.querySelector("output").textContent = all && shown < all ? `${shown} of ${all}` : "";
}
for (const form of document.querySelectorAll(".filter")) {
  form.addEventListener("input", () => filter(form));
  form.addEventListener("submit", event => event.preventDefault());
}
// Many learning curves: begin with one family.
const curves = document.querySelector('.filter[data-for="curves"] [name=family]');
if (curves && document.querySelectorAll("#curves .panel").length > 8) curves.selectedIndex = 1;

// Tables: a column's name sorts by it.
const value = cell => {
  const text = cell.dataset.v ?? cell.querySelector("data")?.value ?? cell.textContent.trim();
  const number = text.replace(/[,%]/g, "").replace("−", "-").replace(/^</, "");
  return number !== "" && !isNaN(number) ? +number : text;
};
function compare(a, b) {
  if (a === "" || b === "") return (a === "") - (b === "");
  if (typeof a === "number" && typeof b === "number") return a - b;
  return `${a}`.localeCompare(`${b}`, "en", { numeric: true });
}
function sort(head) {
  const table = head.closest("table"), body = table.tBodies[0], index = head.cellIndex;
  const down = head.getAttribute("aria-sort") === "ascending";
  for (const other of table.tHead.rows[0].cells) if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  const rows = [...body.rows].map(row => [value(row.cells[index]), row]);
  const last = ([a]) => a === "";
  rows.sort((p, q) => last(p) || last(q) ? last(p) - last(q) : compare(p[0], q[0]) * (down ? -1 : 1));
  body.append(...rows.map(([, row]) => row));
  table.classList.add("sorted");
}
for (const head of document.querySelectorAll(".sortable thead th:not(.plain)")) {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...head.childNodes);
  head.append(button);
  head.setAttribute("aria-sort", "none");
  button.addEventListener("click", () => sort(head));
}

// A run's whole record.
const dialog = document.querySelector("dialog");
function rows(list, record, before = "") {
  for (const [name, one] of Object.entries(record)) {
    const path = before ? `${before}, ${name}` : name;
    if (Array.isArray(one) && one.some(x => x?.constructor === Object)) {
      one.forEach((x, i) => rows(list, x, `${path} ${i + 1}`));
      continue;
    }
    if (one?.constructor === Object) { rows(list, one, path); continue; }
    const term = document.createElement("dt"), told = document.createElement("dd");
    term.textContent = path.replaceAll("_", " ").replaceAll("eval/", "");
    told.textContent = Array.isArray(one) ? one.flat().join(" ") : `${one ?? "–"}`;
    list.append(term, told);
  }
}
document.getElementById("run-table").addEventListener("click", event => {
  const button = event.target.closest(".run");
  if (!button) return;
  const list = dialog.querySelector("dl");
  list.replaceChildren();
  dialog.querySelector("h2").textContent = data.titles[button.dataset.run];
  rows(list, data.records[button.dataset.run]);
  dialog.showModal();
});
dialog.addEventListener("click", event => event.target === dialog && dialog.close());

addEventListener("beforeprint", () => {
  hide();
  for (const part of document.querySelectorAll("details")) part.open = true;
  layOut(true);
});
addEventListener("afterprint", () => layOut());
addEventListener("resize", () => layOut());
layOut();
