/**
 * Metrics of answers: SQuAD, TriviaQA, CoQA, spans, and the groups of MultiRC and ReCoRD.
 *
 * Sources: t5.evaluation.metrics and qa_utils (t5 0.9.4), after the official scripts. Figures are times 100. The best reference counts.
 */
import { accuracy, allMatch, f1WithInvalid } from './classification.ts';
import { ASCII_PUNCTUATION, parseIntegerLikePython, splitWords, WORD_CHARACTERS } from './python-text.ts';
import { checkPaired, meanScorer, selectionScorer, type Metric, type Scorer, type Scores } from './scorer.ts';

const ARTICLE = new RegExp(`(?<![${WORD_CHARACTERS}])(?:a|an|the)(?![${WORD_CHARACTERS}])`, 'gu');

function normalizeAnswer(text: string, punctuation: ReadonlySet<string>, replacement: string): string {
  const plain = Array.from(text.toLowerCase(), (character) =>
    punctuation.has(character) ? replacement : character,
  ).join('');
  return splitWords(plain.replace(ARTICLE, ' ')).join(' ');
}

const SQUAD_PUNCTUATION = new Set(ASCII_PUNCTUATION);
const TRIVIA_QA_PUNCTUATION = new Set(`${ASCII_PUNCTUATION}‘’´\`_`);

/** Lower case, without ASCII punctuation, articles and extra white space. t5 `normalize_squad`. */
export function normalizeSquad(text: string): string {
  return normalizeAnswer(text, SQUAD_PUNCTUATION, '');
}

/** As `normalizeSquad`, with a space for each punctuation mark, curly quotes included. t5 `normalize_trivia_qa`. */
export function normalizeTriviaQa(text: string): string {
  return normalizeAnswer(text, TRIVIA_QA_PUNCTUATION, ' ');
}

/** F1 of two bags of words, as a fraction; 0 without a common word. */
function wordF1(target: string, prediction: string): number {
  const wanted = splitWords(target);
  const found = splitWords(prediction);
  const left = new Map<string, number>();
  for (const word of wanted) left.set(word, (left.get(word) ?? 0) + 1);
  let common = 0;
  for (const word of found) {
    const count = left.get(word) ?? 0;
    if (count === 0) continue;
    left.set(word, count - 1);
    common++;
  }
  if (common === 0) return 0;
  const precision = common / found.length;
  const recall = common / wanted.length;
  return (2 * precision * recall) / (precision + recall);
}

function bestOf(references: readonly string[], score: (reference: string) => number): number {
  return references.reduce((best, reference) => Math.max(best, score(reference)), 0);
}

/** Exact match and F1 of one answer, as fractions. */
function answerScores(
  references: readonly string[],
  prediction: string,
  normalize: (text: string) => string,
): [number, number] {
  const normal = normalize(prediction);
  const wanted = references.map(normalize);
  return [wanted.includes(normal) ? 1 : 0, bestOf(wanted, (reference) => wordF1(reference, normal))];
}

function answerMetric(name: string, normalize: (text: string) => string): Metric<readonly string[], string> {
  return (targets, predictions) => {
    checkPaired(name, targets, predictions);
    const rows = targets.map((references, at) => answerScores(references, predictions[at]!, normalize));
    return meanScorer(['em', 'f1'], rows, 100);
  };
}

/** `em` and `f1` of SQuAD v1.1. Two empty answers match exactly and have F1 0. */
export const squad = answerMetric('squad', normalizeSquad);
export const triviaQa = answerMetric('trivia_qa', normalizeTriviaQa);

/** Share of texts that equal one of their answers, character by character, times 100: KILT's accuracy. */
export const acceptedAnswer: Metric<readonly string[], string> = (targets, predictions) => {
  checkPaired('accepted_answer', targets, predictions);
  const rows = targets.map((references, at) => [references.includes(predictions[at]!) ? 1 : 0]);
  return meanScorer(['accuracy'], rows, 100);
};

/** `f1` of CoQA: SQuAD's, with 1 for two empty answers. */
export const coqaF1: Metric<readonly string[], string> = (targets, predictions) => {
  checkPaired('coqa_f1', targets, predictions);
  const rows = targets.map((references, at) => {
    const normal = normalizeSquad(predictions[at]!);
    return [
      bestOf(references.map(normalizeSquad), (reference) =>
        reference === '' || normal === '' ? Number(reference === normal) : wordF1(reference, normal),
      ),
    ];
  });
  return meanScorer(['f1'], rows, 100);
};

