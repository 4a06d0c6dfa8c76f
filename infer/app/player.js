// Shows a recording, what was said of it, and where: runs once, 'element' holds player.html.
const part = {};
element.querySelectorAll("[data-part]").forEach(each => { part[each.dataset.part] = each; });
const SVG = "http://www.w3.org/2000/svg";
let view = null, tracks = [], cursors = [], waiting = 0;

const player = () => (view && view.kind === "audio" ? part.audio : part.video);
const percent = value => Math.round(100 * value) + " %";

function made(tag, text, parent) {
  const node = document.createElement(tag);
  node.textContent = text;
  parent.append(node);
  return node;
}

// The number of entries of a sorted list that are at most 'wanted'.
function rank(length, valueOf, wanted) {
  let low = 0, high = length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (valueOf(middle) <= wanted) low = middle + 1; else high = middle;
  }
  return low;
}

// Where a face is: between two finds it moves evenly, beside one it stays for a moment.
function boxAt(boxes, seconds) {
  const after = rank(boxes.length, n => boxes[n][0], seconds), before = boxes[after - 1];
  const next = boxes[after], lost = view.lost_seconds;
  if (before && next && next[0] - before[0] <= lost) {
    const moved = (seconds - before[0]) / (next[0] - before[0]);
    return before.map((value, n) => value + (n && n < 5 ? moved * (next[n] - value) : 0));
  }
  if (before && seconds - before[0] <= lost / 2) return before;
  if (next && next[0] - seconds <= lost / 2) return next;
  return null;
}

// The window whose middle is nearest, if it is no farther away than its length.
function windowAt(windows, seconds) {
  const middle = each => (each.start_seconds + each.end_seconds) / 2;
  const after = rank(windows.length, n => middle(windows[n]), seconds);
  const apart = each => Math.abs(middle(each) - seconds);
  const near = windows.slice(Math.max(0, after - 1), after + 1).sort((a, b) => apart(a) - apart(b));
  const found = near[0];
  return found && apart(found) <= found.end_seconds - found.start_seconds ? found : null;
}

function said(window) {
  const place = view.emotions.indexOf(window.label);
  return place < 0 ? window.label : window.label + " " + percent(window.smoothed[place]);
}

function shownAt(seconds) {
  const found = [];
  for (const track of tracks) {
    if (track.number === null) continue;
    const window = windowAt(track.windows, seconds), box = boxAt(track.boxes, seconds);
    if (window && box) found.push({ track: track.number, window, box });
  }
  const alone = tracks.find(track => track.number === null);
  const window = !found.length && alone && windowAt(alone.windows, seconds);
  return window ? [{ track: null, window, box: null }] : found;
}

function plate(context, text, left, bottom, colour, size) {
  context.font = "600 " + size + "px system-ui, sans-serif";
  const pad = size / 3, width = context.measureText(text).width + 2 * pad, height = size + 2 * pad;
  left = Math.max(0, Math.min(left, context.canvas.width - width));
  const top = Math.max(0, Math.min(bottom - height, context.canvas.height - height));
  context.fillStyle = colour;
  context.fillRect(left, top, width, height);
  context.fillStyle = "#141414";
  context.textBaseline = "middle";
  context.fillText(text, left + pad, top + height / 2);
}

// Width by height of the video on the screen: its pixels need not be square.
function shownShape() {
  const { videoWidth, videoHeight } = part.video;
  return videoWidth ? videoWidth / videoHeight : view.width_px / view.height_px;
}

function sizeStage() {
  if (!view || !view.width_px) return;
  part.stage.style.aspectRatio = shownShape();
  part.stage.style.width = "min(100%, " + (54 * shownShape()).toFixed(2) + "vh)";
}

