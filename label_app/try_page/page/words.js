/** Texts that light up where they look: words of a given report, sentences of a generated one. */
import { element, percent, text, withArrows } from "./dom.js";

/** The given report, its words shaded by the probability that they are about this image. */
export function wordsOf({ entry, attention }, viewers) {
  if (!entry.words?.length) return [];
  const strongest = Math.max(...entry.words.map((word) => word.probability));
  const buttons = entry.words.map((word) => lit("word", word.word, word.probability / strongest, word.probability));
  choosable(buttons, (index) => viewers[0].showHeat(index === null ? null : (attention[index][0] ?? null)));
  const sentence = element("p", {}, `${text("sentence")}: `, element("em", {}, entry.sentence ?? ""));
  const hint = element("p", { className: "hint" }, text("wordsHint"));
  return [element("h3", {}, text("words")), sentence, hint, element("p", { className: "report" }, ...between(entry, buttons))];
}

/** The report's characters with a button in the place of each word; places count characters, not half ones. */
function between({ report, words }, buttons) {
  const characters = Array.from(report);
  const parts = [];
  let end = 0;
  words.forEach((word, index) => {
    parts.push(characters.slice(end, word.start).join(""), buttons[index]);
    end = word.end;
  });
  return [...parts, characters.slice(end).join("")];
}

/** The generated report, a button for each sentence, and below what is to be said of the chosen one. */
export function sentencesOf(answer, viewers) {
  const { sentences } = answer.entry;
  const said = element("p", { className: "looks", role: "status" });
  const buttons = sentences.map((told) => lit("sentence", told.text, Math.max(0, 2 * told.probability - 1), told.probability));
  choosable(buttons, (index) => {
    lightUp(index === null ? null : { maps: answer.attention[index], boxes: answer.lit[index] }, viewers);
    said.textContent = index === null ? "" : looksOf(answer, index);
  });
  const marks = sentences.flatMap((told) => marksOf(told).map((line) => element("p", { className: "warning" }, line)));
  const report = element("p", { className: "report" }, ...buttons);
  const hint = element("p", { className: "hint" }, text("sentencesHint"));
  return [element("h3", {}, text("sentences")), hint, report, said, ...marks];
}

function lightUp(chosen, viewers) {
  viewers.forEach((viewer, index) => viewer.showHeat(chosen?.maps[index] ?? null));
  viewers[0].showShares(chosen?.boxes ?? []);
}

function looksOf({ entry, attention, lit: boxes }, index) {
  const numbers = boxes[index].flatMap((share, box) => (share > 0 ? [`${box + 1} (${nameOf(entry.boxes[box])})`] : []));
  const named = numbers.length ? text("names", { numbers: numbers.join(", ") }) : null;
  const looks = attention[index].some(Boolean) ? text("looks") : text("everywhere");
  return [named, looks].filter(Boolean).join(" ");
}

function marksOf({ unseen = [], denied_but_seen: denied = [], doubtful = false, right = 0 }) {
  const marks = doubtful ? [text("doubtful", { share: `${Math.round(100 * right)} %` })] : [];
  if (unseen.length) marks.push(text("unseen", { names: unseen.join(", ") }));
  if (denied.length) marks.push(text("denied", { names: denied.join(", ") }));
  return marks;
}

/** The detector's boxes, and those that no sentence speaks of. */
export function lesionsOf({ boxes, unreported = [] }) {
  if (boxes === undefined) return [];
  const title = element("h3", {}, text("lesions"));
  if (boxes.length === 0) return [title, element("p", {}, text("noLesions"))];
  const head = ["#", text("lesion"), text("score"), text("size")].map((name) => element("th", { scope: "col" }, name));
  const rows = boxes.map((box, index) => {
    const cells = [String(index + 1), nameOf(box), box.score.toFixed(2), sizeOf(box)];
    return element("tr", {}, ...cells.map((cell) => element("td", {}, cell)));
  });
  const table = element("table", {}, element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...rows));
  const mark = unreported.length ? element("p", { className: "warning" }, text("unreported", { names: unreported.join(", ") })) : null;
  return [title, table, mark].filter(Boolean);
}

function nameOf(box) {
  return box.label || text("lesion");
}

function sizeOf({ box, width_mm: width, height_mm: height }) {
  return width ? `${width} × ${height} mm` : `${Math.round(box[2])} × ${Math.round(box[3])} px`;
}

/** A button of a text with a background as strong as `shade`, in [0, 1]. */
function lit(kind, content, shade, probability) {
  const button = element("button", { type: "button", className: kind, ariaPressed: "false" }, content);
  button.title = percent(probability);
  button.ariaDescription = percent(probability);
  button.style.setProperty("--shade", `${Math.round(100 * shade)}%`);
  return button;
}

/** Let one of `buttons` be chosen, and let go of; `onChosen` gets its index or null. */
function choosable(buttons, onChosen) {
  withArrows(buttons);
  buttons.forEach((button, index) =>
    button.addEventListener("click", () => {
      const chosen = button.ariaPressed === "false";
      for (const other of buttons) other.ariaPressed = "false";
      button.ariaPressed = String(chosen);
      onChosen(chosen ? index : null);
    }),
  );
}