/** Answers with the text that a span of words is cut from. */
export interface SpanTarget {
  readonly answers: readonly string[];
  readonly context: string;
}

/** SQuAD's scores of predictions that name places of words: `start: 3 end: 5`, both included. t5 `span_squad`. */
export const spanSquad: Metric<SpanTarget, string> = (targets, predictions) => {
  checkPaired('span_squad', targets, predictions);
  return squad(
    targets.map((target) => target.answers),
    targets.map((target, at) => spanText(target.context, predictions[at]!)),
  );
};

const NO_WORD_CHARACTER = new RegExp(`[^${WORD_CHARACTERS}]`, 'gu');

function bareWords(text: string): string[] {
  return splitWords(text.replace(NO_WORD_CHARACTER, ' '));
}

/** The words that a span names by its second and fourth word; the empty text where these are no numbers. */
function spanText(context: string, span: string): string {
  const [, start = '', , end = ''] = bareWords(span);
  const first = parseIntegerLikePython(start);
  const last = parseIntegerLikePython(end);
  return first === undefined || last === undefined
    ? ''
    : bareWords(context)
        .slice(first, last + 1)
        .join(' ');
}

/** A value with the group that it is judged in. A group is a question, or a passage and query. */
export interface Grouped<Value> {
  readonly value: Value;
  readonly group: number | string | readonly (number | string)[];
}

/** Indices of the examples of each group, groups in the order of their first example. */
function groupsOf(targets: readonly Grouped<unknown>[]): { keys: string[]; members: number[][] } {
  const members = new Map<string, number[]>();
  targets.forEach(({ group }, at) => {
    const key = typeof group === 'object' ? JSON.stringify(group) : String(group);
    const known = members.get(key);
    if (known === undefined) members.set(key, [at]);
    else known.push(at);
  });
  return { keys: [...members.keys()], members: [...members.values()] };
}

/** Mean over groups of the accuracy in a group, and each group's own as `<group>-accuracy`. Units are groups. t5 `mean_group_metric(accuracy)`. */
export function meanGroupAccuracy(
  targets: readonly Grouped<number>[],
  predictions: readonly { readonly value: number }[],
): Scorer {
  checkPaired('mean_group_metric', targets, predictions);
  const { keys, members } = groupsOf(targets);
  const scores = members.map(
    (group) =>
      accuracy(
        group.map((at) => targets[at]?.value ?? NaN),
        group.map((at) => predictions[at]?.value ?? NaN),
      ).score()['accuracy'] ?? NaN,
  );
  return selectionScorer(members.length, (units) => {
    const selected = Array.from(units);
    return {
      accuracy: selected.reduce((sum, unit) => sum + scores[unit]!, 0) / selected.length,
      ...Object.fromEntries(selected.map((unit) => [`${keys[unit] ?? ''}-accuracy`, scores[unit] ?? NaN])),
    };
  });
}

/** MultiRC: `f1` over all answers, `exact_match`: share of questions with each answer right. Units are questions. */
export function multiRc(
  targets: readonly Grouped<number>[],
  predictions: readonly { readonly value: number }[],
): Scorer {
  checkPaired('multirc', targets, predictions);
  const { members } = groupsOf(targets);
  const wanted = targets.map(({ value }) => value);
  const predicted = predictions.map(({ value }) => value);
  return selectionScorer(members.length, (units): Scores => {
    const groups = Array.from(units, (unit) => members[unit]!);
    const pick = (values: readonly number[], group: readonly number[]): number[] => group.map((at) => values[at]!);
    const answers = groups.flat();
    const allRight = groups.map(
      (group) => allMatch(pick(wanted, group), pick(predicted, group)).score()['exact_match'] ?? 0,
    );
    return {
      ...f1WithInvalid(pick(wanted, answers), pick(predicted, answers)).score(),
      exact_match: allRight.reduce((sum, one) => sum + one, 0) / allRight.length,
    };
  });
}

/** ReCoRD: SQuAD's scores of the first example of each [passage, query]. t5 `deduplicate_metric(squad)`. */
export function record(
  targets: readonly Grouped<readonly string[]>[],
  predictions: readonly { readonly value: string }[],
): Scorer {
  checkPaired('record', targets, predictions);
  const first = groupsOf(targets).members.map(([at = 0]) => at);
  return squad(
    first.map((at) => targets[at]?.value ?? []),
    first.map((at) => predictions[at]?.value ?? ''),
  );
}
