"use strict";
// Tables that sort, figures that change, and the gallery's captions. All data is in the page.
const data = JSON.parse(document.getElementById("data").textContent);
const dark = matchMedia("(prefers-color-scheme: dark)");

// Sorting: numbers by data-value (or text), names by text; empty cells stay last.
function sortBy(heading) {
  const table = heading.closest("table"), column = heading.cellIndex, body = table.tBodies[0];
  const text = heading.hasAttribute("data-text"), rows = [...body.rows];
  const descending = heading.getAttribute("aria-sort") === "ascending";
  const key = row => {
    const cell = row.cells[column], value = cell.dataset.value ?? cell.textContent.trim();
    if (value === "" || cell.classList.contains("none")) return null;
    return text ? value : parseFloat(value);
  };
  const compare = (a, b) => (text ? a.localeCompare(b) : a - b);
  const keyed = rows.map((row, place) => ({ row, place, key: key(row), total: row.classList.contains("total") }));
  keyed.sort((a, b) => {
    if (a.total !== b.total) return a.total ? 1 : -1;
    if (a.key === null || b.key === null) return (a.key === null) - (b.key === null) || a.place - b.place;
    return (descending ? -1 : 1) * compare(a.key, b.key) || a.place - b.place;
  });
  body.append(...keyed.map(entry => entry.row));
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
}
document.addEventListener("click", event => {
  const button = event.target.closest("table.sortable thead th button");
  if (button) sortBy(button.closest("th"));
});

// Figures, in the page's colours.
function lighter(colour) {  // as --strength makes them in the tables
  const parts = [1, 3, 5].map(at => parseInt(colour.slice(at, at + 2), 16));
  return `rgb(${parts.map(part => Math.round(part + (255 - part) * 0.45)).join(",")})`;
}
function draw(place, figure, options) {
  const style = getComputedStyle(document.documentElement), own = name => style.getPropertyValue(name).trim();
  const traces = structuredClone(figure.data), layout = structuredClone(figure.layout);
  for (const trace of traces) {
    if (trace.type === "heatmap") continue;
    const errors = trace.error_y ?? trace.error_x;
    if (dark.matches) trace.line.color = lighter(trace.line.color);
    trace.marker.color = trace.line.color;
    if (trace.meta === "paper") trace.visible = options.paper;
    else errors.visible = options.intervals;
  }
  const grid = { gridcolor: own("--line"), linecolor: own("--soft"), zerolinecolor: own("--line"), automargin: true };
  Object.assign(layout.xaxis, grid, { showline: true });
  Object.assign(layout.yaxis, grid);
  Object.assign(layout, {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: own("--ink"), family: getComputedStyle(document.body).fontFamily, size: 13 },
    uirevision: place.id,
    modebar: { bgcolor: "rgba(0,0,0,0)", color: own("--soft"), activecolor: own("--link") },
  });
  layout.hoverlabel = { ...layout.hoverlabel, bgcolor: own("--card"), bordercolor: own("--line"), font: { color: own("--ink") } };
  const config = { displaylogo: false, responsive: true,
    // Only these: one of plotly's own would send the data to its makers.
    modeBarButtons: [["toImage", "zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]] };
  return Plotly.react(place, traces, layout, config);
}
function chosen(name) {
  return Object.keys(data.controls[name]).map(key => {
    const input = document.querySelector(`input[name="${name}-${key}"]:checked`);
    return input ? input.value : data.controls[name][key][0].value;
  }).join("|");
}
function show(name, place) {
  const key = chosen(name);
  for (const view of document.querySelectorAll(`[data-view="${name}"]`)) view.hidden = view.dataset.key !== key;
  const figure = data.figures[name][key];
  place.hidden = !figure;
  const on = id => document.getElementById(id)?.checked ?? false;
  if (figure) draw(place, figure, { intervals: name !== "table" || on("show-intervals"), paper: on("show-paper") });
}
function redraw() {
  for (const place of document.querySelectorAll("[data-figure]")) show(place.dataset.figure, place);
}
document.addEventListener("change", event => {
  if (event.target.matches("[data-controls] input, .options input")) redraw();
});
dark.addEventListener("change", redraw);
redraw();

// Pairs of methods: as many rows as are asked for.
const pairs = document.getElementById("pairs");
function listPairs() {
  const [sign, metric, perturbation, k, method] = [...document.querySelectorAll("[data-filter] select")].map(s => s.value);
  const rows = data.pairs.filter(({ at }) => at[0] === sign && at[1] === metric && at[2] === perturbation && at[3] === k
    && (!method || at[4] === method || at[5] === method));
  pairs.tBodies[0].replaceChildren(...rows.map(({ cells }) => {
    const line = document.createElement("tr");
    cells.forEach(([text, value], place) => {
      const cell = document.createElement(place === 0 ? "th" : "td");
      if (place === 0) cell.scope = "row";
      if (place === 1) cell.style.textAlign = "left";
      cell.textContent = text;
      cell.dataset.value = value ?? "";
      line.append(cell);
    });
    return line;
  }));
  for (const heading of pairs.tHead.rows[0].cells) heading.removeAttribute("aria-sort");
  const differ = rows.filter(({ cells }) => cells[7][1] !== null && cells[7][1] < 0.05).length;
  document.getElementById("pairs-count").textContent = rows.length
    ? `${differ} of ${rows.length} pairs differ (p after Holm below 0.05).` : "No pair of methods has this cell.";
}
if (pairs) {
  document.querySelector("[data-filter]").addEventListener("change", listPairs);
  listPairs();
}

// The gallery's predictions after the chosen change.
const selects = Object.fromEntries([...document.querySelectorAll("[data-gallery-key]")].map(s => [s.dataset.galleryKey, s]));
function caption() {
  const ks = data.gallery.ks[selects.sign.value];
  if (![...selects.K.options].every((option, place) => option.value === ks[place]) || selects.K.options.length !== ks.length) {
    const keep = ks.includes(selects.K.value) ? selects.K.value : data.gallery.middle[selects.sign.value];
    selects.K.replaceChildren(...ks.map(k => new Option(k, k, k === keep, k === keep)));
  }
  const key = [selects.sign.value, selects.perturbation.value, selects.K.value].join("|");
  for (const place of document.querySelectorAll(".after")) {
    const found = data.gallery.after[place.dataset.image]?.[place.dataset.method]?.[key];
    place.className = "after" + (found ? (found[0] ? " right" : " wrong") : "");
    place.textContent = found ? `${found[0] ? "✓" : "✗"} ${found[1]}` : "not measured";
  }
}
if (data.gallery) {
  document.querySelector("[data-gallery]").addEventListener("change", caption);
  caption();
}

// Volumes: the slices of an input and of its heatmaps, one below the other in a picture each, move behind a window.
for (const slider of document.querySelectorAll(".slider")) {
  const range = slider.querySelector("input"), numbers = slider.dataset.numbers.split(" ");
  const strips = [...slider.nextElementSibling.querySelectorAll("[data-slices]")].map(figure => {
    const whole = figure.querySelector("img"), pane = document.createElement("div"), strip = new Image();
    pane.className = "slice";
    pane.style.aspectRatio = slider.dataset.shape;
    strip.src = figure.dataset.slices;
    strip.alt = `${whole.alt}, one slice`;
    pane.append(strip);
    whole.after(pane);
    return strip;
  });
  const move = () => {
    for (const strip of strips) strip.style.transform = `translateY(${-100 * range.value / numbers.length}%)`;
    slider.querySelector("output").textContent = numbers[range.value];
  };
  range.addEventListener("input", move);
  slider.hidden = false;
  move();
}
