/** The answer: images with what was found, and what is said of them. */
import { byId, element, percent, text } from "./dom.js";
import { factsOf, reasonsOf } from "./facts.js";
import { lesionsOf, sentencesOf, wordsOf } from "./words.js";
import { Viewer, zoomButtons } from "./viewer.js";

const MODES = ["outline", "fill", "probability", "nothing"];
const shown = { mode: "outline", opacity: 0.9 };
let links = [];

/** Show `answer`; `onFrame` asks for another frame, `onClassify` asks hfcn with the outline. */
export function showAnswer(answer, { onFrame, onClassify }) {
  links.forEach(URL.revokeObjectURL);
  const viewers = viewersOf(answer);
  const images = element("div", { className: "images" }, ...viewers.map((viewer) => viewer.element));
  const left = element("div", {}, toolbar(answer, viewers), images, frames(answer, onFrame));
  const right = element("div", {}, ...warnings(answer), ...said(answer, viewers), again(answer, onClassify), downloads(answer));
  byId("result").replaceChildren(element("div", { className: "answer" }, left, right));
}

function viewersOf(answer) {
  const several = answer.views.filter((view) => view.is === undefined).length > 1;
  return answer.views.map((view, index) => {
    const caption = view.is ? text(view.is) : several ? text("view", { number: index + 1 }) : null;
    const boxes = index === 0 ? (answer.entry.boxes ?? []) : [];
    return new Viewer(view, { number: index + 1, caption, boxes });
  });
}

function said(answer, viewers) {
  if (answer.entry.class !== undefined) return reasonsOf(answer.entry);
  if (answer.entry.sentences !== undefined) return [...sentencesOf(answer, viewers), ...lesionsOf(answer.entry)];
  return [...factsOf(answer), ...wordsOf(answer, viewers)];
}

function warnings({ entry, fault }) {
  const told = [
    entry.warning && text("unfamiliar"),
    entry.report_doubt && text("reportDoubt"),
    "burned_in_text" in entry && entry.burned_in_text !== false && text("burned"),
    fault && text("noObjects", { reason: fault }),
  ];
  const lines = told.filter(Boolean).map((line) => element("p", { className: "warning" }, line));
  if (entry.familiarity === undefined) return lines;
  const share = element("strong", {}, percent(entry.familiarity));
  const hint = element("p", { className: "hint" }, `${text("familiarity")}: `, share, ` (${text("familiarityHint")})`);
  return [...lines, hint];
}

function toolbar(answer, viewers) {
  const layered = answer.views.some((view) => view.outline) || answer.views.some((view) => view.probability);
  const choices = MODES.filter((mode) => mode !== "probability" || answer.views[0].probability);
  const apply = () => viewers.forEach((viewer) => (viewer.showAs(shown.mode), (viewer.opacity = shown.opacity)));
  if (!choices.includes(shown.mode)) shown.mode = "outline";
  apply();
  return element("div", { className: "toolbar" }, zoomButtons(viewers), opacity(apply), layered ? modes(choices, apply) : null);
}

function modes(choices, apply) {
  const options = choices.map((mode) => {
    const input = element("input", { type: "radio", name: "mode", value: mode, checked: mode === shown.mode });
    input.addEventListener("change", () => ((shown.mode = mode), apply()));
    return element("label", {}, input, element("span", {}, text(mode)));
  });
  return element("fieldset", { className: "modes" }, element("legend", { className: "hidden" }, text("show")), ...options);
}

function opacity(apply) {
  const slider = element("input", { type: "range", min: 0, max: 1, step: 0.05, value: shown.opacity });
  slider.addEventListener("input", () => ((shown.opacity = Number(slider.value)), apply()));
  return element("label", { className: "slider" }, element("span", {}, text("opacity")), slider);
}

function frames({ frame, frames: count }, onFrame) {
  if (count < 2) return null;
  const told = element("span", {}, text("frame", { frame, frames: count }));
  const slider = element("input", { type: "range", min: 1, max: count, step: 1, value: frame, id: "frame" });
  slider.addEventListener("input", () => (told.textContent = text("frame", { frame: slider.value, frames: count })));
  slider.addEventListener("change", () => onFrame(Number(slider.value)));
  return element("label", { className: "slider" }, told, slider);
}

function again(answer, onClassify) {
  const mask = answer.files.find((file) => file.name.endsWith("_mask.png"));
  if (onClassify === null || mask === undefined || answer.frames > 1 || !answer.entry.nodule_area_share) return null;
  const button = element("button", { type: "button" }, text("classify"));
  button.addEventListener("click", () => onClassify(new File([bytesOf(mask)], mask.name, { type: mask.type })));
  return element("p", {}, button);
}

function downloads({ files }) {
  links = files.map((file) => URL.createObjectURL(new Blob([bytesOf(file)], { type: file.type })));
  const items = files.map(({ name }, index) => element("li", {}, element("a", { href: links[index], download: name }, name)));
  return element("section", {}, element("h3", {}, text("downloads")), element("ul", { className: "files" }, ...items));
}

function bytesOf({ content }) {
  return Uint8Array.from(atob(content), (character) => character.charCodeAt(0));
}
