/** Derivations that write structures as text: triples, table cells, dialogue acts, slots, one element of a list. */
import { isRecord } from './column-type.ts';
import {
  asInteger,
  asList,
  asText,
  integerAt,
  listAt,
  rootsOf,
  structsAt,
  textAt,
  textDerivation,
  textsAt,
  valueAt,
  type Derivation,
} from './derivation.ts';

/** The element of a list of texts; another column holds its index. */
export function chosen(listPath: string, indexPath: string): Derivation {
  return {
    identity: { step: 'chosen', version: 1, listPath, indexPath },
    words: `element ${indexPath} of ${listPath}`,
    columns: rootsOf([listPath, indexPath]),
    derive(fields) {
      const texts = textsAt(fields, listPath);
      const index = integerAt(fields, indexPath);
      const text = texts[index];
      return text === undefined
        ? { ok: false, reason: `column "${indexPath}": expected 0 to ${texts.length - 1}, found ${index}` }
        : { ok: true, text };
    },
  };
}

/** A list of lists of texts: `a | b | c && d | e | f`. */
export function triples(path: string): Derivation {
  return textDerivation(
    { step: 'triples', version: 1, path },
    `${path} as subject | relation | object, joined by " && "`,
    [path],
    (fields) =>
      listAt(fields, path)
        .map((triple) =>
          asList(triple, path)
            .map((part) => asText(part, path))
            .join(' | '),
        )
        .join(' && '),
  );
}

/** The cells of a table at [row, column] pairs: `a | b`. */
export function highlightedCells(tablePath: string, cellsPath: string): Derivation {
  return {
    identity: { step: 'highlightedCells', version: 1, tablePath, cellsPath },
    words: `the cells of ${tablePath} at ${cellsPath}, joined by " | "`,
    columns: [tablePath, cellsPath],
    derive(fields) {
      const rows = listAt(fields, tablePath);
      const texts: string[] = [];
      for (const pair of listAt(fields, cellsPath)) {
        const [row = -1, column = -1] = asList(pair, cellsPath).map((value) => asInteger(value, cellsPath));
        const cell = asList(rows[row], tablePath)[column];
        if (!isRecord(cell))
          return {
            ok: false,
            reason: `column "${cellsPath}": expected cells of ${tablePath}, found [${row}, ${column}]`,
          };
        texts.push(textAt(cell, 'value'));
      }
      return { ok: true, text: texts.join(' | ') };
    },
  };
}

/** Dialogue acts of the schema-guided set: `INFORM(date=today) REQUEST(time)`. */
export function dialogueActs(path: string, actNames: readonly string[]): Derivation {
  return {
    identity: { step: 'dialogueActs', version: 1, path, actNames: [...actNames] },
    words: `${path} as ACT(slot=value, value)`,
    columns: [path],
    derive(fields) {
      const texts: string[] = [];
      for (const act of structsAt(fields, path)) {
        const name = actNames[integerAt(act, 'act')];
        if (name === undefined)
          return {
            ok: false,
            reason: `column "${path}": unknown act ${String(act['act'])}; expected 0 to ${actNames.length - 1}`,
          };
        const values = textsAt(act, 'values').join(', ');
        texts.push(`${name}(${textAt(act, 'slot')}${values === '' ? '' : `=${values}`})`);
      }
      return { ok: true, text: texts.join(' ') };
    },
  };
}

/**
 * Slots of the span-extraction sets restaurant8k and DSTC8: `people: four, time: 7 pm`, or `none`. A label names a slot
 * and a range of characters of the text. A range that starts at 0 has no startIndex.
 */
export function slotValues(textPath: string, labelsPath: string): Derivation {
  return {
    identity: { step: 'slotValues', version: 1, textPath, labelsPath },
    words: `${labelsPath} as "slot: text of its span", joined by ", ", or none`,
    columns: rootsOf([textPath, labelsPath]),
    derive(fields) {
      const text = textAt(fields, textPath);
      const slots: string[] = [];
      for (const label of structsAt(fields, labelsPath)) {
        const from = asInteger(valueAt(label, 'valueSpan.startIndex') ?? 0, labelsPath);
        const to = integerAt(label, 'valueSpan.endIndex');
        if (from < 0 || to <= from || to > text.length)
          return {
            ok: false,
            reason: `column "${labelsPath}": expected a span inside the ${text.length} characters of ${textPath}, found ${from} to ${to}`,
          };
        slots.push(`${textAt(label, 'slot')}: ${text.slice(from, to)}`);
      }
      return { ok: true, text: slots.join(', ') || 'none' };
    },
  };
}