function drawBoxes(shown) {
  const canvas = part.canvas, context = canvas.getContext("2d");
  const density = window.devicePixelRatio || 1, area = part.stage.getBoundingClientRect();
  const width = Math.round(area.width * density), height = Math.round(area.height * density);
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  context.clearRect(0, 0, width, height);
  if (!view.width_px) return;
  // In full screen the video is fitted into the middle.
  const shape = shownShape(), shownWidth = Math.min(width, height * shape);
  const scaleX = shownWidth / view.width_px, scaleY = shownWidth / shape / view.height_px;
  const left = (width - shownWidth) / 2, top = (height - shownWidth / shape) / 2;
  const size = Math.max(13, Math.min(22, area.width / 34)) * density;
  const several = tracks.filter(track => track.number !== null).length > 1;
  for (const each of shown) {
    const colour = view.colours[each.window.label];
    const text = (several && each.track ? each.track + ": " : "") + said(each.window);
    if (!each.box) {
      plate(context, text, 10 * density, 10 * density + 2 * size, colour, size);
      continue;
    }
    const [, boxX, boxY, boxWidth, boxHeight, sure] = each.box;
    const x = left + scaleX * boxX, y = top + scaleY * boxY;
    const w = scaleX * boxWidth, h = scaleY * boxHeight;
    const edge = view.track_colours[(each.track - 1) % view.track_colours.length];
    context.lineWidth = 2.5 * density;
    context.strokeStyle = "#0009";
    context.strokeRect(x - density, y - density, w + 2 * density, h + 2 * density);
    context.strokeStyle = edge;
    context.strokeRect(x, y, w, h);
    plate(context, text, x, y, colour, size);
    plate(context, "face " + percent(sure), x, y + h + 1.3 * size, edge, 0.7 * size);
  }
  part.stage.dataset.labels = shown.map(each => said(each.window)).join(", ");
}

function drawBars(shown) {
  const largest = shown.slice().sort((a, b) => (b.box ? b.box[3] : 0) - (a.box ? a.box[3] : 0))[0];
  const window = largest && largest.window;
  const name = largest && largest.track && tracks.length > 1 ? ": face " + largest.track : "";
  const heads = { fused: window, voice: window && window.voice, face: window && window.face };
  for (const group of part.bars.children) {
    const head = heads[group.dataset.head], fused = group.dataset.head === "fused";
    group.classList.toggle("absent", !head);
    group.querySelector("h4").textContent = fused
      ? "Now" + name + (window ? ", from " + window.basis : "")
      : group.dataset.title + (window && !head ? ": not there" : "");
    group.querySelectorAll(".row").forEach((row, place) => {
      const value = head ? head.probabilities[view.emotions[place]] : 0;
      row.querySelector("i").style.width = 100 * value + "%";
      row.lastChild.textContent = head ? percent(value) : "";
    });
  }
}

function draw() {
  if (!view || !view.result) return;
  const seconds = player().currentTime, shown = shownAt(seconds);
  drawBoxes(shown);
  drawBars(shown);
  for (const { line, left, scale } of cursors) {
    const x = left + seconds * scale;
    line.setAttribute("x1", x);
    line.setAttribute("x2", x);
  }
  part.seek.setAttribute("aria-valuenow", seconds.toFixed(1));
}

function keepDrawing() {
  cancelAnimationFrame(waiting);
  draw();
  if (element.isConnected && !player().paused) waiting = requestAnimationFrame(keepDrawing);
}

function seek(seconds) {
  const end = view.result ? view.result.duration_seconds : 0;
  player().currentTime = Math.max(0, Math.min(seconds, end));
}

function buildBars() {
  part.bars.replaceChildren();
  const titles = { fused: "Now", voice: "Voice alone", face: "Face alone" };
  for (const [head, title] of Object.entries(titles)) {
    const group = made("div", "", part.bars);
    Object.assign(group.dataset, { head, title });
    made("h4", title, group);
    for (const name of view.emotions) {
      const row = made("div", "", group);
      row.className = "row";
      made("span", name, row);
      const bar = made("span", "", row);
      bar.className = "track";
      made("i", "", bar).style.background = view.colours[name];
      made("span", "", row);
    }
  }
}

function buildTimeline() {
  part.seek.hidden = !view.wide;
  part.seek.replaceChildren();
  cursors = [];
  for (const name of view.wide ? ["wide", "narrow"] : []) {
    const holder = made("div", "", part.seek);
    holder.className = name;
    holder.innerHTML = view[name];
    const svg = holder.firstChild, line = document.createElementNS(SVG, "line");
    line.setAttribute("y2", svg.viewBox.baseVal.height);
    svg.append(line);
    cursors.push({ line, left: +svg.dataset.left, scale: +svg.dataset.scale });
  }
  part.legend.replaceChildren();
  for (const name of view.legend || []) {
    const entry = made("li", "", part.legend);
    made("i", "", entry).style.background = view.colours[name];
    entry.append(name);
  }
}

