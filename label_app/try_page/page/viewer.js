/** An image with what is laid over it: zoom by wheel, fingers, buttons and keys. */
import { drawn, element, text } from "./dom.js";

const CLOSEST = 12;
const STEP = 1.4;
const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class Viewer {
  /** `view`: image, width, height, and where there are any outline and probability; `boxes`: of lesions. */
  constructor(view, { number, caption = null, boxes = [] }) {
    this.view = view;
    this.pointers = new Map();
    this.svg = drawn("svg", { class: "viewer", tabindex: 0, role: "img", "aria-label": text("imageLabel", { number }) });
    this.boxes = boxes.map((box, index) => this.drawBox(box.box, index + 1));
    this.over = drawn("g", {}, ...this.layers(), ...this.boxes);
    this.svg.append(this.picture(view.image), this.over);
    this.element = element("figure", { className: view.is ?? "" }, this.svg, caption && element("figcaption", {}, caption));
    this.listen();
    this.showAll();
  }

  picture(source, name = "image") {
    const { width, height } = this.view;
    return drawn("image", { href: source ?? "", class: name, width, height, preserveAspectRatio: "none" });
  }

  layers() {
    this.heat = this.picture(null, "heat");
    const made = [this.heat];
    if (this.view.probability) made.push(this.picture(this.view.probability, "probability"));
    if (this.view.outline) made.push(drawn("path", { d: this.view.outline, class: "outline" }));
    this.showHeat(null);
    return made;
  }

  drawBox([x, y, width, height], number) {
    const size = this.view.width / 24;
    const shape = drawn("rect", { x, y, width, height, class: "box" });
    const name = drawn("text", { x: x + size / 4, y: y + size, "font-size": size, class: "box-number" }, String(number));
    return drawn("g", {}, shape, name);
  }

  /** How the outline is shown: "outline", "fill", "probability" or "nothing". */
  showAs(mode) {
    this.svg.dataset.mode = mode;
  }

  set opacity(value) {
    this.over.setAttribute("opacity", value);
  }

  /** Lay the heat map `source` over the image; null: none. */
  showHeat(source) {
    this.heat.setAttribute("href", source ?? "");
    this.heat.style.display = source ? "" : "none";
  }

  /** Fill the boxes by the share of attention to each, in [0, 1]; empty: none. */
  showShares(shares) {
    this.boxes.forEach((box, index) => (box.firstChild.style.fillOpacity = 0.45 * (shares[index] ?? 0)));
  }

  showAll() {
    this.area = { x: 0, y: 0, width: this.view.width, height: this.view.height };
    this.update();
  }

  /** Zoom by `factor` around a point in pixels of the image; without one around the middle. */
  zoom(factor, point = null) {
    const { x, y, width, height } = this.area;
    const [px, py] = point ?? [x + width / 2, y + height / 2];
    const next = Math.min(this.view.width, Math.max(this.view.width / CLOSEST, width / factor));
    const share = next / width;
    this.area = { x: px - (px - x) * share, y: py - (py - y) * share, width: next, height: height * share };
    this.update();
  }

  move(dx, dy) {
    this.area = { ...this.area, x: this.area.x + dx, y: this.area.y + dy };
    this.update();
  }

  update() {
    const { width, height } = this.area;
    const x = Math.min(Math.max(this.area.x, 0), this.view.width - width);
    const y = Math.min(Math.max(this.area.y, 0), this.view.height - height);
    this.area = { x, y, width, height };
    this.svg.setAttribute("viewBox", `${x} ${y} ${width} ${height}`);
    this.svg.classList.toggle("zoomed", this.isZoomed);
  }

  get isZoomed() {
    return this.area.width < this.view.width * 0.999;
  }

  /** Pixels of the image per pixel of the screen. */
  get scale() {
    return this.area.width / this.svg.getBoundingClientRect().width;
  }

  pointAt(event) {
    const frame = this.svg.getBoundingClientRect();
    return [this.area.x + (event.clientX - frame.left) * this.scale, this.area.y + (event.clientY - frame.top) * this.scale];
  }

  listen() {
    this.svg.addEventListener("wheel", (event) => this.onWheel(event), { passive: false });
    this.svg.addEventListener("keydown", (event) => this.onKey(event));
    this.svg.addEventListener("pointerdown", (event) => this.onDown(event));
    this.svg.addEventListener("pointermove", (event) => this.onMove(event));
    for (const end of ["pointerup", "pointercancel", "pointerleave"]) {
      this.svg.addEventListener(end, (event) => this.pointers.delete(event.pointerId));
    }
  }

  onWheel(event) {
    if (event.deltaY > 0 && !this.isZoomed) return;
    event.preventDefault();
    this.zoom(event.deltaY < 0 ? STEP : 1 / STEP, this.pointAt(event));
  }

  onKey(event) {
    const { width, height } = this.area;
    if (event.key === "+" || event.key === "=") this.zoom(STEP);
    else if (event.key === "-") this.zoom(1 / STEP);
    else if (event.key === "0") this.showAll();
    else if (event.key in MOVES) this.move((MOVES[event.key][0] * width) / 8, (MOVES[event.key][1] * height) / 8);
    else return;
    event.preventDefault();
  }

  onDown(event) {
    this.pointers.set(event.pointerId, event);
    if (this.isZoomed) this.svg.setPointerCapture(event.pointerId);
  }

  onMove(event) {
    const before = this.pointers.get(event.pointerId);
    if (before === undefined) return;
    const other = [...this.pointers.values()].find((pointer) => pointer.pointerId !== event.pointerId);
    if (other !== undefined) this.zoom(distance(event, other) / distance(before, other), this.pointAt(other));
    else if (this.isZoomed) this.move((before.clientX - event.clientX) * this.scale, (before.clientY - event.clientY) * this.scale);
    this.pointers.set(event.pointerId, event);
  }
}

function distance(first, second) {
  return Math.max(1, Math.hypot(first.clientX - second.clientX, first.clientY - second.clientY));
}

/** Buttons that zoom all of `viewers`. */
export function zoomButtons(viewers) {
  const button = (key, sign, act) => {
    const made = element("button", { type: "button", title: text(key), ariaLabel: text(key) }, sign);
    made.addEventListener("click", () => viewers.forEach(act));
    return made;
  };
  return element(
    "div",
    { className: "zoom" },
    button("zoomIn", "+", (viewer) => viewer.zoom(STEP)),
    button("zoomOut", "−", (viewer) => viewer.zoom(1 / STEP)),
    button("zoomAll", "⤢", (viewer) => viewer.showAll()),
  );
}
