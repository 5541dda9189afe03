/** What is said in numbers: sizes of an outline, and why a nodule is called benign or malignant. */
import { element, percent, text } from "./dom.js";

/** Of an outline its share of the image, sizes, confidence and how well the report fits. */
export function factsOf({ entry, size_px: pixels }) {
  if (!entry.nodule_area_share) return [element("p", { className: "verdict" }, text("noNodule"))];
  const size = (key) => (entry[`${key}_mm`] ? `${entry[`${key}_mm`]} mm` : `${Math.round(pixels[`${key}_px`])} px`);
  const area = entry.area_mm2 ? `${entry.area_mm2} mm²` : `${pixels.area_px} px²`;
  const rows = [
    row("area", text("ofImage", { share: percent(entry.nodule_area_share) })),
    row("areaSize", area),
    row("longAxis", size("long_axis")),
    row("shortAxis", size("short_axis")),
    row("confidence", entry.confidence.toFixed(2), "confidenceHint"),
    typeof entry.expected_dice === "number" ? row("expectedDice", entry.expected_dice.toFixed(2), "expectedDiceHint") : null,
    typeof entry.report_fit === "number" ? row("fit", entry.report_fit.toFixed(2), "fitHint") : null,
  ];
  return [element("dl", {}, ...rows)];
}

function row(key, value, hint = null) {
  const note = hint && element("span", { className: "hint" }, text(hint));
  return element("div", {}, element("dt", {}, text(key)), element("dd", {}, value, note));
}

/** Of a class the verdict, and what each branch says. */
export function reasonsOf(entry) {
  const label = text(entry.class);
  const verdict = element("p", { className: `verdict ${entry.class}` }, entry.unsure ? text("unsure", { label }) : label);
  const threshold = element("p", { className: "hint" }, text("threshold", { value: entry.threshold.toFixed(2) }));
  const calibrated = typeof entry.prob_calibrated === "number" ? bar("calibrated", entry.prob_calibrated) : null;
  const branches = [
    bar("global", entry.prob_global),
    bar("crops", entry.prob_crops),
    entry.prob_mask === null ? row("maskBranch", text("noMaskBranch")) : bar("maskBranch", entry.prob_mask),
  ];
  return [
    verdict,
    element("dl", {}, bar("prob", entry.prob, entry.threshold), calibrated),
    threshold,
    element("h3", {}, text("reasons")),
    element("dl", {}, ...branches),
  ];
}

/** A probability as a number and a bar, on which a threshold may be marked. */
function bar(key, value, threshold = null) {
  const filled = element("span", { className: "filled" });
  filled.style.width = `${100 * value}%`;
  const mark = threshold === null ? null : element("span", { className: "mark" });
  if (mark) mark.style.left = `${100 * threshold}%`;
  const drawn = element("span", { className: "bar", ariaHidden: "true" }, filled, mark);
  return element("div", {}, element("dt", {}, text(key)), element("dd", {}, value.toFixed(2), drawn));
}