function headline() {
  part.headline.replaceChildren();
  const result = view.result;
  part.headline.append(view.name);
  if (result) {
    const shown = answer => answer.emotion + " " + percent(answer.probability);
    part.headline.append(": ");
    made("b", shown(result), part.headline);
    const heads = [["voice alone ", result.voice], ["face alone ", result.face]];
    for (const [name, answer] of heads) if (answer) part.headline.append(", " + name + shown(answer));
  }
  if (view.part < 1) part.headline.append(" – read up to " + percent(view.part));
}

function setSource() {
  const old = view.kind === "audio" ? part.video : part.audio, now = player();
  for (const each of [old, now]) {
    const wanted = each === now ? view.source || "" : "";
    if ((each.getAttribute("src") || "") === wanted) continue;
    if (wanted) each.setAttribute("src", wanted); else each.removeAttribute("src");
    each.load();
  }
  part.stage.hidden = view.kind === "audio" || !view.source;
  part.audio.hidden = view.kind !== "audio" || !view.source;
  part.waiting.hidden = Boolean(view.source);
  part.waiting.textContent = "Browsers do not play this format: a copy to look at is made "
    + (view.part < 1 ? "after the predictions." : "now.");
  sizeStage();
}

// The server refuses a file that is too large only after it was sent, and says "Error".
function refuseLarge(event) {
  if (!event.target.closest || !event.target.closest("#file")) return;
  const file = ((event.dataTransfer || event.target).files || [])[0];
  part.refused.hidden = !file || file.size <= props.most_bytes;
  if (part.refused.hidden) return;
  event.stopPropagation();
  event.preventDefault();
  if (event.type === "change") event.target.value = "";
  else event.target.dispatchEvent(new DragEvent("dragleave", { bubbles: true }));
  part.refused.textContent = "expected at most " + props.most_bytes / 1e6 + " MB, got "
    + (file.size / 1e6).toFixed(1) + " in " + file.name
    + "; cut it, or use 'make infer', which takes any size";
}

function show() {
  view = props.value;
  part.refused.hidden = true;
  element.querySelector(".player").hidden = !view;
  if (!view) {
    part.video.pause();
    part.audio.pause();
    return;
  }
  const windows = view.result ? view.result.windows : [];
  tracks = (view.result ? view.result.tracks : []).map(track => ({
    number: track.track, boxes: track.boxes, windows: windows.filter(w => w.track === track.track),
  }));
  const alone = windows.filter(window => window.track === null);
  if (alone.length) tracks.push({ number: null, boxes: [], windows: alone });
  setSource();
  headline();
  buildTimeline();
  part.bars.hidden = !view.result;
  if (view.result && !part.bars.children.length) buildBars();
  part.notes.replaceChildren();
  for (const note of view.result ? view.result.notes : []) made("li", note, part.notes);
  if (view.result) part.seek.setAttribute("aria-valuemax", view.result.duration_seconds);
  keepDrawing();
}

for (const each of [part.video, part.audio]) {
  each.addEventListener("play", keepDrawing);
  for (const name of ["pause", "seeking", "seeked", "timeupdate", "loadeddata"]) {
    each.addEventListener(name, draw);
  }
}
part.video.addEventListener("loadedmetadata", sizeStage);
part.seek.addEventListener("click", event => {
  const svg = event.target.closest("svg");
  if (!svg) return;
  const area = svg.getBoundingClientRect();
  const x = (event.clientX - area.left) / area.width * svg.viewBox.baseVal.width;
  seek((x - +svg.dataset.left) / +svg.dataset.scale);
});
part.seek.addEventListener("keydown", event => {
  const step = { ArrowLeft: -1, ArrowRight: 1, PageDown: -10, PageUp: 10 }[event.key];
  if (step) seek(player().currentTime + step);
  if (event.key === " ") player().paused ? player().play() : player().pause();
  if (step || event.key === " ") event.preventDefault();
});
part.fullscreen.addEventListener("click", () => {
  if (document.fullscreenElement) document.exitFullscreen(); else part.stage.requestFullscreen();
});
new ResizeObserver(draw).observe(part.stage);
for (const name of ["change", "drop"]) document.addEventListener(name, refuseLarge, true);
watch("value", show);
show();
